"""What a suite works with: the settings, its folder, and models that are read when they are first needed."""

from __future__ import annotations

import dataclasses
import functools
import pathlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from cm3leon_jax.evaluation.suites.config import SuitesConfig
from cm3leon_jax.evaluation.suites.data import DataSet, open_data
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.sampling.rules import SamplingConfig

if TYPE_CHECKING:
    from cm3leon_jax.data.shards import PreparedData
    from cm3leon_jax.evaluation.suites.visdial_data import Dialogs
    from cm3leon_jax.model.partitioning import Partitioning
    from cm3leon_jax.retrieval.clip.retriever import Retriever
    from cm3leon_jax.sampling.pipeline import Generator


class Models:
    """The models that the command names: `options` are its `decoder`, `text_tokenizer`, `image_tokenizer`, `retriever`
    and `prepared`, and `source`, each "" where it is not given."""

    def __init__(self, options: dict[str, str], partitioning: Partitioning, **how: Any):
        """`partitioning` is over the devices of this process alone; `how` are more options of `Generator`."""
        self.options, self.partitioning = options, partitioning
        self._how = how

    def with_options(self, **options: str) -> Models:
        """The same devices and options of `Generator`, with other models."""
        return Models(self.options | options, self.partitioning, **self._how)

    def fingerprints(self, options: Iterable[str]) -> dict[str, str]:
        """Of those of the options that name models or prepared data, where they are given. Raises `UserError`."""
        from cm3leon_jax.data.shards import PreparedData
        from cm3leon_jax.runtime.model_folder import model_fingerprint
        from cm3leon_jax.tokenizers.text import TextTokenizer

        found = {}
        for option in options:
            where = self.options[option]
            if not where or option == "source":
                continue
            if option == "prepared":
                found[option] = PreparedData(where).fingerprint
            elif option == "text_tokenizer":
                found[option] = TextTokenizer.load(where).fingerprint
            else:
                found[option] = model_fingerprint(where)
        return found

    @functools.cached_property
    def generator(self) -> Generator:
        from cm3leon_jax.sampling.pipeline import Generator

        decoder, text, image = (self.options[name] for name in ("decoder", "text_tokenizer", "image_tokenizer"))
        retriever = self.options["retriever"] or None
        # Documents are found by a retriever alone.
        prepared = self.options["prepared"] or None if retriever else None
        return Generator.load(
            decoder, text, image, retriever=retriever, prepared=prepared, partitioning=self.partitioning, **self._how
        )

    @functools.cached_property
    def retriever(self) -> Retriever | None:
        """The one that the generator uses, or would."""
        if "generator" in self.__dict__:
            return self.generator.retriever
        from cm3leon_jax.retrieval.clip.retriever import Retriever

        return Retriever.load(self.options["retriever"]) if self.options["retriever"] else None

    @functools.cached_property
    def prepared(self) -> PreparedData | None:
        from cm3leon_jax.data.shards import PreparedData

        return PreparedData(self.options["prepared"]) if self.options["prepared"] else None


@dataclasses.dataclass(frozen=True, eq=False)
class Work:
    """`directory` is the suite's own."""

    directory: pathlib.Path
    config: SuitesConfig
    sampling: SamplingConfig
    models: Models
    split: str = "test"
    data: dict[str, DataSet] = dataclasses.field(default_factory=dict)  # those that are open, by their settings' names

    @property
    def text_sampling(self) -> SamplingConfig:
        """How texts are written."""
        return dataclasses.replace(self.sampling, rule=self.config.text_rule)

    def open(self, name: str) -> DataSet:
        """The data set that the setting `name` of `SuitesConfig` names. Raises `UserError`."""
        if name not in self.data:
            spec = getattr(self.config, name)
            if not spec:
                raise UserError(f"no data set is named for {name}; set SuitesConfig.{name} to a source")
            self.data[name] = open_data(spec, self.split)
            self.data[name].check(self.config.most_left_out)
        return self.data[name]

    @functools.cached_property
    def dialogs(self) -> Dialogs:
        """Those of `SuitesConfig.visdial`, which is a folder. Raises `UserError`."""
        from cm3leon_jax.evaluation.suites.visdial_data import read_dialogs

        dialogs = read_dialogs(self.config.visdial)
        dialogs.check(self.config.most_left_out)
        return dialogs

    def fingerprint(self, name: str) -> str:
        """Names the data that the setting `name` names."""
        return self.dialogs.fingerprint if name == "visdial" else self.open(name).fingerprint
