import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cm3leon_jax.data.packing import Example, fullest_subset, pack_straddling, pack_whole, row_of, stack


def numbered(lengths):
    """Examples whose ids are all different: 1, 2, 3, …; the n-th has n retrieved documents."""
    ends = list(itertools.accumulate(lengths, initial=1))
    parts = [np.arange(start, stop, dtype=np.int32) for start, stop in itertools.pairwise(ends)]
    return [Example(ids, retrieved=number) for number, ids in enumerate(parts)]


def retrieved_of(examples):
    """id -> retrieved documents of the example that it is from."""
    return {int(id_): example.retrieved for example in examples for id_ in example.ids}


example_lengths = st.lists(st.integers(2, 30), max_size=30)


@given(example_lengths, st.integers(1, 40))
def test_straddling_rows_are_the_concatenation_cut_into_blocks(lengths, length):
    examples = numbered(lengths)
    rows, retrieved = list(pack_straddling(iter(examples), length)), retrieved_of(examples)
    assert len(rows) == sum(lengths) // (length + 1)
    for number, row in enumerate(rows):
        block = np.arange(length + 1) + 1 + number * (length + 1)
        assert np.array_equal(row["tokens"], block[:-1])
        assert np.array_equal(row["targets"], block[1:])
        assert np.array_equal(row["positions"], np.arange(length))
        assert (row["weights"] == 1).all() and (row["segments"] == 1).all()
        # What is learned is the target, so that counts: at a seam its example is not that of the token before it.
        assert row["retrieved"].tolist() == [retrieved[target] for target in row["targets"].tolist()]


@given(example_lengths, st.integers(1, 40), st.integers(2, 7))
def test_a_block_never_begins_inside_an_image(lengths, length, every):
    """Ids that are no multiple of `every` stand for images: a run of them is passed over where a block would begin."""
    examples = numbered(lengths)
    rows = list(pack_straddling(iter(examples), length, lambda ids: ids % every != 0))
    ids = np.concatenate([example.ids for example in examples]) if examples else np.zeros(0, int)
    begin = 0
    for row in rows:
        while begin < len(ids) and ids[begin] % every:
            begin += 1
        block = ids[begin : begin + length + 1]
        assert np.array_equal(row["tokens"], block[:-1]) and np.array_equal(row["targets"], block[1:])
        assert row["tokens"][0] % every == 0
        begin += length + 1
    left = ids[begin:]
    first = next((place for place, id_ in enumerate(left) if id_ % every == 0), len(left))
    assert len(left) - first <= length


@given(example_lengths, st.integers(1, 40), st.integers(1, 8))
def test_whole_rows_hold_each_example_once_and_apart(lengths, length, lookahead):
    examples = numbered(lengths)
    rows, retrieved = list(pack_whole(iter(examples), length, lookahead)), retrieved_of(examples)
    found = []
    for row in rows:
        padding = row["segments"] == 0
        assert np.array_equal(row["weights"], ~padding)
        assert not any(row[name][padding].any() for name in ("tokens", "targets", "positions", "retrieved"))
        count = row["segments"].max(initial=0)
        assert count >= 1
        assert np.array_equal(row["segments"][~padding], np.sort(row["segments"][~padding]))
        for segment in range(1, count + 1):
            part = row["segments"] == segment
            tokens, targets = row["tokens"][part], row["targets"][part]
            assert np.array_equal(row["positions"][part], np.arange(part.sum()))
            assert np.array_equal(tokens[1:], targets[:-1])
            assert set(row["retrieved"][part]) == {retrieved[tokens[0]]}
            found.append((tokens[0], [*tokens, targets[-1]]))
    expected = [(example.ids[0], example.ids[: length + 1].tolist()) for example in examples]
    assert sorted(found) == sorted(expected)


@given(st.lists(st.integers(1, 60), min_size=1, max_size=9), st.integers(0, 100))
def test_fullest_subset_is_the_best_one(lengths, extra):
    room = lengths[0] + extra
    taken = fullest_subset(lengths, room)
    assert taken[0] == 0 and len(set(taken)) == len(taken)
    rest = range(1, len(lengths))
    choices = (c for size in range(len(lengths)) for c in itertools.combinations(rest, size))
    best = max(total for c in choices if (total := lengths[0] + sum(lengths[i] for i in c)) <= room)
    assert sum(lengths[index] for index in taken) == best


def test_no_example_waits_for_ever():
    """One that fits badly is taken at the latest when it is the oldest."""
    examples = numbered([30] + [20] * 40)
    rows = pack_whole(iter([*examples[1:6], examples[0], *examples[6:]]), 38, 4)
    starts = [int(row["tokens"][0]) for row in rows]
    assert 1 in starts[:4]


def test_an_example_longer_than_the_row_is_cut_and_counts():
    (row,) = pack_whole(iter(numbered([50])), 10, 4)
    assert np.array_equal(row["tokens"], np.arange(1, 11))
    assert np.array_equal(row["targets"], np.arange(2, 12))
    assert row["weights"].sum() == 10


def test_the_context_of_an_example_is_read_but_not_scored():
    of_query = np.arange(6) >= 4
    row = row_of([Example(np.arange(1, 7, dtype=np.int32), of_query), Example(np.arange(7, 10, dtype=np.int32))], 10)
    assert row["targets"][row["weights"] == 1].tolist() == [5, 6, 8, 9]
    assert row["tokens"].tolist() == [1, 2, 3, 4, 5, 7, 8, 0, 0, 0]


def test_rows_have_the_types_of_a_batch():
    batch = stack([row_of(numbered([5]), 8), row_of([], 8)])
    assert {name: (array.dtype.name, array.shape) for name, array in batch.items()} == {
        "tokens": ("int32", (2, 8)),
        "targets": ("int32", (2, 8)),
        "weights": ("float32", (2, 8)),
        "positions": ("int32", (2, 8)),
        "segments": ("int32", (2, 8)),
        "retrieved": ("int32", (2, 8)),
    }
    assert not batch["weights"][1].any()


def test_whole_packing_wastes_little_of_demo_lengths():
    """Pairs alone and behind one or two retrieved documents. In rows of 288, most long ones fit with nothing else."""
    rng = np.random.default_rng(0)
    lengths = [rng.integers(85, 96) if rng.random() < 0.6 else rng.integers(170, 281) for _ in range(3000)]
    for length, least in ((288, 0.86), (384, 0.9)):
        fill = [row["weights"].mean() for row in pack_whole(iter(numbered(lengths)), length, 16)]
        assert np.mean(fill) > least
