"""Prompts have the layout that training has, and what is drawn from them is read back in its place."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cm3leon_jax.documents import Document, assemble, mask, parse, segment_spans
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.sampling import prompts
from cm3leon_jax.sampling.prompts import BOTH, DRAW, DRAW_SPAN, DRAW_TEXT, HIDDEN, IMAGE, TEXT, Draft, TextHole, compose
from cm3leon_jax.vocabulary import EOS_ID, Vocabulary

VOCABULARY = Vocabulary(text_size=30, image_size=24, num_sentinels=8, multiple_of=16)
BREAK, EOSS, S0, S1 = VOCABULARY.break_id, VOCABULARY.eoss_id, VOCABULARY.sentinel_id(0), VOCABULARY.sentinel_id(1)
WORDS = [7, 8, 9]
CODES = np.arange(6)
IDS = VOCABULARY.image_ids(CODES).tolist()
OTHER = Document([5], [20, 21])
OTHER_IDS = [5, BREAK, *VOCABULARY.image_ids(OTHER.image).tolist(), BREAK]


def test_text_to_image():
    prompt = prompts.text_to_image(WORDS, [], image_tokens=6, vocabulary=VOCABULARY)
    assert prompt.conditional.tolist() == [EOS_ID, *WORDS, BREAK, *[DRAW] * 6, EOS_ID]
    assert prompt.unconditional.tolist() == [EOS_ID, S0, BREAK, *[DRAW] * 6, EOS_ID]
    assert (prompt.start, prompt.steps, prompt.length) == ((5, 3), 6, 11)
    assert prompt.parse(IDS, VOCABULARY) == [Document(WORDS, CODES)]


def test_retrieved_documents_stay_in_both_streams():
    prompt = prompts.text_to_image(WORDS, [OTHER, OTHER], image_tokens=6, vocabulary=VOCABULARY)
    assert prompt.conditional.tolist() == [EOS_ID, *OTHER_IDS, *OTHER_IDS, *WORDS, BREAK, *[DRAW] * 6, EOS_ID]
    assert prompt.unconditional.tolist() == [EOS_ID, *OTHER_IDS, *OTHER_IDS, S0, BREAK, *[DRAW] * 6, EOS_ID]
    assert parse(prompt.complete(IDS, VOCABULARY), VOCABULARY) == [OTHER, OTHER, Document(WORDS, CODES)]


def test_the_other_stream_may_be_the_documents_alone():
    prompt = prompts.text_to_image(WORDS, [OTHER], image_tokens=6, vocabulary=VOCABULARY)
    alone = prompt.with_documents_alone(VOCABULARY)
    assert alone.conditional is prompt.conditional
    assert alone.unconditional.tolist() == [EOS_ID, *OTHER_IDS, BREAK, *[DRAW] * 6, EOS_ID]
    assert (alone.steps, alone.start) == (prompt.steps, (prompt.start[0], prompt.start[1] - 1))
    for other in (
        prompts.text_to_image(WORDS, [], image_tokens=6, vocabulary=VOCABULARY),  # its sentinel stays
        prompts.image_to_text(CODES, [OTHER], max_text=4, vocabulary=VOCABULARY),
        prompts.fill_image(WORDS, CODES, CODES > 3, [OTHER], vocabulary=VOCABULARY),
        prompts.edit_image(WORDS, CODES, task=[6], image_tokens=6, vocabulary=VOCABULARY),
    ):
        assert other.with_documents_alone(VOCABULARY) is other


def test_image_to_text():
    prompt = prompts.image_to_text(CODES, [OTHER], max_text=4, vocabulary=VOCABULARY)
    assert prompt.conditional.tolist() == [EOS_ID, *OTHER_IDS, S0, BREAK, *IDS, S0, *[DRAW_SPAN] * 4, EOSS, EOS_ID]
    assert prompt.unconditional.tolist() == [EOS_ID, *OTHER_IDS, S0, BREAK, S1, S0, *[DRAW_SPAN] * 4, EOSS, EOS_ID]
    assert prompt.parse([7, 8, EOSS, 3], VOCABULARY) == [Document([7, 8], CODES)]
    assert prompt.parse([7, 8, 9, 10], VOCABULARY) == [Document([7, 8, 9, 10], CODES)]
    whole = assemble([OTHER, Document([7, 8], CODES)], VOCABULARY)
    text = segment_spans(whole, VOCABULARY)[2]
    np.testing.assert_array_equal(prompt.complete([7, 8, EOSS], VOCABULARY), mask(whole, [text], VOCABULARY))


def test_fill_image():
    hidden = np.array([True, True, False, False, True, False])
    prompt = prompts.fill_image(WORDS, CODES, hidden, [], vocabulary=VOCABULARY)
    head = [S0, IDS[2], IDS[3], S1, IDS[5]]
    assert prompt.conditional.tolist() == [
        *[EOS_ID, *WORDS, BREAK, *head],
        *[S0, DRAW, DRAW, EOSS, S1, DRAW, EOSS, EOS_ID],
    ]
    s2 = VOCABULARY.sentinel_id(2)
    assert prompt.unconditional.tolist() == [
        *[EOS_ID, S0, BREAK, S1, IDS[2], IDS[3], s2, IDS[5]],
        *[S1, DRAW, DRAW, EOSS, s2, DRAW, EOSS, EOS_ID],
    ]
    assert prompt.steps == 5


@settings(max_examples=100, deadline=None)
@given(
    text=st.lists(st.integers(2, 29), min_size=1, max_size=6),
    cells=st.lists(st.tuples(st.integers(0, 23), st.booleans()), min_size=1, max_size=14),
    retrieved=st.integers(0, 2),
)
def test_filling_in_what_was_hidden_gives_the_document_back(text, cells, retrieved):
    codes, hidden = (np.array(column) for column in zip(*cells, strict=True))
    document = Document(text, codes)
    spans = prompts.hidden_spans(hidden, 0)
    if not 0 < len(spans) < VOCABULARY.num_sentinels:
        with pytest.raises(UserError):
            prompts.fill_image(text, codes, hidden, [], vocabulary=VOCABULARY)
        return
    prompt = prompts.fill_image(text, codes, hidden, [OTHER] * retrieved, vocabulary=VOCABULARY)
    assert sum(span.stop - span.start for span in spans) == (prompt.conditional == DRAW).sum() == hidden.sum()
    # Both streams draw and are forced at the same steps.
    plans = [
        template[start : start + prompt.steps]
        for template, start in zip((prompt.conditional, prompt.unconditional), prompt.start, strict=True)
    ]
    np.testing.assert_array_equal(plans[0] == DRAW, plans[1] == DRAW)
    drawn = plans[0].copy()
    drawn[drawn == DRAW] = VOCABULARY.image_ids(codes[hidden])
    assert parse(prompt.complete(drawn, VOCABULARY), VOCABULARY) == [OTHER] * retrieved + [document]


def test_a_prompts_seed_is_its_own():
    one = prompts.text_to_image(WORDS, [], image_tokens=6, vocabulary=VOCABULARY)
    same = prompts.text_to_image(np.array(WORDS), [], image_tokens=6, vocabulary=VOCABULARY)
    other = prompts.text_to_image(WORDS[:2], [], image_tokens=6, vocabulary=VOCABULARY)
    assert one.seed == same.seed != other.seed and 0 <= one.seed < 2**32


def test_bad_requests_are_the_users_error():
    with pytest.raises(UserError, match="write what it should show"):
        prompts.text_to_image([], [], image_tokens=6, vocabulary=VOCABULARY)
    with pytest.raises(UserError, match="another model"):
        prompts.text_to_image([200], [], image_tokens=6, vocabulary=VOCABULARY)
    with pytest.raises(UserError, match="nothing is hidden"):
        prompts.fill_image(WORDS, CODES, np.zeros(6, bool), [], vocabulary=VOCABULARY)
    with pytest.raises(UserError, match="shape"):
        prompts.fill_image(WORDS, CODES, np.ones(5, bool), [], vocabulary=VOCABULARY)
    with pytest.raises(UserError, match="at least one"):
        prompts.image_to_text([], [], max_text=4, vocabulary=VOCABULARY)


def test_holes_that_nothing_follows_are_drawn_where_they_stand():
    whole = np.full(3, HIDDEN)
    prompt = compose([Draft([[7]], whole), Draft([TextHole(2)], whole)], [OTHER], vocabulary=VOCABULARY)
    behind = [*[DRAW] * 3, BREAK, DRAW_TEXT, DRAW_TEXT, BREAK, *[DRAW] * 3, EOS_ID]
    assert prompt.conditional.tolist() == [EOS_ID, *OTHER_IDS, 7, BREAK, *behind]
    assert prompt.unconditional.tolist() == [EOS_ID, *OTHER_IDS, S0, BREAK, *behind]
    assert (prompt.draws, prompt.steps, prompt.documents) == (BOTH, 10, 2)
    assert prompt.text_ends.tolist() == [0, 0, 0, 0, 6, 6, 0, 0, 0, 0]
    full = [*IDS[:3], BREAK, 8, 9, BREAK, *IDS[3:]]
    assert prompt.parse(full, VOCABULARY) == [Document([7], CODES[:3]), Document([8, 9], CODES[3:])]
    early = [*IDS[:3], BREAK, BREAK, -1, -1, *IDS[3:]]
    assert prompt.parse(early, VOCABULARY) == [Document([7], CODES[:3]), Document([], CODES[3:])]


def test_pictures_one_behind_the_other_read_a_break_between_them():
    whole = np.full(3, HIDDEN)
    prompt = compose([Draft([[7]], whole), Draft([], whole)], vocabulary=VOCABULARY)
    assert prompt.plan.tolist() == [*[DRAW] * 3, BREAK, BREAK, *[DRAW] * 3] and prompt.draws == BOTH


def test_holes_that_something_follows_are_drawn_at_the_end():
    drafts = [Draft([[7], TextHole(2), [8]], np.array([4, HIDDEN, 5]))]
    prompt = compose(drafts, vocabulary=VOCABULARY)
    four, five, s2 = VOCABULARY.image_offset + 4, VOCABULARY.image_offset + 5, VOCABULARY.sentinel_id(2)
    tail = [S0, DRAW_SPAN, DRAW_SPAN, EOSS, S1, DRAW, EOSS, EOS_ID]
    assert prompt.conditional.tolist() == [EOS_ID, 7, S0, 8, BREAK, four, S1, five, *tail]
    # Without the text that is given; the hole in it remains.
    assert prompt.unconditional.tolist() == [EOS_ID, S0, BREAK, four, S1, five, *tail]
    assert prompt.parse([9, EOSS, -1, S1, IDS[2], 0, 0], VOCABULARY) == [Document([7, 9, 8], [4, 2, 5])]
    captioned = compose([Draft([TextHole(2)], CODES[:2])], vocabulary=VOCABULARY)
    assert captioned.draws == TEXT and s2 not in captioned.conditional


def test_editing_hides_the_instruction_and_then_the_image_too():
    prompt = prompts.edit_image(WORDS, CODES[:2], task=[5], image_tokens=2, vocabulary=VOCABULARY)
    full, image, nothing = (template.tolist() for template in prompt.templates)
    assert full == [EOS_ID, 5, BREAK, *IDS[:2], BREAK, *WORDS, BREAK, DRAW, DRAW, EOS_ID]
    assert image == [EOS_ID, 5, BREAK, *IDS[:2], BREAK, S0, BREAK, DRAW, DRAW, EOS_ID]
    assert nothing == [EOS_ID, 5, BREAK, S0, BREAK, S1, BREAK, DRAW, DRAW, EOS_ID]
    assert prompt.draws == IMAGE
    assert prompt.parse(IDS[:2], VOCABULARY) == [Document(WORDS, CODES[:2])]  # without the image that was given


@st.composite
def drafts(draw):
    """One to three documents with holes, and what the holes hide."""
    found = []
    for _ in range(draw(st.integers(1, 3))):
        words = draw(st.lists(st.lists(st.integers(2, 29), min_size=1, max_size=3), max_size=3))
        holes = [draw(st.booleans()) for _ in words]
        codes = np.array(draw(st.lists(st.integers(0, 23), max_size=5)), np.int32)
        hidden = np.array([draw(st.booleans()) for _ in codes], bool)
        # Two holes side by side would be one: only every second piece can be a hole.
        text = [
            TextHole(len(words[n]) + n % 2) if hole and n % 2 == 0 else np.array(words[n])
            for n, hole in enumerate(holes)
        ]
        told = [p if isinstance(t, TextHole) else None for p, t in zip(words, text, strict=True)]
        found.append(
            (Draft(text, np.where(hidden, HIDDEN, codes)), Document(list(itertools.chain(*words)), codes), told)
        )
    return found


@settings(max_examples=200, deadline=None)
@given(asked=drafts(), context=st.integers(0, 2))
def test_any_holes_filled_with_what_they_hid_give_the_documents_back(asked, context):
    given_drafts, whole, _ = zip(*asked, strict=True)
    if not any(isinstance(t, TextHole) for d in given_drafts for t in d.text) and not any(
        (d.image == HIDDEN).any() for d in given_drafts
    ):
        with pytest.raises(UserError, match="nothing is to be drawn"):
            compose(given_drafts, [OTHER] * context, vocabulary=VOCABULARY)
        return
    try:
        prompt = compose(given_drafts, [OTHER] * context, vocabulary=VOCABULARY)
    except UserError as error:
        assert "hide fewer parts" in str(error)
        return
    plans = [t[s : s + prompt.steps] for t, s in zip(prompt.templates, prompt.start, strict=True)]
    np.testing.assert_array_equal(plans[0] < 0, plans[1] < 0)
    assert all((template[:start] >= 0).all() for template, start in zip(prompt.templates, prompt.start, strict=True))
    # What the model would draw, in the order of the template: in place first, then the tail.
    drawn, unfinished = prompt.plan.copy(), prompt.plan.copy()
    order = drawing_order(asked)
    step = 0
    for tokens in order:
        while prompt.plan[step] >= 0:
            step += 1
        kind, length = prompt.plan[step], 1
        while step + length < prompt.steps and prompt.plan[step + length] == kind and kind < DRAW:
            length += 1
        if kind == DRAW:
            length = len(tokens)
        drawn[step : step + len(tokens)] = tokens
        if len(tokens) < length:
            drawn[step + len(tokens)] = EOSS if kind == DRAW_SPAN else BREAK
        step += length
    assert prompt.parse(drawn, VOCABULARY) == list(whole)
    answers = [piece for _, _, told in asked for piece in told if piece is not None]
    assert [text.tolist() for text in prompt.drawn_texts(drawn, VOCABULARY)] == answers
    # Of what is unfinished, that which was drawn is there, and nothing else.
    half = prompt.steps // 2
    unfinished[:half] = drawn[:half]
    so_far = prompt.parse_unfinished(np.where(np.arange(prompt.steps) < half, drawn, -1), VOCABULARY)
    for document, expected in zip(so_far, whole, strict=True):
        known = document.image != HIDDEN
        assert len(document.image) == len(expected.image)
        np.testing.assert_array_equal(document.image[known], expected.image[known])


def drawing_order(asked):
    """Of each hole what it hides, as ids: those in place, in order, then those in the tail."""
    segments = []
    for draft, document, told in asked:
        segments.append([np.array(p) for p in told if p is not None])
        spans = prompts.hidden_spans(draft.image == HIDDEN, 0)
        segments.append([VOCABULARY.image_ids(document.image[s.start : s.stop]) for s in spans])
        given_text = any(not isinstance(t, TextHole) for t in draft.text)
        segments[-2:] = [(given_text, segments[-2]), ((draft.image != HIDDEN).any(), segments[-1])]
    first = len(segments)
    while first and not segments[first - 1][0]:
        first -= 1
    return [one for _, some in segments[first:] for one in some] + [one for _, some in segments[:first] for one in some]
