"""The compiled loop against a plain one without a cache, in batches and alone."""

import dataclasses

import jax
import numpy as np
import pytest
import sampling_reference as reference

from cm3leon_jax.documents import Document, parse, positions
from cm3leon_jax.model import decoder
from cm3leon_jax.model.partitioning import MeshConfig, Partitioning, make_mesh
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.sampling import loop, prompts
from cm3leon_jax.sampling.generate import bucket, generate
from cm3leon_jax.sampling.prompts import DRAW, IMAGE
from cm3leon_jax.sampling.rules import RULES, SamplingConfig
from cm3leon_jax.vocabulary import UNK_ID

SETTINGS = SamplingConfig(top_p=0.8, temperature=0.9, cdk_k=3, guidance_scale=2.0, score_temperature=0.7, seed=5)


@pytest.fixture
def run(params, config, vocabulary):
    def run(asked, sampling, **options):
        return generate(params, config, vocabulary, asked, sampling, **options)

    return run


@pytest.fixture
def images(make_document, vocabulary):
    """Four prompts for an image of 12 codes, of 34 to 47 ids (unconditional: 3 to 43), which fill one bucket."""
    return [
        prompts.text_to_image(
            make_document(text, text=text).text,
            [make_document(i, text=2) for i in range(retrieved)],
            image_tokens=12,
            vocabulary=vocabulary,
        )
        for text, retrieved in ((34, 0), (20, 1), (5, 2), (12, 1))
    ]


@pytest.fixture(scope="module")
def forward(params, config, vocabulary):
    return whole_forward_pass(params, config, vocabulary)


def whole_forward_pass(params, config, vocabulary):
    """-> a function that gives the logits at the last token of two sequences."""

    @jax.jit
    def last_logits(params, tokens, places, lengths):
        hidden = decoder.hidden_states(params, tokens, config=config, positions_BxL=places)
        return decoder.logits(params, hidden[np.arange(2), lengths - 1], config=config)

    def forward(sequences):
        padded, places = np.zeros((2, 2, config.max_length), np.int32)
        for row, ids in enumerate(sequences):
            padded[row, : len(ids)] = ids
            places[row, : len(ids)] = positions(ids, vocabulary, config.position_rule)
        lengths = np.array([len(ids) for ids in sequences])
        return np.asarray(last_logits(params, padded, places, lengths), np.float64)

    return forward


def plain_loop(forward, vocabulary, prompt, sampling, sample=0):
    """Draws one result by whole forward passes, float64 rules and a key for each step -> (tokens, logprob)."""
    templates = (prompt.conditional, prompt.unconditional)
    sequences = [template[:start].tolist() for template, start in zip(templates, prompt.start, strict=True)]
    if prompt.draws == IMAGE:
        allowed = np.arange(vocabulary.image_offset, vocabulary.break_id)
    else:
        allowed = np.append(np.arange(UNK_ID, vocabulary.text_size), vocabulary.eoss_id)
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(sampling.seed), prompt.seed), sample)
    drawn, logprob = [], 0.0
    for step in range(prompt.steps):
        forced = [t[start + step] for t, start in zip(templates, prompt.start, strict=True)]
        if forced[0] == DRAW:
            cond, uncond = forward(sequences)[:, allowed]
            noise = np.asarray(jax.random.gumbel(jax.random.fold_in(key, step), (len(allowed),)))
            index = int(np.argmax(reference.scores(cond, uncond, sampling, sample) + noise))
            logprob += reference.log_softmax(cond)[index]
            forced = [allowed[index]] * 2
        drawn.append(int(forced[0]))
        if drawn[-1] == vocabulary.eoss_id and prompt.draws != IMAGE:
            break
        for ids, token in zip(sequences, forced, strict=True):
            ids.append(int(token))
    return drawn, logprob


def agree(results, asked, forward, vocabulary, sampling):
    for result in results:
        prompt = asked[result.prompt]
        drawn, logprob = plain_loop(forward, vocabulary, prompt, sampling, result.sample)
        np.testing.assert_array_equal(result.ids, prompt.complete(drawn, vocabulary))
        assert result.logprob == pytest.approx(logprob, abs=1e-3)
        assert parse(result.ids, vocabulary)[-1] == Document(result.text, result.image)


@pytest.mark.parametrize("rule", sorted(RULES))
def test_cached_batch_equals_a_plain_loop(rule, run, images, forward, vocabulary):
    sampling = dataclasses.replace(SETTINGS, rule=rule)
    results = run(images, sampling, batch_size=4)
    assert [result.prompt for result in results] == [0, 1, 2, 3]
    assert all(vocabulary.is_image(vocabulary.image_ids(result.image)).all() for result in results)
    assert all(len(result.image) == 12 for result in results)
    agree(results, images, forward, vocabulary, sampling)


@pytest.mark.parametrize(("stride", "query"), [(8, 0), (2, 48)])
def test_positions_by_a_rule_are_those_of_the_whole_sequence(params, config, vocabulary, images, stride, query):
    strided = dataclasses.replace(config, position_stride=stride, query_position=query)
    sampling = dataclasses.replace(SETTINGS, rule="guided")
    results = generate(params, strided, vocabulary, images, sampling, batch_size=4)
    agree(results, images, whole_forward_pass(params, strided, vocabulary), vocabulary, sampling)


