"""Prompts have the layout that training has, and what is drawn from them is read back in its place."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cm3leon_jax.documents import Document, assemble, mask, parse, segment_spans
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.sampling import prompts
from cm3leon_jax.sampling.prompts import DRAW
from cm3leon_jax.vocabulary import EOS_ID, Vocabulary

VOCABULARY = Vocabulary(text_size=30, image_size=24, num_sentinels=8, multiple_of=16)
BREAK, EOSS, S0, S1 = VOCABULARY.break_id, VOCABULARY.eoss_id, VOCABULARY.sentinel_id(0), VOCABULARY.sentinel_id(1)
TEXT = [7, 8, 9]
CODES = np.arange(6)
IDS = VOCABULARY.image_ids(CODES).tolist()
OTHER = Document([5], [20, 21])
OTHER_IDS = [5, BREAK, *VOCABULARY.image_ids(OTHER.image).tolist(), BREAK]


def test_text_to_image():
    prompt = prompts.text_to_image(TEXT, [], image_tokens=6, vocabulary=VOCABULARY)
    assert prompt.conditional.tolist() == [EOS_ID, *TEXT, BREAK, *[DRAW] * 6, EOS_ID]
    assert prompt.unconditional.tolist() == [EOS_ID, S0, BREAK, *[DRAW] * 6, EOS_ID]
    assert (prompt.start, prompt.steps, prompt.length) == ((5, 3), 6, 11)
    assert prompt.parse(IDS, VOCABULARY) == Document(TEXT, CODES)


def test_retrieved_documents_stay_in_both_streams():
    prompt = prompts.text_to_image(TEXT, [OTHER, OTHER], image_tokens=6, vocabulary=VOCABULARY)
    assert prompt.conditional.tolist() == [EOS_ID, *OTHER_IDS, *OTHER_IDS, *TEXT, BREAK, *[DRAW] * 6, EOS_ID]
    assert prompt.unconditional.tolist() == [EOS_ID, *OTHER_IDS, *OTHER_IDS, S0, BREAK, *[DRAW] * 6, EOS_ID]
    assert parse(prompt.complete(IDS, VOCABULARY), VOCABULARY) == [OTHER, OTHER, Document(TEXT, CODES)]


def test_image_to_text():
    prompt = prompts.image_to_text(CODES, [OTHER], max_text=4, vocabulary=VOCABULARY)
    assert prompt.conditional.tolist() == [EOS_ID, *OTHER_IDS, S0, BREAK, *IDS, S0, *[DRAW] * 4, EOSS, EOS_ID]
    assert prompt.unconditional.tolist() == [EOS_ID, *OTHER_IDS, S0, BREAK, S1, S0, *[DRAW] * 4, EOSS, EOS_ID]
    assert prompt.parse([7, 8, EOSS, 3], VOCABULARY) == Document([7, 8], CODES)
    assert prompt.parse([7, 8, 9, 10], VOCABULARY) == Document([7, 8, 9, 10], CODES)
    whole = assemble([OTHER, Document([7, 8], CODES)], VOCABULARY)
    text = segment_spans(whole, VOCABULARY)[2]
    np.testing.assert_array_equal(prompt.complete([7, 8, EOSS], VOCABULARY), mask(whole, [text], VOCABULARY))


def test_fill_image():
    hidden = np.array([True, True, False, False, True, False])
    prompt = prompts.fill_image(TEXT, CODES, hidden, [], vocabulary=VOCABULARY)
    head = [S0, IDS[2], IDS[3], S1, IDS[5]]
    assert prompt.conditional.tolist() == [
        *[EOS_ID, *TEXT, BREAK, *head],
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
    one = prompts.text_to_image(TEXT, [], image_tokens=6, vocabulary=VOCABULARY)
    same = prompts.text_to_image(np.array(TEXT), [], image_tokens=6, vocabulary=VOCABULARY)
    other = prompts.text_to_image(TEXT[:2], [], image_tokens=6, vocabulary=VOCABULARY)
    assert one.seed == same.seed != other.seed and 0 <= one.seed < 2**32


def test_bad_requests_are_the_users_error():
    with pytest.raises(UserError, match="write what it should show"):
        prompts.text_to_image([], [], image_tokens=6, vocabulary=VOCABULARY)
    with pytest.raises(UserError, match="another model"):
        prompts.text_to_image([200], [], image_tokens=6, vocabulary=VOCABULARY)
    with pytest.raises(UserError, match="nothing is hidden"):
        prompts.fill_image(TEXT, CODES, np.zeros(6, bool), [], vocabulary=VOCABULARY)
    with pytest.raises(UserError, match="shape"):
        prompts.fill_image(TEXT, CODES, np.ones(5, bool), [], vocabulary=VOCABULARY)
    with pytest.raises(UserError, match="at least one"):
        prompts.image_to_text([], [], max_text=4, vocabulary=VOCABULARY)
