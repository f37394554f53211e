"""Every test sees two CPU devices, so that sharding is exercised; set before JAX starts.

Programs here are tiny and compiling them is what takes time, so LLVM's optimisations are off.
"""

import os
import pathlib

import hypothesis
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


# No test fails because a processor is slow or busy: by default Hypothesis takes 200 ms for an example as a failure.
hypothesis.settings.register_profile(
    "any_processor", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("any_processor")

_skipped: list[str] = []


def pytest_collectreport(report):
    if report.skipped:  # a whole file
        _skipped.append(report.nodeid)


def pytest_runtest_logreport(report):
    if report.skipped and not hasattr(report, "wasxfail"):
        _skipped.append(report.nodeid)


def pytest_sessionfinish():
    """`CM3LEON_SKIPPED=FILE` keeps the ids of what was skipped, one a line, as `pytest @FILE` reads them."""
    if file := os.environ.get("CM3LEON_SKIPPED"):
        pathlib.Path(file).write_text("".join(f"{id}\n" for id in _skipped))


@pytest.fixture
def bucket(tmp_path, monkeypatch):
    """A folder that stands in for `gs://bucket`, below the path library that reaches real ones. It cannot append.

    It is reached through fsspec, as where TensorFlow is missing."""
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


@pytest.fixture
def bucket_by_tensorflow(tmp_path, monkeypatch):
    """The same, reached through TensorFlow, as it is in a complete installation."""
    import tensorflow as tf
    from etils.epath import gpath

    store = tmp_path / "store"
    store.mkdir()

    def there(value):
        return value.replace("gs://bucket", str(store)) if isinstance(value, str) else value

    def back(value):
        return value.replace(str(store), "gs://bucket") if isinstance(value, str) else value

    class Gfile:
        def __getattr__(self, name):
            def call(*arguments, **options):
                found = getattr(tf.io.gfile, name)(*map(there, arguments), **options)
                return [back(each) for each in found] if isinstance(found, list) else found

            return call

    monkeypatch.setattr(type(gpath.backend_lib.tf_backend), "gfile", Gfile())
    monkeypatch.setattr(gpath, "_is_zonal_gcs_bucket", lambda name: False)
    return store
