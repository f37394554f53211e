"""What a task makes an example of, and what it makes: texts, and a description from which pictures are drawn."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np

from cm3leon_jax.data.scenes.examples import ScenesConfig
from cm3leon_jax.data.scenes.world import Scene

Metadata = Mapping[str, Any]
T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Situation:
    """An example of the data set, as a task is given it."""

    id: str
    split: str  # one of `examples.SPLITS`
    scene: Scene
    caption: str
    config: ScenesConfig


class Made(NamedTuple):
    """`fields`: of the task's template, pictures left out; of several texts one is drawn at each use. `metadata`:
    JSON-able, and enough to draw the pictures and to score an answer."""

    fields: dict[str, str | list[str]]
    metadata: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Maker:
    """`make`: a pure function of the generator's state and the situation. `pictures`: metadata and a resolution R ->
    the pictures of the template in their order, uint8 [R, R, 3] each. `needs_scene`: whether `make` looks at the scene.
    """

    make: Callable[[np.random.Generator, Situation], Made]
    pictures: Callable[[Metadata, int], list[np.ndarray]]
    needs_scene: bool = True


def example_rng(task: str, id: str, seed: int) -> np.random.Generator:
    """The generator of one example of one task, so that any of them can be made without the others."""
    digest = hashlib.blake2b(f"{task} {seed} {id}".encode(), digest_size=16).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest, "little")))


def in_random_order(rng: np.random.Generator, texts: Sequence[T]) -> list[T]:
    """All of them: the first is what a document says where one wording is needed, so it is not always the same."""
    return [texts[place] for place in rng.permutation(len(texts))]
