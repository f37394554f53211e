import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cm3leon_jax.data.objective import Example, Objective, ObjectiveConfig
from cm3leon_jax.data.packing import (
    ScoredExample,
    fullest_subset,
    hide_in_example,
    pack,
    pack_straddling,
    pack_whole,
    row_of,
    stack,
)
from cm3leon_jax.data.settings import StreamConfig
from cm3leon_jax.documents import COUNTED, Document, Span, assemble, parse, unmask
from cm3leon_jax.vocabulary import EOS_ID, Vocabulary

CAUSAL = ObjectiveConfig(rate=0)
VOCABULARY = Vocabulary(text_size=1_000, image_size=100, num_sentinels=40, multiple_of=8)
OBJECTIVE = Objective(VOCABULARY, ObjectiveConfig(rate=2.0, whole_segment_probability=0.5))


def numbered(lengths, kind=ScoredExample):
    """Examples whose ids are all different: 1, 2, 3, …; the n-th has n retrieved documents."""
    ends = list(itertools.accumulate(lengths, initial=1))
    parts = [np.arange(start, stop, dtype=np.int32) for start, stop in itertools.pairwise(ends)]
    return [kind(ids, retrieved=number) for number, ids in enumerate(parts)]


def straddled(examples, length, vocabulary=VOCABULARY, *, begin_inside_images=True):
    """Rows with nothing hidden, and the number of the id that the first begins at."""
    objective = Objective(vocabulary, CAUSAL)
    rows = list(pack_straddling(iter(examples), length, objective, begin_inside_images=begin_inside_images))
    return rows, int(rows[0]["tokens"][0]) if rows else None


def retrieved_of(examples):
    """id -> retrieved documents of the example that it is from."""
    return {int(id_): example.retrieved for example in examples for id_ in example.ids}


example_lengths = st.lists(st.integers(2, 30), max_size=30)


@given(example_lengths, st.integers(1, 40))
def test_straddling_rows_are_the_concatenation_cut_into_blocks(lengths, length):
    examples = numbered(lengths, Example)
    (rows, first), retrieved = straddled(examples, length), retrieved_of(examples)
    # They begin at a random id of the first ones, and end with the last whole block.
    assert len(rows) == (sum(lengths) - first + 1) // (length + 1) if rows else sum(lengths) < 2 * (length + 1)
    assert first is None or 1 <= first <= length + 1
    for number, row in enumerate(rows):
        block = np.arange(length + 1) + first + number * (length + 1)
        assert np.array_equal(row["tokens"], block[:-1])
        assert np.array_equal(row["targets"], block[1:])
        assert np.array_equal(row["positions"], np.arange(length))
        assert (row["weights"] == 1).all() and (row["segments"] == 1).all()
        # What is learned is the target, so that counts: at a seam its example is not that of the token before it.
        assert row["retrieved"].tolist() == [retrieved[target] for target in row["targets"].tolist()]


def test_straddling_rows_begin_anywhere():
    """Else all rows of a batch would hold the same parts of their examples."""
    firsts = [straddled([Example(np.arange(1, 200, dtype=np.int32), key=key)], 40)[1] for key in range(500)]
    assert set(firsts) == set(range(1, 42))
    assert np.bincount(firsts)[1:].max() < 30


class EveryFew:
    """Stands in for a vocabulary in which ids that are no multiple of `every` are those of images."""

    def __init__(self, every):
        self.every, self.num_sentinels, self.break_id, self.eoss_id, self.sentinel_offset = every, 1, -1, -2, -3

    def is_image(self, ids):
        return np.asarray(ids) % self.every != 0

    def is_text(self, ids):
        return np.asarray(ids) % self.every == 0


@given(example_lengths, st.integers(1, 40), st.integers(2, 7))
def test_a_block_begins_inside_no_image_unless_it_may(lengths, length, every):
    """A run of an image's ids is passed over where a block would begin."""
    rows, first = straddled(numbered(lengths, Example), length, EveryFew(every), begin_inside_images=False)
    ends = set(itertools.accumulate(lengths))  # an image ends with its example
    begin = first
    for row in rows:
        while begin % every and begin - 1 not in ends - {first - 1}:
            begin += 1
        if begin % every:  # the next example begins inside an image, which none of ours does
            return
        block = np.arange(begin, begin + length + 1)
        assert np.array_equal(row["tokens"], block[:-1]) and np.array_equal(row["targets"], block[1:])
        begin += length + 1


