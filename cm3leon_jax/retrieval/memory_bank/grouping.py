"""Which shards of a memory bank are worth building anew, and which of them together."""

from __future__ import annotations

from collections.abc import Sequence

from cm3leon_jax.retrieval.memory_bank.manifest import ShardEntry


def groups_to_rebuild(
    shards: Sequence[ShardEntry], documents_per_shard: int, max_removed_share: float
) -> list[list[int]]:
    """Places in `shards`: each group becomes one shard.

    Those with more than `max_removed_share` of their documents removed are built anew in any case. Those at most half
    full are so only together with others, which they join while all have room: of two such none is left alone, and
    whoever adds a few documents at a time does not have the large shards built anew each time.
    """
    left = [entry.count - entry.removed for entry in shards]
    worn = {place for place, entry in enumerate(shards) if entry.removed > max_removed_share * entry.count}
    small = {place for place, count in enumerate(left) if 2 * count <= documents_per_shard}
    groups: list[list[int]] = []
    for place in sorted(worn | small, key=lambda place: (-left[place], place)):
        for group in groups:
            if sum(left[other] for other in group) + left[place] <= documents_per_shard:
                group.append(place)
                break
        else:
            groups.append([place])
    return [group for group in groups if len(group) > 1 or worn.intersection(group)]
