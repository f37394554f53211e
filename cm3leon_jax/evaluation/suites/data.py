"""The examples of a data set as a suite reads them: what is said of each at once, its picture when it is needed."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np

from cm3leon_jax.data.sources import BadExample, SourceExample, SourceSplit, check_spec, fit_image, open_source
from cm3leon_jax.data.sources.entries import EntrySplit
from cm3leon_jax.data.sources.example import require_split
from cm3leon_jax.data.sources.published import PUBLISHED
from cm3leon_jax.instructions.instruction import KEY
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.runtime.files import fingerprint
from cm3leon_jax.runtime.progress import progress

Item = TypeVar("Item")
_NUMBER = re.compile(r"#\d+$")  # behind an image's name, where it has several captions


class Described(NamedTuple):
    """An example, its picture left out."""

    place: int  # among all examples: what `DataSet.image` takes
    id: str
    caption: str
    metadata: dict[str, Any]

    @property
    def picture(self) -> str:
        """What is the same for all examples about one picture."""
        given = self.metadata.get("image_id")
        return _NUMBER.sub("", self.id) if given is None else str(given)

    def fields(self, task: str, spec: str) -> dict[str, Any]:
        """The texts of an instruction of that task. `UserError` where the example is none."""
        said = self.metadata.get(KEY, {})
        if said.get("task") != task:
            raise UserError(
                f"example {self.id} of {spec} is no instruction of task {task!r}; name a data set that has some"
            )
        return said["fields"]


class DataSet:
    """All examples of a data set that can be used; the others are counted."""

    def __init__(self, spec: str, splits: Sequence[SourceSplit]):
        self.spec = spec
        self._places = [(split, index) for split in splits for index in range(len(split))]
        self._splits = splits
        self.examples: list[Described] = []
        self.left_out: Counter[str] = Counter()  # reasons
        self.first_bad = ""
        read = progress(range(len(self._places)), label=f"reading {spec}", unit="examples", delay=2.0)
        for place in read:
            try:
                example = _without_images(*self._places[place])
            except BadExample as bad:
                self.first_bad = self.first_bad or str(bad)
                self.left_out[bad.reason] += 1
                continue
            self.examples.append(Described(place, example.id, example.caption, example.metadata))

    @property
    def fingerprint(self) -> str:
        """Of the examples and the states of their pictures, which are not read."""
        return fingerprint([split.fingerprint for split in self._splits])

    def image(self, place: int, resolution: int) -> np.ndarray:
        """The picture of an example, the last of it if there are several: uint8 [R, R, 3], its central square. Raises
        `UserError` where it cannot be read."""
        split, index = self._places[place]
        try:
            pictures = [image for _, image in split[index].pairs if image.size]
        except BadExample as bad:
            raise UserError(f"example {bad} of {self.spec}; copy the picture again") from None
        if not pictures:
            raise UserError(f"example {place} of {self.spec} has no picture; name a data set of pictures")
        return fit_image(pictures[-1], resolution)

    def check(self, most_left_out: float) -> None:
        """`UserError` where more than that share cannot be used, or nothing can."""
        bad = self.left_out.total()
        if bad > most_left_out * len(self._places) or not self.examples:
            first = f" (the first: {self.first_bad})" if bad else ""
            raise UserError(
                f"{bad} of {len(self._places)} examples of {self.spec} cannot be used{first}; copy what is missing, or "
                "allow a larger share (SuitesConfig.most_left_out)"
            )


def open_data(spec: str, split: str) -> DataSet:
    """All of a source whose form is that of a published data set (with its `?split=`); of any other its `split`. Raises
    `UserError`."""
    kinds = [part.spec.partition(":")[0] for part in check_spec(spec)]
    if all(kind in PUBLISHED for kind in kinds):
        source = open_source(spec, validation_share=0, test_share=0)
        return DataSet(spec, [source.split(name) for name in source.splits])
    source = open_source(spec)
    require_split(source, split)
    return DataSet(spec, [source.split(split)])


def drawn(items: Sequence[Item], count: int, seed: int) -> list[Item]:
    """`count` of the items by `seed`, in their order; 0, or more than there are: all."""
    if not 0 < count < len(items):
        return list(items)
    return [items[index] for index in sorted(np.random.default_rng(seed).permutation(len(items))[:count])]


def by_picture(examples: Sequence[Described]) -> list[list[Described]]:
    """The examples about each picture, in the order in which pictures are met."""
    found: dict[str, list[Described]] = {}
    for example in examples:
        found.setdefault(example.picture, []).append(example)
    return list(found.values())


def _without_images(split: SourceSplit, index: int) -> SourceExample:
    return split.without_images(index) if isinstance(split, EntrySplit) else split[index]
