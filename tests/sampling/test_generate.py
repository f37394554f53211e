"""The compiled loop against a plain one without a cache, in batches and alone."""

import dataclasses

import jax
import numpy as np
import pytest
import sampling_reference as reference

from cm3leon_jax.documents import parse, positions
from cm3leon_jax.model import decoder
from cm3leon_jax.model.partitioning import MeshConfig, Partitioning, make_mesh
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.sampling import loop, prompts
from cm3leon_jax.sampling.batches import WORTH_SHARING, bucket
from cm3leon_jax.sampling.generate import Engine, generate
from cm3leon_jax.sampling.prompts import BOTH, DRAW, DRAW_SPAN, DRAW_TEXT, HIDDEN, Draft, TextHole, compose
from cm3leon_jax.sampling.rules import RULES, SamplingConfig
from cm3leon_jax.sampling.weights import PrecisionConfig
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
    """-> a function that gives the logits at the last token of up to three sequences."""

    @jax.jit
    def last_logits(params, tokens, places, lengths):
        hidden = decoder.hidden_states(params, tokens, config=config, positions_BxL=places)
        return decoder.logits(params, hidden[np.arange(3), lengths - 1])

    def forward(sequences):
        padded, places = np.zeros((2, 3, config.max_length), np.int32)
        lengths = np.ones(3, int)
        for row, ids in enumerate(sequences):
            padded[row, : len(ids)] = ids
            places[row, : len(ids)] = positions(ids, vocabulary, config.position_rule)
            lengths[row] = len(ids)
        return np.asarray(last_logits(params, padded, places, lengths), np.float64)[: len(sequences)]

    return forward


def plain_loop(forward, vocabulary, prompt, sampling, sample=0):
    """Draws one result by whole forward passes, float64 rules and a key for each step -> (tokens, logprob)."""
    images = np.arange(vocabulary.image_offset, vocabulary.break_id)
    texts = np.arange(UNK_ID, vocabulary.text_size)
    allowed = {
        DRAW: images,
        DRAW_SPAN: np.append(texts, vocabulary.eoss_id),
        DRAW_TEXT: np.array([*texts, vocabulary.eoss_id, vocabulary.break_id]),
    }
    sequences = [template[:start].tolist() for template, start in zip(prompt.templates, prompt.start, strict=True)]
    key = jax.random.key(sampling.seed)
    for number in (prompt.seed, sample):
        key = jax.random.fold_in(key, number)
    drawn, logprob, step = np.full(prompt.steps, -1), 0.0, 0
    while step < prompt.steps:
        asked = prompt.plan[step]
        tokens = [int(t[start + step]) for t, start in zip(prompt.templates, prompt.start, strict=True)]
        ended = False
        if asked < 0:
            ids = allowed[asked]
            logits = forward(sequences)[:, ids]
            logits[:, (ids == vocabulary.eoss_id) & (asked == DRAW_TEXT)] = -np.inf
            cond, *between, uncond = logits
            noise = np.asarray(jax.random.gumbel(jax.random.fold_in(key, step), (len(ids),)))
            scores = reference.scores(cond, uncond, sampling, sample, *between)
            index = int(np.argmax(scores + noise))
            logprob += reference.log_softmax(cond)[index]
            tokens = [int(ids[index])] * len(tokens)
            ended = tokens[0] in (vocabulary.eoss_id, vocabulary.break_id)
        drawn[step] = tokens[0]
        for ids, token in zip(sequences, tokens, strict=True):
            ids.append(token)
        step += 1
        if ended:
            while step < prompt.steps and prompt.plan[step] == asked:
                step += 1
            step += 1  # the template's own end of the text
    return drawn, logprob


def agree(results, asked, forward, vocabulary, sampling):
    for result in results:
        prompt = asked[result.prompt]
        drawn, logprob = plain_loop(forward, vocabulary, prompt, sampling, result.sample)
        np.testing.assert_array_equal(result.ids, prompt.complete(drawn, vocabulary))
        assert result.logprob == pytest.approx(logprob, abs=1e-3)
        assert parse(result.ids, vocabulary)[-len(result.documents) :] == result.documents


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
    before = loop.start._cache_size(), loop.advance._cache_size()
    other = dataclasses.replace(SETTINGS, temperature=0.5, top_p=0.3, guidance_scale=5.0, seed=9)
    run(asked([31, 33, 37, 44]), other, batch_size=4)
    assert (loop.start._cache_size(), loop.advance._cache_size()) == before
    run(asked([31, 33, 37, 44]), dataclasses.replace(SETTINGS, rule="cdk"), batch_size=4)  # reads prompts as the other
    assert loop.start._cache_size() == before[0]
    before = loop.start._cache_size(), loop.advance._cache_size()
    run(asked([20]), SETTINGS, batch_size=4)  # a shorter prompt, fewer rows
    assert (loop.start._cache_size(), loop.advance._cache_size()) == (before[0] + 1, before[1] + 1)


def test_editing_reads_three_streams(run, make_document, forward, vocabulary):
    asked = [
        prompts.edit_image(
            make_document(n, text=4 + n).text,
            make_document(n).image,
            task=make_document(9, text=3).text,
            image_tokens=12,
            vocabulary=vocabulary,
        )
        for n in range(3)
    ]
    for rule in ("guided", "cdk", "top_p"):
        sampling = dataclasses.replace(SETTINGS, rule=rule)
        results = run(asked, sampling, batch_size=4)
        if rule == "guided":
            agree(results, asked, forward, vocabulary, sampling)
    with_more = run(asked, dataclasses.replace(SETTINGS, rule="guided", image_guidance_scale=4.0), batch_size=4)
    assert (with_more[0].image != run(asked, SETTINGS, batch_size=4)[0].image).any()