def test_texts_equal_a_plain_loop_and_end_where_they_should(run, make_document, forward, vocabulary):
    asked = [
        prompts.image_to_text(make_document(n, image=8 + n).image, [], max_text=14, vocabulary=vocabulary)
        for n in range(6)
    ]
    sampling = dataclasses.replace(SETTINGS, rule="guided", temperature=1.5, top_p=0.95)
    results = run(asked, sampling, batch_size=8)
    agree(results, asked, forward, vocabulary, sampling)
    lengths = {len(result.text) for result in results}
    assert len(lengths) > 1 and all(vocabulary.is_text(result.text).all() for result in results)


def test_hidden_parts_of_images_are_filled_to_their_length(run, make_document, forward, vocabulary):
    masks = np.random.default_rng(0).random((3, 16)) < 0.5
    masks[2] = np.arange(16) < 5
    documents = [make_document(n) for n in range(3)]
    asked = [
        prompts.fill_image(document.text, document.image, hidden, [], vocabulary=vocabulary)
        for document, hidden in zip(documents, masks, strict=True)
    ]
    sampling = dataclasses.replace(SETTINGS, rule="guided")
    results = run(asked, sampling, batch_size=4)
    agree(results, asked, forward, vocabulary, sampling)
    for result, document, hidden in zip(results, documents, masks, strict=True):
        np.testing.assert_array_equal(result.image[~hidden], document.image[~hidden])
        assert (result.image[hidden] != document.image[hidden]).any()
        np.testing.assert_array_equal(result.text, document.text)


def test_a_result_does_not_depend_on_its_batch(run, images):
    together = run(images, SETTINGS, samples=2, batch_size=4)
    assert [(result.prompt, result.sample) for result in together] == [(p, s) for p in range(4) for s in range(2)]
    alone = run(images[2:3], SETTINGS, samples=2, batch_size=2)
    backwards = run(images[::-1], SETTINGS, batch_size=4)
    for sample in range(2):
        np.testing.assert_array_equal(together[2 * 2 + sample].image, alone[sample].image)
    for prompt in range(4):
        np.testing.assert_array_equal(together[2 * prompt].image, backwards[3 - prompt].image)
    assert len({result.image.tobytes() for result in together}) == 8


def test_mixed_takes_turns(run, images):
    by = {
        rule: run(images, dataclasses.replace(SETTINGS, rule=rule), samples=2, batch_size=4)
        for rule in ("mixed", "guided", "cdk")
    }
    for mixed, guided, cdk in zip(*by.values(), strict=True):
        np.testing.assert_array_equal(mixed.image, (guided, cdk)[mixed.sample].image)


def test_another_seed_draws_something_else(run, images):
    first, again, other = (
        run(images, dataclasses.replace(SETTINGS, rule="plain", seed=seed), batch_size=4) for seed in (1, 1, 2)
    )
    for one, two, three in zip(first, again, other, strict=True):
        assert one.image.tobytes() == two.image.tobytes() != three.image.tobytes()


def test_few_programs_are_compiled(run, make_document, vocabulary):
    def asked(lengths):
        return [
            prompts.text_to_image(make_document(n, text=n).text, [], image_tokens=12, vocabulary=vocabulary)
            for n in lengths
        ]

    run(asked([34, 5, 13, 40]), SETTINGS, batch_size=4)
    before = loop.decode._cache_size()
    other = dataclasses.replace(SETTINGS, temperature=0.5, top_p=0.3, guidance_scale=5.0, seed=9)
    run(asked([31, 33, 37, 44]), other, batch_size=4)
    assert loop.decode._cache_size() == before
    run(asked([20]), SETTINGS, batch_size=4)  # a shorter prompt, fewer rows
    assert loop.decode._cache_size() == before + 1


def test_model_parallel_draws_the_same(run, images):
    tensor = Partitioning(make_mesh(MeshConfig(data=1, tensor=2)))
    for one, two in zip(
        run(images, SETTINGS, batch_size=4), run(images, SETTINGS, batch_size=4, partitioning=tensor), strict=True
    ):
        np.testing.assert_array_equal(one.image, two.image)


def test_buckets_hold_and_are_few():
    sizes = {bucket(length) for length in range(1, 4097)}
    assert all(bucket(length) >= length for length in range(1, 4097)) and len(sizes) == 17
    assert {64, 256, 1024, 4096} < sizes


def test_what_does_not_fit_the_model_is_the_users_error(run, params, config, vocabulary, make_document):
    long = [prompts.text_to_image(make_document(0, text=85).text, [], image_tokens=12, vocabulary=vocabulary)]
    with pytest.raises(UserError, match="99 positions and the model holds 96"):
        run(long, SETTINGS)
    other = dataclasses.replace(vocabulary, text_size=60)
    with pytest.raises(UserError, match="tokenizers"):
        generate(params, config, other, [], SETTINGS)
