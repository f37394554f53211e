"""The joint vocabulary: every id has exactly one meaning."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cm3leon_jax.vocabulary import CM3LEON, EOS_ID, NUM_CONTROL, PAD_ID, Vocabulary

vocabularies = st.builds(
    Vocabulary,
    text_size=st.integers(NUM_CONTROL + 1, 400),
    image_size=st.integers(1, 400),
    num_sentinels=st.integers(1, 600),
    multiple_of=st.sampled_from([1, 128, 256]),
    num_others=st.integers(0, 300),
)


def test_the_papers():
    assert CM3LEON.image_offset == 56_320
    assert CM3LEON.image_size == 8_192
    assert CM3LEON.num_sentinels == 512
    assert CM3LEON.used + CM3LEON.num_others == 65_536 + 2 + 512  # <break>, <eoss> and sentinels behind the 65,536
    assert CM3LEON.size == 66_176
    assert dataclasses.replace(CM3LEON, num_others=0) == Vocabulary()
    sizes = {"text_size": 56_320, "image_size": 8_192, "num_sentinels": 512, "multiple_of": 128}
    assert Vocabulary.sized(**sizes) == CM3LEON
    assert Vocabulary.sized(**sizes | {"text_size": 56_319}) == Vocabulary(text_size=56_319)


@given(vocabularies)
def test_each_id_below_used_has_exactly_one_meaning(vocabulary):
    ids = np.arange(vocabulary.size)
    meanings = [
        ids == PAD_ID,
        ids == EOS_ID,
        vocabulary.is_text(ids),
        vocabulary.is_image(ids),
        ids == vocabulary.break_id,
        ids == vocabulary.eoss_id,
        vocabulary.is_sentinel(ids),
    ]
    counts = np.sum(meanings, axis=0)
    assert (counts[: vocabulary.used] == 1).all()
    assert not counts[vocabulary.used :].any()
    assert vocabulary.size % vocabulary.multiple_of == 0
    assert 0 <= vocabulary.size - vocabulary.used - vocabulary.num_others < vocabulary.multiple_of


@given(vocabularies, st.data())
def test_image_codes_survive(vocabulary, data):
    codes = np.array(data.draw(st.lists(st.integers(0, vocabulary.image_size - 1))), np.int32)
    ids = vocabulary.image_ids(codes)
    assert vocabulary.is_image(ids).all()
    assert np.array_equal(vocabulary.image_codes(ids), codes)


@given(vocabularies)
def test_sentinels_are_numbered_in_order(vocabulary):
    ids = [vocabulary.sentinel_id(index) for index in range(vocabulary.num_sentinels)]
    assert ids == list(range(vocabulary.sentinel_offset, vocabulary.used))
    for index in (-1, vocabulary.num_sentinels):
        with pytest.raises(ValueError):
            vocabulary.sentinel_id(index)


@pytest.mark.parametrize("codes", [[-1], [8192], [0, 9000]])
def test_codes_out_of_range_are_refused(codes):
    with pytest.raises(ValueError, match="image codes"):
        Vocabulary().image_ids(np.array(codes))


def test_ids_that_are_not_image_tokens_are_refused():
    with pytest.raises(ValueError, match="not image tokens"):
        Vocabulary().image_codes(np.array([56_320, 5]))


@pytest.mark.parametrize("sizes", [{"text_size": 3}, {"image_size": 0}, {"num_sentinels": 0}, {"multiple_of": 0}])
def test_a_vocabulary_without_a_part_is_refused(sizes):
    with pytest.raises(ValueError):
        Vocabulary(**sizes)