documents = st.builds(
    Document,
    text=st.lists(st.integers(2, VOCABULARY.text_size - 1), max_size=6),
    image=st.lists(st.integers(0, VOCABULARY.image_size - 1), max_size=8),
)


def restored(ids, vocabulary=VOCABULARY):
    """What a row shows, read from its ids alone: each span put back from the tail to its sentinel."""
    sentinels, ids = np.flatnonzero(vocabulary.is_sentinel(ids)).tolist(), ids.tolist()
    places, spans = {}, {}
    for index in sentinels:
        if (value := ids[index]) in places:
            spans[value] = ids[index + 1 : ids.index(vocabulary.eoss_id, index)]
        else:
            places[value] = index
    assert spans.keys() == places.keys()  # no sentinel without its span, and the other way round
    end = len(ids) - sum(len(span) + 2 for span in spans.values())
    return [part for value in ids[:end] for part in spans.get(value, [value])]


@settings(max_examples=200)
@given(st.lists(st.lists(documents, min_size=1, max_size=3), min_size=1, max_size=20), st.integers(6, 60))
def test_rows_hide_in_themselves_and_lose_nothing(sequences, length):
    """Put back, the rows are the examples one behind the other: what masks add is taken from no id."""
    examples = [Example(assemble(each, VOCABULARY), key=number) for number, each in enumerate(sequences)]
    everything = np.concatenate([example.ids for example in examples]).tolist()
    config = StreamConfig(length=length)
    rows = list(pack(examples, config, OBJECTIVE))
    shown = [part for row in rows for part in restored(np.append(row["tokens"], row["targets"][-1]))]
    assert all(len(row["tokens"]) == length for row in rows)
    assert any(everything[start : start + len(shown)] == shown for start in range(length + 1))
    assert len(everything) - len(shown) <= 2 * length + 1


def test_a_whole_caption_is_hidden_only_where_its_image_is_whole_in_the_row():
    rng = np.random.default_rng(0)
    pairs = [
        Document(rng.integers(2, 1_000, 5).astype(np.int32), rng.integers(0, 100, 16).astype(np.int32))
        for _ in range(4_000)
    ]
    images = {pair.text.tobytes(): pair.image for pair in pairs}
    examples = [Example(assemble([pair], VOCABULARY), key=number) for number, pair in enumerate(pairs)]
    hidden = 0
    for row in pack(examples, StreamConfig(length=60), OBJECTIVE):
        ids = np.append(row["tokens"], row["targets"][-1])
        tail = ids[np.flatnonzero(VOCABULARY.is_sentinel(ids))[-1] :] if VOCABULARY.is_sentinel(ids).any() else ids[:0]
        image = images.get(tail[1:-1].tobytes())
        if image is not None:
            hidden += 1
            assert VOCABULARY.image_ids(image).tobytes() in np.array(restored(ids), np.int32).tobytes()
    assert hidden > 200


def question(number, *, answer=2, image=16):
    """An instruction of six ids, of which the last are the answer, and an image; all ids of a text are its own."""
    ids = assemble([Document(np.arange(6) + 2 + 6 * number, np.arange(image) % 100)], VOCABULARY)
    return Example(ids, key=number, answers=(Span(7 - answer, 7),))


def test_answers_are_hidden_where_their_question_and_image_are_in_the_row():
    objective = Objective(VOCABULARY, ObjectiveConfig(rate=1.0, answer_probability=0.5))
    examples = [question(number) for number in range(150)]
    hidden, asked = 0, 0
    for row in pack(examples, StreamConfig(length=100), objective):
        ids = np.append(row["tokens"], row["targets"][-1])
        for example in examples:
            answer, whole = example.ids[5:7].tolist(), example.ids.tolist()
            text = ids.tolist()
            asked += example.ids[1] in ids and example.ids[-1] in ids
            if answer[0] in text and VOCABULARY.is_sentinel(text[text.index(answer[0]) - 1]):
                shown = restored(ids)
                at = shown.index(answer[0])
                if shown[at - 5 : at + len(whole) - 5] == whole:
                    hidden += 1
    assert 0.3 < hidden / asked < 0.6