def several_holes(make_document):
    """Drafts with holes in texts and images, given parts between them, and what is drawn in place behind."""
    image, text = make_document(1).image, make_document(2, text=4).text
    part = np.where(np.arange(16) % 7 < 3, HIDDEN, image)
    whole = np.full(12, HIDDEN)
    return [
        [Draft([text, TextHole(5), text[:2]], image)],
        [Draft([text, TextHole(4), text[:2], TextHole(3)], part)],
        [Draft([text], whole), Draft([TextHole(6)], whole)],
        [Draft([TextHole(6)], whole)],
        [Draft([TextHole(4)], image), Draft([text], whole)],
        [Draft([text], image), Draft([TextHole(7)])],
    ]


@pytest.mark.parametrize("stride", [0, 4])
def test_many_holes_in_one_sequence(params, config, vocabulary, make_document, stride):
    config = dataclasses.replace(config, position_stride=stride)
    forward = whole_forward_pass(params, config, vocabulary)
    asked = [compose(drafts, vocabulary=vocabulary) for drafts in several_holes(make_document)]
    assert {prompt.draws for prompt in asked} == {"text", BOTH}
    sampling = dataclasses.replace(SETTINGS, rule="guided", temperature=2.0, top_p=0.99)
    results = generate(params, config, vocabulary, asked, sampling, samples=2, batch_size=8)
    agree(results, asked, forward, vocabulary, sampling)
    lengths = {len(result.documents[-1].text) for result in results if result.prompt == 2}
    assert lengths and all(0 <= length <= 6 for length in lengths)
    # Texts end at different steps, and some before all their tokens are used.
    assert any(len(result.ids) < len(asked[result.prompt].conditional) for result in results)


def test_a_beginning_in_common_is_read_once_and_changes_nothing(run, make_document, forward, vocabulary):
    context = [make_document(n, text=8) for n in range(2)]  # 52 tokens with <eos>
    asked = [
        prompts.text_to_image(
            make_document(n, text=n).text, context[: 1 + n % 2], image_tokens=12, vocabulary=vocabulary
        )
        for n in (3, 5, 7)
    ]
    assert 2 * (8 + 16 + 2) + 1 >= WORTH_SHARING > 8 + 16 + 3
    results = run(asked, SETTINGS, samples=2, batch_size=8)
    agree(results, asked, forward, vocabulary, SETTINGS)
    texts = [compose([Draft([TextHole(6)], make_document(4).image)], context, vocabulary=vocabulary)]
    agree(run(texts, SETTINGS, samples=2, batch_size=8), texts, forward, vocabulary, SETTINGS)


def test_requests_of_all_kinds_and_settings_together(run, params, config, vocabulary, images, make_document):
    asked = [*images, *[compose(drafts, vocabulary=vocabulary) for drafts in several_holes(make_document)]]
    samplings = [
        dataclasses.replace(SETTINGS, rule=("guided", "cdk", "mixed", "plain")[n % 4], guidance_scale=1.0 + n, seed=n)
        for n in range(len(asked))
    ]
    counts = [1 + n % 3 for n in range(len(asked))]
    together = Engine(params, config, vocabulary, batch_size=8).draw(asked, samplings, samples=counts)
    assert [len(results) for results in together] == counts
    for prompt, sampling, count, results in list(zip(asked, samplings, counts, together, strict=True))[::3]:
        for one, two in zip(results, run([prompt], sampling, samples=count, batch_size=2), strict=True):
            np.testing.assert_array_equal(one.ids, two.ids)


def test_one_can_watch_and_give_up(params, config, vocabulary, images):
    engine = Engine(params, config, vocabulary, batch_size=4)
    seen = []

    def watch(unfinished):
        seen.append(unfinished)
        return [2] if unfinished.step >= 6 else []

    results = engine.draw(images, SETTINGS, watch=watch, every=3)
    expected = engine.draw(images, SETTINGS)
    assert [len(found) for found in results] == [1, 1, 0, 1]
    for index in (0, 1, 3):
        np.testing.assert_array_equal(results[index][0].ids, expected[index][0].ids)
    assert [(one.step, one.steps, len(one.generations)) for one in seen] == [(3, 12, 4), (6, 12, 4), (9, 12, 4)]
    for unfinished in seen:
        for generation in unfinished.generations:
            whole = expected[generation.prompt][0]
            np.testing.assert_array_equal(generation.image[: unfinished.step], whole.image[: unfinished.step])
            assert (generation.image[unfinished.step :] == HIDDEN).all()
    seen.clear()
    assert engine.draw(images, SETTINGS, watch=lambda unfinished: seen.append(1) or range(4), every=3) == [[]] * 4
    assert len(seen) == 1  # nobody waits for the rest


@pytest.mark.parametrize("precision", [PrecisionConfig("bfloat16", "bfloat16"), PrecisionConfig("int8", "int8")])
def test_fewer_bits_give_nearly_the_same_probabilities(params, config, vocabulary, make_document, precision):
    context = [make_document(n, text=8) for n in range(2)]
    asked = [prompts.text_to_image(make_document(5).text, context, image_tokens=12, vocabulary=vocabulary)]
    forced = dataclasses.replace(SETTINGS, rule="guided", top_p=1e-6)
    exact, rounded = (
        generate(params, config, vocabulary, asked, forced, samples=2, precision=each)[0]
        for each in (PrecisionConfig(), precision)
    )
    same = np.argmin(exact.image == rounded.image) or 12  # as far as the same was drawn
    assert same >= 2
    assert rounded.logprob != exact.logprob


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
