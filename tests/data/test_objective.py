"""The CM3 objective: what may be hidden, and how often what is hidden."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cm3leon_jax.data.objective import Example, Objective, ObjectiveConfig
from cm3leon_jax.documents import Document, Span, assemble, parse, segment_spans
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.vocabulary import UNK_ID, Vocabulary

VOCABULARY = Vocabulary(text_size=20, image_size=10, num_sentinels=6, multiple_of=8)

documents = st.builds(
    Document,
    text=st.lists(st.integers(UNK_ID, VOCABULARY.text_size - 1), max_size=10),
    image=st.lists(st.integers(0, VOCABULARY.image_size - 1), max_size=20),
)
configs = st.one_of(
    st.builds(
        ObjectiveConfig,
        mode=st.just("poisson"),
        rate=st.floats(0, 8),
        max_spans=st.integers(0, 9),
        whole_segment_probability=st.floats(0, 1),
        whole_text_share=st.one_of(st.none(), st.floats(0, 1)),
    ),
    st.builds(ObjectiveConfig, mode=st.just("fixed"), rate=st.integers(0, 8)),
    st.builds(ObjectiveConfig, mode=st.just("fim"), rate=st.floats(0, 1)),
)


def pair(texts=9, images=64, retrieved=0):
    rng = np.random.default_rng(0)
    text = rng.integers(UNK_ID, VOCABULARY.text_size, texts)
    return assemble([Document(text, rng.integers(0, 10, images))] * (retrieved + 1), VOCABULARY)


def draws(ids, config, count=4000):
    """The spans that are hidden in an example, each time it is used."""
    objective = Objective(VOCABULARY, config)
    found = []
    for key in range(count):
        hidden = objective.hide_in_example(Example(ids, key), 10 * len(ids))
        found.append(spans_of(hidden.ids))
    return found


def spans_of(masked):
    """Where the hidden spans of a masked example stand in it unmasked, in order."""
    sentinels = np.flatnonzero(VOCABULARY.is_sentinel(masked))
    places, tails = np.split(sentinels, 2)
    spans, longer = [], 0
    for place, tail in zip(places.tolist(), tails.tolist(), strict=True):
        length = int((masked[tail:] == VOCABULARY.eoss_id).argmax()) - 1
        spans.append(Span(place + longer, place + longer + length))
        longer += length - 1
    return spans


@settings(max_examples=300)
@given(st.lists(documents, min_size=1, max_size=4), configs, st.integers(0, 2**62))
def test_spans_are_in_order_apart_not_empty_and_each_inside_one_segment(given_documents, config, seed):
    ids = assemble(given_documents, VOCABULARY)
    masked = Objective(VOCABULARY, config).hide_in_example(Example(ids, seed), 10_000).ids
    spans = spans_of(masked)
    assert len(spans) <= min(config.max_spans, VOCABULARY.num_sentinels)
    end = 0
    segments = segment_spans(ids, VOCABULARY)
    for span in spans:
        assert end <= span.start < span.stop
        assert any(segment.start <= span.start and span.stop <= segment.stop for segment in segments)
        end = span.stop
    assert len(masked) == len(ids) + 3 * len(spans)
    assert parse(masked, VOCABULARY) == given_documents


def test_the_same_key_gives_the_same_spans():
    assert draws(pair(), ObjectiveConfig(), 50) == draws(pair(), ObjectiveConfig(), 50)


@pytest.mark.parametrize("rate", [0.5, 1.0, 2.0])
def test_poisson_leaves_the_share_causal_that_it_should(rate):
    counts = [len(spans) for spans in draws(pair(), ObjectiveConfig(rate=rate))]
    assert np.mean([count == 0 for count in counts]) == pytest.approx(math.exp(-rate), abs=0.025)
    # Not always is there room for the later ones, least where a whole image is hidden already.
    assert 0.85 * rate < np.mean(counts) < 1.03 * rate


def test_fixed_and_fim_counts():
    assert {len(spans) for spans in draws(pair(retrieved=2), ObjectiveConfig(mode="fixed", rate=2), 300)} == {2}
    fim = [len(spans) for spans in draws(pair(), ObjectiveConfig(mode="fim", rate=0.7))]
    assert set(fim) == {0, 1}
    assert np.mean(fim) == pytest.approx(0.7, abs=0.025)


def test_whole_segments_are_taken_as_often_as_told():
    ids = pair(retrieved=2)
    segments = segment_spans(ids, VOCABULARY)
    config = ObjectiveConfig(mode="fixed", rate=1, whole_segment_probability=0.4, whole_text_share=0.25)
    taken = [segments.index(spans[0]) if spans[0] in segments else None for spans in draws(ids, config)]
    shares = [np.mean([place == segment for place in taken]) for segment in range(6)]
    # A random span also covers a whole text or image now and then.
    assert shares[0::2] == pytest.approx([0.4 * 0.25 / 3] * 3, abs=0.015)
    assert sum(shares[1::2]) == pytest.approx(0.4 * 0.75, abs=0.2)
    assert taken.count(None) > 0


def test_without_whole_segments_a_caption_is_practically_never_hidden():
    """Why whole_segment_probability is not 0 by default."""
    ids = pair(images=1024)
    config = ObjectiveConfig(mode="fixed", rate=1, whole_segment_probability=0)
    caption = segment_spans(ids, VOCABULARY)[0]
    assert np.mean([spans[0] == caption for spans in draws(ids, config)]) < 0.002
    default = [spans == [caption] for spans in draws(ids, ObjectiveConfig())]
    assert np.mean(default) > 0.03


def test_masks_are_whole_segments_together_or_none_is():
    """As the authors draw them: each segment as likely, texts and images alike, and fewer than there are."""
    ids = pair(retrieved=2)
    segments = segment_spans(ids, VOCABULARY)
    config = ObjectiveConfig(mode="fixed", rate=3, whole_segment_probability=0.4)
    drawn = draws(ids, config)
    together = [spans for spans in drawn if all(span in segments for span in spans)]
    assert np.mean([len(spans) == 3 for spans in together]) > 0.99
    assert len(together) / len(drawn) == pytest.approx(0.4, abs=0.03)
    shares = np.bincount([segments.index(span) for spans in together for span in spans], minlength=6) / len(together)
    assert shares == pytest.approx([0.5] * 6, abs=0.04)


def test_a_random_span_is_clipped_to_the_segment_that_it_overlaps_most():
    ids = pair(texts=4, images=16)
    config = ObjectiveConfig(mode="fixed", rate=1, whole_segment_probability=0)
    spans = [spans[0] for spans in draws(ids, config)]
    # Positions 0 … 22: a span ends in the caption (1 … 4) when most of it lies there.
    assert all(span.stop <= 5 or span.start >= 6 for span in spans)
    in_image = np.mean([span.start >= 6 for span in spans])
    pairs = [(low, high + 1) for low in range(23) for high in range(low, 23)]
    weights = [1 if high - low == 1 else 2 for low, high in pairs]
    overlaps = [(min(high, 5) - max(low, 1), min(high, 22) - max(low, 6)) for low, high in pairs]
    image = sum(w for w, (t, i) in zip(weights, overlaps, strict=True) if i > max(t, 0))
    text = sum(w for w, (t, i) in zip(weights, overlaps, strict=True) if t > 0 and t >= i)
    assert in_image == pytest.approx(image / (image + text), abs=0.025)


@pytest.mark.parametrize("probability", [0.0, 0.3, 1.0])
def test_all_answers_are_hidden_together_as_often_as_told_and_nothing_else_then(probability):
    ids = pair(texts=12)
    (text, _) = segment_spans(ids, VOCABULARY)
    answers = [Span(text.start + 2, text.start + 4), Span(text.start + 7, text.start + 8)]
    config = ObjectiveConfig(mode="fixed", rate=1, whole_segment_probability=0, answer_probability=probability)
    objective = Objective(VOCABULARY, config)
    examples = [Example(ids, key, answers=tuple(answers)) for key in range(2000)]
    drawn = [spans_of(objective.hide_in_example(example, 1000).ids) for example in examples]
    together = [set(answers) <= set(spans) for spans in drawn]
    assert np.mean(together) == pytest.approx(probability, abs=0.03)
    assert all(len(spans) == (2 if hidden else 1) for spans, hidden in zip(drawn, together, strict=True))
    assert all(a.stop <= b.start for spans in drawn for a, b in itertools.pairwise(spans))
    # An example that just fits is not cut for the sake of masks.
    length = len(ids) + 6
    tight = [objective.hide_in_example(example, length) for example in examples]
    assert all(hidden.used == len(ids) for hidden in tight)
    assert [set(answers) <= set(spans_of(hidden.ids)) for hidden in tight] == together


def test_of_one_document_not_both_parts_are_hidden_whole():
    """What a caption is asked for is seen, and the other way round."""
    ids = pair(retrieved=2)
    segments = segment_spans(ids, VOCABULARY)
    config = ObjectiveConfig(mode="fixed", rate=2, whole_segment_probability=1)
    for spans in draws(ids, config, 500):
        assert len({segments.index(span) // 2 for span in spans}) == len(spans) == 2


def test_documents_without_content_stay_causal():
    ids = assemble([Document(), Document()], VOCABULARY)
    assert draws(ids, ObjectiveConfig(mode="fixed", rate=3), 20) == [[]] * 20


def test_a_missing_modality_leaves_the_other():
    ids = assemble([Document(text=[5, 6, 7])], VOCABULARY)
    config = ObjectiveConfig(mode="fixed", rate=1, whole_segment_probability=1, whole_text_share=0)
    assert draws(ids, config, 5) == [segment_spans(ids, VOCABULARY)[:1]] * 5


@pytest.mark.parametrize(
    "wrong",
    [
        {"mode": "random"},
        {"rate": -1.0},
        {"max_spans": -1},
        {"mode": "fixed", "rate": 1.5},
        {"mode": "fim", "rate": 1.5},
        {"whole_segment_probability": 1.1},
        {"whole_text_share": -0.1},
    ],
)
def test_settings_without_sense_are_refused(wrong):
    with pytest.raises(UserError):
        ObjectiveConfig(**wrong)
