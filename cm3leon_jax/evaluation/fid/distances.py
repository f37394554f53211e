"""Generated images against reference images by one feature network: FID, or CLIP-FD and CMMD.

As it is usually done on COCO: 30,000 captions of the validation split, one generated image for each, and the split's
images as references, cropped to a square and resized to the generated images' size. Papers differ in the references
(all of the split, or those of the 30,000 captions) and in how they are resized; only numbers with the same compare.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator

import numpy as np

from cm3leon_jax.evaluation.fid.features import BATCH_SIZE, features_of
from cm3leon_jax.evaluation.fid.frechet import frechet_distance
from cm3leon_jax.evaluation.fid.mmd import cmmd
from cm3leon_jax.evaluation.fid.networks import CLIP, FeatureNetwork
from cm3leon_jax.evaluation.fid.resampling import cmmd_draws, frechet_draws, interval
from cm3leon_jax.evaluation.fid.statistics import FeatureStatistics, Origin
from cm3leon_jax.runtime.errors import UserError

NAMES = {"inception": "FID", "clip": "CLIP-FD"}
CMMD = "CMMD"


@dataclasses.dataclass(frozen=True)
class DistanceConfig:
    batch_size: int = BATCH_SIZE  # images
    draws: int = 100  # resamples for the intervals, a few seconds each for FID of 30,000 images; 0: no intervals
    kept_bytes: int = 1 << 30  # of each set's features; larger sets are streamed, without intervals and CMMD
    unbiased: bool = False  # CMMD without the pairs of an image with itself, other than the published code
    seed: int = 0  # of the resamples

    def __post_init__(self) -> None:
        if self.batch_size < 1 or self.draws < 0 or self.draws == 1 or self.kept_bytes < 0:
            raise UserError(
                "distances need a batch_size of 1 or more, draws of 0 or 2 or more, kept_bytes of 0 or more"
            )


@dataclasses.dataclass(frozen=True)
class Distance:
    """`low` and `high`: the 95% interval, None where features were not kept or not resampled."""

    name: str
    value: float
    low: float | None
    high: float | None
    references: int  # images; 0 where a file does not say it
    generated: int

    def to_dict(self) -> dict:
        return dataclasses.asdict(self)


class _Kept:
    """The features of a set, as long as they take no more than so many bytes."""

    def __init__(self, limit: int):
        self._parts: list[np.ndarray] = []
        self._room = limit

    def add(self, features: np.ndarray) -> None:
        self._room -= features.nbytes
        if self._room >= 0:
            self._parts.append(features)
        else:
            self._parts = []

    @property
    def features(self) -> np.ndarray | None:
        return np.concatenate(self._parts) if self._parts else None


def distances(
    references: Iterable[np.ndarray] | FeatureStatistics,
    generated: Iterable[np.ndarray],
    network: FeatureNetwork,
    config: DistanceConfig | None = None,
    *,
    counts: tuple[int | None, int | None] = (None, None),
) -> list[Distance]:
    """The Fréchet distance and, for CLIP with reference images, CMMD.

    Both sets: uint8 images [H, W, 3], or batches of them, all of one size; of the references, saved statistics will do
    for the Fréchet distance. `counts`: how many images the two have, for the progress bars. Generated images are seen
    once, so drawing them may go on meanwhile. Raises `UserError`, of statistics of something else before any image is
    looked at.
    """
    config = config or DistanceConfig()
    seen = network.name == CLIP
    reference_features, generated_features = _Kept(config.kept_bytes if seen else 0), _Kept(config.kept_bytes)
    if isinstance(references, FeatureStatistics):
        reference = references
        reference.check_comparable(Origin(network.name, network.fingerprint), network.dim)
    else:
        reference = FeatureStatistics(network.dim)
        for features in _features(references, network, reference, config, "references", counts[0]):
            reference_features.add(features)
    statistics = FeatureStatistics(network.dim, dataclasses.replace(reference.origin))
    for features in _features(generated, network, statistics, config, "generated images", counts[1]):
        generated_features.add(features)
    counted = reference.count, statistics.count
    kept, kept_references = generated_features.features, reference_features.features
    value = frechet_distance(reference, statistics)
    draws = (
        frechet_draws(reference, kept, config.draws, seed=config.seed) if config.draws and kept is not None else None
    )
    found = [_distance(NAMES.get(network.name, f"FD ({network.name})"), value, draws, counted)]
    if kept is not None and kept_references is not None:
        value = cmmd(kept_references, kept, unbiased=config.unbiased)
        draws = None
        if config.draws:
            draws = cmmd_draws(kept_references, kept, config.draws, unbiased=config.unbiased, seed=config.seed)
        found.append(_distance(CMMD, value, draws, counted))
    return found


def _features(
    images: Iterable[np.ndarray],
    network: FeatureNetwork,
    statistics: FeatureStatistics,
    config: DistanceConfig,
    label: str,
    total: int | None,
) -> Iterator[np.ndarray]:
    return features_of(images, network, statistics=statistics, batch_size=config.batch_size, label=label, total=total)


def _distance(name: str, value: float, draws: np.ndarray | None, counts: tuple[int, int]) -> Distance:
    low, high = (None, None) if draws is None else interval(value, draws)
    return Distance(name, value, low, high, *counts)
