"""Drawn pictures against a data set's: the networks and references of the suite `text_to_image`."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator, Sequence

import numpy as np
import PIL.Image

from cm3leon_jax.evaluation.fid.distances import Distance, DistanceConfig, distances
from cm3leon_jax.evaluation.fid.features import statistics_of
from cm3leon_jax.evaluation.fid.networks import FeatureNetwork, clip_features, load_network
from cm3leon_jax.evaluation.fid.statistics import FeatureStatistics, Origin
from cm3leon_jax.evaluation.fid.statistics_files import load_statistics, save_statistics
from cm3leon_jax.evaluation.suites.data import DataSet, Described
from cm3leon_jax.evaluation.suites.work import Work
from cm3leon_jax.runtime import hosts
from cm3leon_jax.runtime.errors import UserError


class Comparing:
    """The reference pictures, those of `captions`, and the networks by which drawn ones are compared with them. Raises
    `UserError` where weights or statistics are missing, or of something else."""

    def __init__(self, work: Work, data: DataSet, captions: Sequence[Described]):
        self._work, self._data, self._captions = work, data, captions
        config = work.config
        if not config.network_weights:
            raise UserError(
                f"pictures are compared by the network {config.network!r}; set SuitesConfig.network_weights to its "
                "weights (docs/evaluation.md)"
            )
        self._resolution = work.models.generator.image_tokenizer.resolution
        self._network = load_network(config.network, config.network_weights)
        self._statistics: FeatureStatistics | None = None
        if config.statistics:
            self._statistics = load_statistics(config.statistics)
            size = (self._resolution, self._resolution)
            self._statistics.origin.check_comparable(Origin(self._network.name, self._network.fingerprint, size))
        self._config = DistanceConfig(draws=config.distance_draws, seed=config.seed)
        self.notes = [
            f"{config.network} with weights {self._network.fingerprint}, pictures of {self._resolution} pixels a side; "
            f"references: {config.statistics or f'the {len(captions):,} pictures of the captions'}"
        ]

    def distances(self, files: Sequence[pathlib.Path]) -> list[Distance]:
        """Of the pictures in these files to the references, by each network."""
        counts = len(self._captions), len(files)
        found = distances(self._references(), read_pictures(files), self._network, self._config, counts=counts)
        retriever = self._work.models.retriever
        if self._work.config.clip_distances and retriever is not None:
            network: FeatureNetwork = clip_features(retriever)
            if network.fingerprint != self._network.fingerprint:
                found += distances(self._pictures(), read_pictures(files), network, self._config, counts=counts)
        return found

    def _references(self) -> FeatureStatistics | Iterator[np.ndarray]:
        """Statistics that were given, or that are made once and kept for the next number of documents; pictures where a
        distance needs all features."""
        if self._statistics is None and self._network.name == "clip":
            return self._pictures()
        if self._statistics is None:
            path = self._work.directory / f"references_{self._network.name}.npz"
            if not path.exists():
                found = statistics_of(self._pictures(), self._network, label="references", total=len(self._captions))
                if hosts.is_first():
                    save_statistics(path, found)
                self._statistics = found
            else:
                self._statistics = load_statistics(path)
        return self._statistics

    def _pictures(self) -> Iterator[np.ndarray]:
        return (self._data.image(each.place, self._resolution) for each in self._captions)


def read_pictures(files: Sequence[pathlib.Path]) -> Iterator[np.ndarray]:
    """uint8 [H, W, 3] each. Raises `UserError`."""
    for file in files:
        try:
            with PIL.Image.open(file) as image:
                yield np.asarray(image.convert("RGB"))
        except OSError as error:
            reason = " ".join(str(error).split())[:200]
            raise UserError(
                f"the drawn picture {file} cannot be read ({reason}); remove its folder to draw anew"
            ) from None
