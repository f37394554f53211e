"""The sequence layout reads back exactly, also through masking, and nothing else is accepted."""

import itertools

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from cm3leon_jax.documents import (
    COUNTED,
    Document,
    PositionRule,
    SequenceError,
    Span,
    assemble,
    mask,
    parse,
    positions,
    segment_spans,
    unmask,
)
from cm3leon_jax.vocabulary import EOS_ID, PAD_ID, UNK_ID, Vocabulary

VOCABULARY = Vocabulary(text_size=20, image_size=10, num_sentinels=6, multiple_of=8)
TEXT, IMAGE, BREAK, EOSS = UNK_ID + 1, VOCABULARY.image_offset, VOCABULARY.break_id, VOCABULARY.eoss_id
S0, S1 = VOCABULARY.sentinel_id(0), VOCABULARY.sentinel_id(1)

# Either part may be empty: documents of one modality, and of none.
documents = st.builds(
    Document,
    text=st.lists(st.integers(UNK_ID, VOCABULARY.text_size - 1), max_size=12),
    image=st.lists(st.integers(0, VOCABULARY.image_size - 1), max_size=12),
)
document_lists = st.lists(documents, min_size=1, max_size=5)


@st.composite
def masked(draw):
    """Documents, their sequence, and spans that may be hidden in it."""
    given_documents = draw(document_lists)
    ids = assemble(given_documents, VOCABULARY)
    spans = []
    for segment in segment_spans(ids, VOCABULARY):
        cuts = sorted(draw(st.sets(st.integers(segment.start, segment.stop), max_size=4)))
        pieces = [Span(start, stop) for start, stop in itertools.pairwise(cuts)]
        spans += [piece for piece in pieces if draw(st.booleans())]
    return given_documents, ids, spans[: VOCABULARY.num_sentinels]


@given(document_lists)
def test_parse_inverts_assemble(given_documents):
    assert parse(assemble(given_documents, VOCABULARY), VOCABULARY) == given_documents


@given(masked())
def test_parse_inverts_masking_too(case):
    given_documents, ids, spans = case
    hidden = mask(ids, spans, VOCABULARY)
    assert np.array_equal(unmask(hidden, VOCABULARY), ids)
    assert parse(hidden, VOCABULARY) == given_documents


@given(masked())
def test_masking_loses_nothing_and_adds_three_ids_a_span(case):
    _, ids, spans = case
    hidden = mask(ids, spans, VOCABULARY)
    assert hidden.dtype == np.int32
    assert len(hidden) == len(ids) + 3 * len(spans)
    markers = VOCABULARY.is_sentinel(hidden) | (hidden == EOSS)
    assert markers.sum() == 3 * len(spans)
    assert sorted(hidden[~markers]) == sorted(ids)


@given(document_lists)
def test_segments_are_the_documents_parts(given_documents):
    ids = assemble(given_documents, VOCABULARY)
    segments = [ids[span.start : span.stop] for span in segment_spans(ids, VOCABULARY)]
    assert len(segments) == 2 * len(given_documents)
    for document, text, image in zip(given_documents, segments[::2], segments[1::2], strict=True):
        assert np.array_equal(text, document.text)
        assert np.array_equal(image, VOCABULARY.image_ids(document.image))


@given(document_lists, st.data())
def test_a_span_is_hidden_within_one_segment_or_refused(given_documents, data):
    ids = assemble(given_documents, VOCABULARY)
    start, stop = data.draw(st.integers(-2, len(ids) + 2)), data.draw(st.integers(-2, len(ids) + 2))
    inside = any(s.start <= start < stop <= s.stop for s in segment_spans(ids, VOCABULARY))
    if inside:
        assert parse(mask(ids, [Span(start, stop)], VOCABULARY), VOCABULARY) == given_documents
    else:
        with pytest.raises(SequenceError):
            mask(ids, [Span(start, stop)], VOCABULARY)


def test_spans_out_of_order_overlapping_or_too_many_are_refused():
    ids = assemble([Document([TEXT] * 9, [1, 2])], VOCABULARY)
    for spans in ([Span(4, 6), Span(1, 3)], [Span(1, 4), Span(3, 6)], [Span(i, i + 1) for i in range(1, 8)]):
        with pytest.raises(SequenceError):
            mask(ids, spans, VOCABULARY)


