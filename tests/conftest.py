"""Every test sees two CPU devices, so that sharding is exercised; set before JAX starts.

Programs here are tiny and compiling them is what takes time, so LLVM's optimisations are off.
"""

import os

os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_force_host_platform_device_count=2"
    " --xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true",
)
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
