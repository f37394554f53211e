"""Statistics of features as pytorch-fid keeps them: an `.npz` with `mu` and `sigma`.

Ours say besides of how many images (`count`) and what size (`resolution`) they are, and which network (`network`) with
which weights (`fingerprint`) saw them. pytorch-fid reads them, and its files are read here.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping

import numpy as np

from cm3leon_jax.evaluation.fid.statistics import FeatureStatistics, Origin
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.runtime.files import Path, open_to_read, written_aside

_AGAIN = "compute them again, or take a file of pytorch-fid"


def save_statistics(path: Path, statistics: FeatureStatistics) -> None:
    """Writes the file, whole or not at all; loaded, it goes on where it was, up to rounding."""
    origin = statistics.origin
    one = statistics.count == 1  # whose covariance is not defined, while the state is
    arrays = {
        "mu": statistics.mean,
        "sigma": np.zeros((statistics.dim, statistics.dim)) if one else statistics.covariance,
        "count": np.int64(statistics.count),
        "network": np.str_(origin.network),
        "fingerprint": np.str_(origin.fingerprint),
        "resolution": np.array(origin.resolution, np.int64),
    }
    with written_aside(path) as aside, open(aside, "wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


def load_statistics(path: Path) -> FeatureStatistics:
    """A file that `save_statistics` or pytorch-fid wrote. Raises `UserError`."""
    try:
        with open_to_read(path) as file, np.load(file, allow_pickle=False) as arrays:
            return _statistics({name: arrays[name] for name in arrays.files})
    except FileNotFoundError:
        raise UserError(f"no statistics at {path}; name the .npz file of a set of images") from None
    except (
        OSError,
        ValueError,
        TypeError,
        EOFError,
        KeyError,
        AttributeError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"statistics at {path} cannot be read ({reason}); {_AGAIN}") from None


def _statistics(arrays: Mapping[str, np.ndarray]) -> FeatureStatistics:
    """Raises `ValueError` or `KeyError`, of one line."""
    mean, covariance = arrays["mu"], arrays["sigma"]
    if mean.ndim != 1 or covariance.shape != (len(mean), len(mean)):
        raise ValueError(f"mu is {list(mean.shape)} and sigma {list(covariance.shape)}")
    if mean.dtype.kind != "f" or covariance.dtype.kind != "f":
        raise ValueError(f"mu and sigma are {mean.dtype} and {covariance.dtype}")
    if not np.isfinite(mean).all() or not np.isfinite(covariance).all():
        raise ValueError("they are not finite")
    origin = Origin(
        str(arrays.get("network", "")),
        str(arrays.get("fingerprint", "")),
        tuple(int(side) for side in np.ravel(arrays.get("resolution", ()))),
    )
    count = int(arrays.get("count", 0))
    if count < 0:
        raise ValueError(f"their count is {count}")
    return FeatureStatistics.of_moments(mean, covariance, count, origin)