def test_loss_on_answers_alone_counts_them_and_their_ends():
    objective = Objective(VOCABULARY, ObjectiveConfig(rate=1.0), answers_alone=True)
    for row in pack([question(number) for number in range(150)], StreamConfig(length=100), objective):
        counted = row["targets"][row["weights"] > 0].reshape(-1, 3)
        assert 2 <= len(counted) <= 4
        assert (counted[:, 2] == VOCABULARY.eoss_id).all()
        assert (counted[:, :2] % 6 == [0, 1]).all()  # the last two of the six


def test_images_that_are_answers_count_where_their_instruction_is_in_the_row_from_its_beginning():
    objective = Objective(VOCABULARY, answers_alone=True)
    documents = [Document(np.arange(2, 6), np.arange(10)), Document(np.arange(6, 9), np.arange(50, 66))]
    ids = assemble(documents, VOCABULARY)
    example = Example(ids, answers=(Span(len(ids) - 17, len(ids) - 1),))
    for row in pack([example] * 40, StreamConfig(length=70), objective):
        first = int(np.flatnonzero(row["tokens"] == EOS_ID)[0])  # ends or begins an example
        scored = np.flatnonzero(row["weights"])
        assert (scored >= first).all() and len(scored) >= 10
        assert set(row["targets"][scored]) <= {*(VOCABULARY.image_offset + np.arange(50, 66)), EOS_ID}


def test_an_example_longer_than_a_row_is_cut_before_spans_are_drawn():
    ids = assemble([Document(np.arange(2, 8), np.arange(60))], VOCABULARY)
    for key in range(200):
        example = hide_in_example(Example(ids, key), 40, OBJECTIVE, COUNTED)
        shown = restored(example.ids)
        assert len(example.ids) == 41 and shown == ids[: len(shown)].tolist()
    whole = hide_in_example(Example(ids, 1), 400, OBJECTIVE, COUNTED)
    assert np.array_equal(unmask(whole.ids, VOCABULARY), ids) and len(parse(whole.ids, VOCABULARY)) == 1


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
    examples = [
        ScoredExample(np.arange(1, 7, dtype=np.int32), of_query),
        ScoredExample(np.arange(7, 10, dtype=np.int32)),
    ]
    row = row_of(examples, 10)
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


def test_at_the_papers_sizes_all_of_the_querys_image_is_learned_and_its_caption_hidden():
    """Three retrieved documents and a query, 4,225 ids, in rows of 4,096: they straddle and lock to nothing."""
    rng = np.random.default_rng(0)
    vocabulary = Vocabulary()
    pairs = [
        Document(rng.integers(3, 56_320, 30).astype(np.int32), rng.integers(0, 8_192, 1_024).astype(np.int32))
        for _ in range(40)
    ]
    numbers = [rng.permutation(40)[:4] for _ in range(400)]
    examples = [
        Example(assemble([pairs[number] for number in each], vocabulary), key=key, retrieved=3)
        for key, each in enumerate(numbers)
    ]
    objective = Objective(vocabulary, ObjectiveConfig(whole_segment_probability=0.9))
    learned, hidden, of_query = np.zeros(1_024, int), 0, 0
    by_text = {pair.text.tobytes(): pair for pair in pairs}
    seen = np.zeros(0, np.int32)  # all that the rows show, put back
    for row in pack(examples, StreamConfig(length=4_096), objective):
        ids = np.append(row["tokens"], row["targets"][-1])
        whole = np.array(restored(ids, vocabulary), np.int32)
        seen = np.append(seen, whole)
        for sentinel in np.flatnonzero(vocabulary.is_sentinel(ids[:-1])).tolist():
            span = ids[sentinel + 1 :][: int((ids[sentinel:] == vocabulary.eoss_id).argmax()) - 1]
            if pair := by_text.get(span.tobytes()):
                hidden += 1
                text = next(i for i in np.flatnonzero(whole == span[0]) if np.array_equal(whole[i : i + 30], span))
                image = whole[text + 31 : text + 31 + 1_024]
                assert np.array_equal(vocabulary.image_codes(image), pair.image)
                of_query += whole[text + 31 + 1_024 :][:1].tolist() == [EOS_ID]
    ends = np.flatnonzero((seen[:-1] == EOS_ID) & (seen[1:] == EOS_ID))[1:-1]
    for end in ends.tolist():
        learned += vocabulary.is_image(seen[end - 1_024 : end])
    assert len(ends) > 350 and (learned == len(ends)).all()
    assert hidden > 100 and of_query / hidden == pytest.approx(0.25, abs=0.08)
