"""Drawn pictures against a data set's: the networks and references of the suite `text_to_image`."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Iterator, Sequence

import numpy as np
import PIL.Image

from cm3leon_jax.evaluation.fid.distances import Distance, DistanceConfig, distances
from cm3leon_jax.evaluation.fid.features import statistics_of
from cm3leon_jax.evaluation.fid.networks import CLIP, FeatureNetwork, clip_features, load_network
from cm3leon_jax.evaluation.fid.statistics import FeatureStatistics, Origin
from cm3leon_jax.evaluation.fid.statistics_files import load_statistics, save_statistics
from cm3leon_jax.evaluation.suites.data import DataSet, Described, Readable
from cm3leon_jax.evaluation.suites.work import Work
from cm3leon_jax.runtime import hosts
from cm3leon_jax.runtime.errors import UserError


class Comparing:
    """The reference pictures, those of `captions`, and the networks by which drawn ones are compared with them. Raises
    `UserError` where weights or statistics are missing or of something else, or where too many of the pictures that are
    needed cannot be decoded: all of that before anything is drawn.

    `unreadable`: how many could not."""

    def __init__(self, work: Work, data: DataSet, captions: Sequence[Described]):
        self._work, config = work, work.config
        if not config.network_weights:
            raise UserError(
                f"pictures are compared by the network {config.network!r}; set SuitesConfig.network_weights to its "
                "weights (docs/evaluation.md)"
            )
        self._resolution = work.models.generator.image_tokenizer.resolution
        self._network = load_network(config.network, config.network_weights)
        self._retriever_network = self._by_retriever()
        self._config = DistanceConfig(draws=config.distance_draws, seed=config.seed)
        self._readable = Readable(data, captions, self._resolution)
        self._statistics: FeatureStatistics | None = None
        if config.statistics:
            self._statistics = load_statistics(config.statistics)
            size = (self._resolution, self._resolution)
            origin = Origin(self._network.name, self._network.fingerprint, size)
            self._statistics.check_comparable(origin, self._network.dim)
        self._count = len(captions)
        if not config.statistics or self._retriever_network is not None:
            self._count = self._read_references()
            self._readable.check(self._count, config.most_left_out)
        self.unreadable = len(captions) - self._count
        self.notes = [
            f"{config.network} with weights {self._network.fingerprint}, pictures of {self._resolution} pixels a side; "
            f"references: {config.statistics or f'the {self._count:,} pictures of the captions'}"
        ]

    def distances(self, files: Sequence[pathlib.Path]) -> list[Distance]:
        """Of the pictures in these files to the references, by each network."""
        references = self._pictures() if self._statistics is None else self._statistics
        found = self._distances(references, files, self._network)
        if self._retriever_network is None:
            return found
        more = self._distances(self._pictures(), files, self._retriever_network)
        if self._network.name == CLIP:  # two of a kind
            more = [dataclasses.replace(each, name=f"{each.name} by the retriever") for each in more]
        return found + more

    def _distances(
        self,
        references: FeatureStatistics | Iterator[np.ndarray],
        files: Sequence[pathlib.Path],
        network: FeatureNetwork,
    ) -> list[Distance]:
        return distances(references, read_pictures(files), network, self._config, counts=(self._count, len(files)))

    def _by_retriever(self) -> FeatureNetwork | None:
        """The retriever, where it compares pictures too and is not the network anyway."""
        retriever = self._work.models.retriever
        if not self._work.config.clip_distances or retriever is None:
            return None
        network: FeatureNetwork = clip_features(retriever)
        return None if network.fingerprint == self._network.fingerprint else network

    def _read_references(self) -> int:
        """Reads the reference pictures -> how many could be. Their statistics are kept for all numbers of documents, in
        a file too; a network whose distances need all features is given the pictures each time."""
        if self._statistics is not None or self._network.name == CLIP:
            return sum(1 for _ in self._pictures())
        path = self._work.directory / f"references_{self._network.name}.npz"
        if path.exists():
            self._statistics = load_statistics(path)
        else:
            self._statistics = statistics_of(self._pictures(), self._network, label="references", total=self._count)
            if hosts.is_first() and self._statistics.count:
                save_statistics(path, self._statistics)
        return self._statistics.count

    def _pictures(self) -> Iterator[np.ndarray]:
        return (picture for _, picture in self._readable.pictures())


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
