"""Images, in whatever pieces they come -> features, batch by batch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from cm3leon_jax.evaluation.fid.networks import FeatureNetwork
from cm3leon_jax.evaluation.fid.statistics import FeatureStatistics, Origin
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.runtime.progress import progress

BATCH_SIZE = 64


def features_of(
    images: Iterable[np.ndarray],
    network: FeatureNetwork,
    *,
    statistics: FeatureStatistics | None = None,
    batch_size: int = BATCH_SIZE,
    label: str = "features",
    total: int | None = None,
) -> Iterator[np.ndarray]:
    """Images uint8 [H, W, 3] or batches of them [N, H, W, 3] -> features float32 [n, dim] with n <= `batch_size`.

    What is given back was added to `statistics`, which also learns the images' size. `total`: the number of images,
    for the progress bar. Raises `UserError` where images differ in size, or from those of `statistics`.
    """
    with progress(label=label, total=total, unit="images") as bar:
        for batch in batches_of(images, batch_size):
            features = network(batch)
            if statistics is not None:
                origin = origin_of(network, batch)
                statistics.origin.check_comparable(origin)
                statistics.origin = statistics.origin.known_from(origin)
                statistics.update(features)
            bar.update(len(batch))
            yield features


def statistics_of(
    images: Iterable[np.ndarray],
    network: FeatureNetwork,
    *,
    batch_size: int = BATCH_SIZE,
    label: str = "features",
    total: int | None = None,
) -> FeatureStatistics:
    """The statistics of all features, in the memory of one batch. Raises `UserError` as `features_of` does."""
    statistics = FeatureStatistics(network.dim)
    for _ in features_of(images, network, statistics=statistics, batch_size=batch_size, label=label, total=total):
        pass
    return statistics


def origin_of(network: FeatureNetwork, batch: np.ndarray) -> Origin:
    return Origin(network.name, network.fingerprint, batch.shape[1:3])


def batches_of(images: Iterable[np.ndarray], batch_size: int) -> Iterator[np.ndarray]:
    """Images or batches of any sizes -> batches of `batch_size`, the last one smaller. Raises `UserError`."""
    kept: list[np.ndarray] = []
    count, size = 0, None
    for part in images:
        part = np.asarray(part)
        part = part[None] if part.ndim == 3 else part
        if part.dtype != np.uint8 or part.ndim != 4 or part.shape[-1] != 3:
            raise UserError(f"images are {part.dtype} {list(part.shape)}; give uint8 [height, width, 3], red first")
        size = size or part.shape[1:3]
        if part.shape[1:3] != size:
            raise UserError(
                f"images of {size[0]} by {size[1]} and of {part.shape[1]} by {part.shape[2]} pixels in one set; crop "
                "and resize all to the size at which they are compared"
            )
        kept.append(part)
        count += len(part)
        if count >= batch_size:
            joined = np.concatenate(kept)
            whole = count // batch_size * batch_size
            yield from (joined[start : start + batch_size] for start in range(0, whole, batch_size))
            kept, count = [joined[whole:]], count - whole
    if count:
        yield np.concatenate(kept)
