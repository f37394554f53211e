"""The likelihood of given answers, against a slow loop: one sequence at a time, without a cache."""

import dataclasses

import jax
import numpy as np
import pytest
from tiny_generator import CONFIG, VOCABULARY, Letters, random_params, tiny_generator

from cm3leon_jax.documents import PositionRule, positions
from cm3leon_jax.model.decoder import hidden_states, logits
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.sampling.generate import Engine
from cm3leon_jax.sampling.parts import ImageHole
from cm3leon_jax.sampling.prompts import TextHole

PICTURE = np.arange(16, dtype=np.int32)
ANSWERS = [["yes", "no", "maybe", ""], ["cat"], ["ab", "ba"]]


@pytest.fixture(scope="module")
def generator():
    return tiny_generator()


def asked(generator):
    return [
        generator.ask(["question ", TextHole(1), ".", PICTURE]),  # filled in
        generator.ask(["and a longer question ", TextHole(1), PICTURE]),
        generator.ask([PICTURE, TextHole(5)]),  # written where it stands
    ]


def slow(prompt, answer, end, config):
    """log p(answer, end | what stands before the hole), token by token."""
    before = prompt.conditional[: prompt.start[0]]
    ids = np.concatenate([before, Letters().encode(answer), [end]])
    where = positions(ids, VOCABULARY, config.position_rule)[:-1]
    params = random_params()
    hidden = hidden_states(params, ids[None, :-1], config=config, positions_BxL=where[None])
    rows = jax.nn.log_softmax(logits(params, hidden))[0]
    return sum(float(rows[place, ids[place + 1]]) for place in range(len(before) - 1, len(ids) - 1))


@pytest.mark.parametrize("rule", [PositionRule(), PositionRule(4, 2), PositionRule(4, 24)])
def test_likelihoods_equal_a_slow_loop(generator, rule):
    config = dataclasses.replace(CONFIG, position_stride=rule.stride, query_position=rule.query_at)
    prompts, ids = asked(generator), [[Letters().encode(answer) for answer in each] for each in ANSWERS]
    if rule.query_at == 2:  # documents before the query may not take more positions than that
        prompts, ids = prompts[:2], ids[:2]
    engine = Engine(random_params(), config, VOCABULARY, batch_size=4)
    found = engine.logprobs([engine.question(prompt, each) for prompt, each in zip(prompts, ids, strict=True)])
    assert [len(each) for each in found] == [len(each) for each in ids]
    for prompt, scores, answers in zip(prompts, found, ANSWERS, strict=False):
        end = VOCABULARY.break_id if prompt is prompts[-1] and rule.query_at != 2 else VOCABULARY.eoss_id
        expected = [slow(prompt, answer, end, config) for answer in answers]
        np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-4)


def test_what_is_asked_beside_changes_nothing(generator):
    questions = [generator.question(*each) for each in zip(asked(generator), ANSWERS, strict=True)]
    together = generator.logprobs(questions)
    np.testing.assert_allclose(together[1], generator.logprobs(questions[1:2])[0], rtol=1e-4, atol=1e-4)
    assert generator.logprobs([]) == []


def test_what_cannot_be_scored_is_one_line(generator):
    (prompt, *_) = asked(generator)
    with pytest.raises(UserError, match="one hole for a text"):
        generator.question(generator.ask(["a", ImageHole()]), ["x"])
    with pytest.raises(UserError, match="one hole for a text"):
        generator.question(generator.ask(["a", TextHole(2), "b", TextHole(2), PICTURE]), ["x"])
    with pytest.raises(UserError, match="no answers to score"):
        generator.question(prompt, [])
    with pytest.raises(UserError, match="the model holds 96"):
        generator.question(prompt, ["a" * 90])
    with pytest.raises(UserError, match="no text pieces"):
        generator._engine.question(prompt, [np.array([VOCABULARY.break_id])])