def _spans_of(ids):
    """The spans that turn unmask(ids) into ids, if `mask` wrote ids."""
    sentinels = np.flatnonzero(VOCABULARY.is_sentinel(ids))
    spans, shift = [], 0
    for place, start in zip(sentinels[: len(sentinels) // 2], sentinels[len(sentinels) // 2 :], strict=True):
        length = int(np.argmax(ids[start:] == EOSS)) - 1
        spans.append(Span(int(place) + shift, int(place) + shift + length))
        shift += length - 1
    return spans


def _accepts_only_what_was_written(ids):
    try:
        found = parse(ids, VOCABULARY)
    except SequenceError:
        return
    spans = _spans_of(ids)
    if all(span.start < span.stop for span in spans):  # `mask` hides no empty span, but a model may write one
        assert np.array_equal(mask(assemble(found, VOCABULARY), spans, VOCABULARY), ids)


@given(st.lists(st.sampled_from([PAD_ID, EOS_ID, TEXT, IMAGE, BREAK, EOSS, S0, S1, VOCABULARY.used]), max_size=12))
def test_random_ids_parse_or_raise_sequence_error(ids):
    _accepts_only_what_was_written(np.array(ids, np.int32))
    _accepts_only_what_was_written(np.array([EOS_ID, *ids, EOS_ID], np.int32))


@given(masked(), st.data())
def test_changed_sequences_parse_or_raise_sequence_error(case, data):
    _, ids, spans = case
    ids = mask(ids, spans, VOCABULARY).tolist()
    for _ in range(data.draw(st.integers(1, 3))):
        assume(ids)
        place = data.draw(st.integers(0, len(ids) - 1))
        change = data.draw(st.sampled_from(["drop", "repeat", "swap", "set"]))
        other = data.draw(st.integers(0, len(ids) - 1))
        if change == "drop":
            del ids[place]
        elif change == "repeat":
            ids.insert(other, ids[place])
        elif change == "swap":
            ids[place], ids[other] = ids[other], ids[place]
        else:
            ids[place] = data.draw(st.integers(-1, VOCABULARY.size))
    _accepts_only_what_was_written(np.array(ids, np.int32))


MALFORMED = {
    "empty": [],
    "one <eos>": [EOS_ID],
    "no document": [EOS_ID, EOS_ID],
    "no <eos> at the start": [TEXT, BREAK, IMAGE, EOS_ID],
    "no <eos> at the end": [EOS_ID, TEXT, BREAK, IMAGE],
    "no <break>": [EOS_ID, TEXT, EOS_ID],
    "a document cut off": [EOS_ID, TEXT, BREAK, IMAGE, BREAK, TEXT, EOS_ID],
    "image where text is due": [EOS_ID, IMAGE, BREAK, EOS_ID],
    "text where an image is due": [EOS_ID, TEXT, BREAK, TEXT, EOS_ID],
    "padding": [EOS_ID, TEXT, BREAK, IMAGE, EOS_ID, PAD_ID],
    "<eos> inside": [EOS_ID, TEXT, EOS_ID, BREAK, IMAGE, EOS_ID],
    "an id without meaning": [EOS_ID, VOCABULARY.used, BREAK, IMAGE, EOS_ID],
    "a sentinel without a tail": [EOS_ID, S0, BREAK, IMAGE, EOS_ID],
    "a tail without <eoss>": [EOS_ID, S0, BREAK, IMAGE, S0, TEXT, EOS_ID],
    "sentinels that do not count from 0": [EOS_ID, S1, BREAK, IMAGE, S1, TEXT, EOSS, EOS_ID],
    "a hidden span across <break>": [EOS_ID, S0, IMAGE, S0, TEXT, BREAK, EOSS, EOS_ID],
    "a sentinel before <eos>": [S0, BREAK, IMAGE, S0, EOS_ID, TEXT, EOSS, EOS_ID],
    "a sentinel in the tail's <eoss>": [EOS_ID, S0, S1, BREAK, S0, S1, TEXT, EOSS, EOS_ID],
}


@pytest.mark.parametrize("ids", MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed_sequences_raise_sequence_error(ids):
    with pytest.raises(SequenceError):
        parse(np.array(ids, np.int32), VOCABULARY)


def test_a_text_that_a_model_ended_at_once_is_read_as_empty():
    ids = np.array([EOS_ID, S0, BREAK, IMAGE, S0, EOSS, EOS_ID])
    assert parse(ids, VOCABULARY) == [Document(image=[0])]


@pytest.mark.parametrize(
    "document",
    [
        Document(text=[EOS_ID]),
        Document(text=[PAD_ID]),
        Document(text=[IMAGE]),
        Document(image=[-1]),
        Document(image=[VOCABULARY.image_size]),
    ],
)
def test_documents_with_ids_out_of_range_are_refused(document):
    with pytest.raises(SequenceError):
        assemble([document], VOCABULARY)


def test_no_documents_are_refused():
    with pytest.raises(SequenceError):
        assemble([], VOCABULARY)


def test_the_layout_is_the_papers():
    first, query = Document([TEXT, TEXT + 1], [0, 1]), Document([TEXT + 2], [2])
    ids = assemble([first, query], VOCABULARY)
    i = VOCABULARY.image_offset
    assert ids.tolist() == [EOS_ID, TEXT, TEXT + 1, BREAK, i, i + 1, BREAK, TEXT + 2, BREAK, i + 2, EOS_ID]
    hidden = mask(ids, [Span(1, 3), Span(9, 10)], VOCABULARY)
    expected = [EOS_ID, S0, BREAK, i, i + 1, BREAK, TEXT + 2, BREAK, S1]
    expected += [S0, TEXT, TEXT + 1, EOSS, S1, i + 2, EOSS, EOS_ID]
    assert hidden.tolist() == expected


def test_positions_are_indices_without_a_stride_and_aligned_behind_breaks_with_one():
    vocabulary = Vocabulary(text_size=20, image_size=16, num_sentinels=4, multiple_of=8)
    ids = assemble([Document([5, 6], [1, 2, 3]), Document([7], [4, 5])], vocabulary)
    assert positions(ids, vocabulary, COUNTED).tolist() == list(range(len(ids)))
    #        <eos> 5  6  <break> 1  2  3  <break> 7  <break> 4   5  <eos>
    rule = PositionRule(stride=8)
    assert positions(ids, vocabulary, rule).tolist() == [0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 24, 25, 26]
    # A generated sequence is placed as it was in training: the prompt's positions are those of the whole.
    for end in range(1, len(ids)):
        assert positions(ids[:end], vocabulary, rule).tolist() == positions(ids, vocabulary, rule)[:end].tolist()


def test_the_query_begins_at_one_position_whatever_was_retrieved():
    vocabulary = Vocabulary(text_size=20, image_size=16, num_sentinels=4, multiple_of=8)
    rule = PositionRule(stride=8, query_at=32)
    query = Document([5, 6], [1, 2, 3])
    for retrieved in ([], [Document([7], [4, 5])], [Document([7], [4, 5])] * 2):
        ids = assemble([*retrieved, query], vocabulary)
        places = positions(ids, vocabulary, rule)
        assert places[-7:].tolist() == [32, 33, 34, 40, 41, 42, 43]  # 5  6  <break> 1  2  3  <eos>
        assert (np.diff(places) > 0).all() and places[0] >= 0
        # So it is where the text is hidden and moved, and where the image is still to be drawn.
        text = segment_spans(ids, vocabulary)[-2]
        hidden = positions(mask(ids, [text], vocabulary), vocabulary, rule)
        assert hidden[text.start :].tolist() == [32, 33, 40, 41, 42, 43, 44, 45, 46, 47]
        for end in range(len(ids) - 4, len(ids)):
            assert positions(ids[:end], vocabulary, rule).tolist() == places[:end].tolist()
    one, *_ = positions(assemble([Document([7], [4, 5]), query], vocabulary), vocabulary, rule)
    assert one == 16
    with pytest.raises(SequenceError, match="retrieve fewer"):
        positions(assemble([Document([7], [4, 5])] * 3 + [query], vocabulary), vocabulary, rule)
