import dataclasses

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cm3leon_jax.data.inspection.rendering import render
from cm3leon_jax.data.inspection.sequences import hidden_spans, inspect_sequences
from cm3leon_jax.data.objective import ObjectiveConfig, choose_spans
from cm3leon_jax.documents import Document, Span, assemble, mask
from cm3leon_jax.vocabulary import UNK_ID, Vocabulary

VOCABULARY = Vocabulary(text_size=150, image_size=10, num_sentinels=4, multiple_of=8)


class Letters:
    def encode(self, text):
        return np.array([ord(letter) for letter in text], np.int32)

    def decode(self, ids):
        return "".join(chr(value) for value in ids)


@dataclasses.dataclass
class Squares:
    """Stands in for the image tokenizer: a code is a gray square of 2 by 2 pixels."""

    grid: tuple[int, int] = (2, 3)

    def decode(self, codes):
        gray = (codes.reshape(-1, *self.grid) * 20 + 60).repeat(2, 1).repeat(2, 2)
        return np.stack([gray] * 3, -1).astype(np.uint8)


def pair(text, image=(0, 1, 2, 3, 4, 5)):
    return Document(Letters().encode(text), image)


def test_sequences_are_readable():
    ids = assemble([pair("a cat"), pair("<b> & c")], VOCABULARY)
    assert render(ids, VOCABULARY, Letters()) == (
        "<eos> a cat <break> [image 6 codes] <break> <b> & c <break> [image 6 codes] <eos>"
    )
    masked = mask(ids, [Span(1, 6), Span(8, 10)], VOCABULARY)
    assert render(masked, VOCABULARY).endswith(
        "<sentinel:0> [text 5 ids] <eoss> <sentinel:1> [image 2 codes] <eoss> <eos>"
    )
    assert render(np.array([0, 0, 0, VOCABULARY.used]), VOCABULARY) == f"[padding 3] <unused:{VOCABULARY.used}>"


@given(st.lists(st.integers(-2, VOCABULARY.size + 2)))
def test_any_ids_can_be_rendered(ids):
    render(np.array(ids, np.int32), VOCABULARY)


@given(st.integers(0, 2**32), st.integers(1, 3))
def test_hidden_spans_are_those_that_were_hidden(seed, count):
    rng = np.random.default_rng(seed)
    documents = [
        Document(rng.integers(UNK_ID, 150, rng.integers(9)), rng.integers(0, 10, rng.integers(9))) for _ in range(count)
    ]
    ids = assemble(documents, VOCABULARY)
    spans = choose_spans(ids, VOCABULARY, rng, ObjectiveConfig(), 2)
    assert hidden_spans(mask(ids, spans, VOCABULARY), VOCABULARY) == spans


def test_a_section_shows_texts_and_images_with_hidden_parts_dark():
    ids = assemble([pair("a cat"), pair("<b> & c")], VOCABULARY)
    masked = mask(ids, [Span(7, 9)], VOCABULARY)  # the first two codes of the first image
    cut = ids[:-4]
    found = inspect_sequences([("masked", masked), ("cut off", cut)], VOCABULARY, Letters(), Squares())
    assert found.text.count("a cat") == 2 and "1. masked" in found.text and "2. cut off" in found.text
    assert len(found.images) == 2
    whole = Squares().decode(np.arange(6))[0]
    assert np.array_equal(found.images[1], whole)
    assert np.array_equal(found.images[0][2:], whole[2:])
    assert np.array_equal(found.images[0][:2, 4:], whole[:2, 4:])
    assert np.array_equal(found.images[0][:2, :4], whole[:2, :4] // 3)
    assert found.html.count("data:image/png;base64,") == 2
    assert "&lt;b&gt; &amp; c" in found.html and "<b>" not in found.html


def test_documents_without_a_whole_image_are_shown_as_text_alone():
    ids = assemble([pair("a cat", []), pair("", [1, 2])], VOCABULARY)
    assert inspect_sequences([("x", ids)], VOCABULARY, Letters(), Squares()).images == []
