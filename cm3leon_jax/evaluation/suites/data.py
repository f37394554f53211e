"""The examples of a data set as a suite reads them: what is said of each at once, its picture when it is needed."""

from __future__ import annotations

import contextlib
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np

from cm3leon_jax.data.sources import BadExample, SourceExample, SourceSplit, check_spec, fit_image, open_source
from cm3leon_jax.data.sources.entries import EntrySplit
from cm3leon_jax.data.sources.example import Source, require_split
from cm3leon_jax.data.sources.published import PUBLISHED
from cm3leon_jax.data.sources.published.request import split_of
from cm3leon_jax.data.sources.several import SeveralSources
from cm3leon_jax.instructions.instruction import KEY
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.runtime.files import as_path, fingerprint
from cm3leon_jax.runtime.progress import progress

Item = TypeVar("Item")
UNREADABLE = "the picture cannot be decoded"  # why an example is left out
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
        `UserError` where it cannot be decoded."""
        try:
            return self.decoded(place, resolution)
        except BadExample as bad:
            # Without the example's name: what has the same reason is counted together.
            raise UserError(f"{bad.reason}; copy the picture again") from None

    def decoded(self, place: int, resolution: int) -> np.ndarray:
        """The same; raises `BadExample` instead."""
        split, index = self._places[place]
        example = split[index]
        pictures = [image for _, image in example.pairs if image.size]
        if not pictures:
            raise BadExample(example.id, "it has no picture")
        return fit_image(pictures[-1], resolution)

    def check(self, most_left_out: float) -> None:
        """`UserError` where more than that share cannot be used, or nothing can."""
        what = f"examples of {self.spec}"
        check_left_out(what, self.left_out.total(), len(self._places), most_left_out, self.first_bad)


class Readable:
    """Those of some examples whose pictures can be decoded; the others are passed over and counted."""

    def __init__(self, data: DataSet, examples: Sequence[Described], resolution: int):
        self._data, self._examples, self._resolution = data, examples, resolution
        self._first_bad = ""

    def pictures(self) -> Iterator[tuple[Described, np.ndarray]]:
        """Each with its picture, uint8 [R, R, 3]. Begun again, it gives the same."""
        for example in self._examples:
            try:
                picture = self._data.decoded(example.place, self._resolution)
            except BadExample as bad:
                self._first_bad = self._first_bad or str(bad)
                continue
            yield example, picture

    def check(self, count: int, most_left_out: float) -> None:
        """`UserError` where `count`, those that could be read, leaves too many of the examples out."""
        of = len(self._examples)
        check_left_out(f"pictures of {self._data.spec}", of - count, of, most_left_out, self._first_bad)


def check_left_out(what: str, bad: int, of: int, most_left_out: float, first_bad: str) -> None:
    """`UserError` where more than the share `most_left_out` of so many cannot be used, or none can."""
    if bad > most_left_out * of or bad == of:
        first = f" (the first: {first_bad})" if first_bad else ""
        raise UserError(
            f"{bad} of {of} {what} cannot be used{first}; copy what is missing, or allow a larger share "
            "(SuitesConfig.most_left_out)"
        )


def open_data(spec: str, split: str) -> DataSet:
    """All of a source whose form is that of a published data set (with its `?split=`); of any other its `split`. Raises
    `UserError`, also where a published one does not say which split it is: what is not named is trained on."""
    parts = check_spec(spec)
    if all(part.spec.partition(":")[0] in PUBLISHED for part in parts):
        source = open_source(spec, validation_share=0, test_share=0)
        for part, one in zip(parts, source.sources if isinstance(source, SeveralSources) else [source], strict=True):
            _check_split_is_named(part.spec, one)
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


def _check_split_is_named(spec: str, source: Source) -> None:
    """`UserError` where a published data set that has splits gives that for training, because none is named."""
    where, _, query = spec.partition(":")[2].partition("?")
    of_file = "" if as_path(where).is_dir() else split_of(where)
    if of_file or any(option.startswith("split=") for option in query.split("&")):
        return
    if _first_metadata(source).get("split") == "train":
        raise UserError(f"{spec} names no split, which stands for its training data; add ?split=val or ?split=test")


def _first_metadata(source: Source) -> dict[str, Any]:
    """Of the first example that can be used; nothing where there is none."""
    for split in map(source.split, source.splits):
        for index in range(len(split)):
            with contextlib.suppress(BadExample):
                return _without_images(split, index).metadata
    return {}


def _without_images(split: SourceSplit, index: int) -> SourceExample:
    return split.without_images(index) if isinstance(split, EntrySplit) else split[index]
