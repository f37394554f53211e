"""Every test sees two CPU devices, so that sharding is exercised; set before JAX starts.

Programs here are tiny and compiling them is what takes time, so LLVM's optimisations are off.
"""

import os

import pytest

from cm3leon_jax.runtime.platform import has_accelerator

os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_force_host_platform_device_count=2"
    " --xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true",
)
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
if not has_accelerator():
    os.environ["JAX_PLATFORMS"] = "cpu"  # else each process that a test starts would look for a TPU with libtpu


@pytest.fixture
def bucket(tmp_path, monkeypatch):
    """A folder that stands in for `gs://bucket`, below the path library that reaches real ones. It cannot append."""
    from etils.epath import gpath
    from fsspec.implementations.local import LocalFileSystem

    store = tmp_path / "store"
    store.mkdir()

    class Store(LocalFileSystem):
        cachable = False

        @classmethod
        def _strip_protocol(cls, path):
            return os.fspath(path).replace("gs://bucket", str(store)).rstrip("/")

        def open(self, path, mode="rb", **options):
            assert "a" not in mode
            return super().open(path, mode, **options)

    monkeypatch.setattr(gpath, "_is_tf_installed", lambda: False)
    monkeypatch.setattr(gpath.backend_lib.fsspec_backend, "_get_filesystem", lambda name: Store(auto_mkdir=True))
    return store
