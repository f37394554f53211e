"""The world of creatures as a source: pictures are drawn when they are asked for."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from cm3leon_jax.data.creatures.examples import CreatureExample, creature_examples
from cm3leon_jax.data.creatures.folder import VERSION, read_creatures
from cm3leon_jax.data.creatures.world import World
from cm3leon_jax.data.sources.entries import HeldOut
from cm3leon_jax.data.sources.example import SourceExample, require_split
from cm3leon_jax.data.sources.split_shards import SplitShard, shards_of_splits
from cm3leon_jax.data.splits import SPLITS
from cm3leon_jax.runtime.files import fingerprint


def creatures_source(path: str, held_out: HeldOut) -> CreaturesSource:
    """Creatures come with their own splits."""
    del held_out
    return CreaturesSource(path)


class CreaturesSource:
    """`creatures:DATA_DIR`, a folder that `cm3leon creatures` wrote. Metadata is {"sightings": [[creature, place], …]},
    creatures being named by their numbers in `world`."""

    splits = SPLITS

    def __init__(self, path: str):
        self.name = f"creatures:{path}"
        self._config = read_creatures(path)
        self.world = World.of(self._config)

    def split(self, name: str) -> CreaturesSplit:
        require_split(self, name)
        examples = list(creature_examples(name, self._config, self.world))
        return CreaturesSplit(self.world, examples, fingerprint(VERSION, self._config.to_dict(), name))

    def shards(self, examples: int) -> list[SplitShard]:
        return shards_of_splits(self, examples)


@dataclasses.dataclass(frozen=True, eq=False)
class CreaturesSplit:
    world: World
    examples: list[CreatureExample]
    fingerprint: str

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> SourceExample:
        example = self.examples[index]
        metadata = {"sightings": [[sighting.creature, sighting.place] for sighting in example.sightings]}
        return SourceExample(example.id, self.world.render(example.sightings), example.caption, metadata)

    def captions(self) -> Iterator[str]:
        return (example.caption for example in self.examples)
