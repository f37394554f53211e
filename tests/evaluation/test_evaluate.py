"""The whole evaluation with stand-in models of which the score is known beforehand."""

import dataclasses

import numpy as np
import pytest

from cm3leon_jax.data.scenes.captions import CaptionConfig, write_caption
from cm3leon_jax.data.scenes.render import render
from cm3leon_jax.data.scenes.world import WorldConfig, sample_scene
from cm3leon_jax.data.sources.example import SourceExample
from cm3leon_jax.evaluation.config import EvaluationConfig
from cm3leon_jax.evaluation.evaluate import evaluate_scenes
from cm3leon_jax.evaluation.gallery import read_gallery
from cm3leon_jax.evaluation.held_out import held_out_scenes
from cm3leon_jax.evaluation.results import RULES, SCHEMA
from cm3leon_jax.evaluation.scoring import score_captions
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.sampling.rules import SamplingConfig

COUNT = 12
CONFIG = EvaluationConfig(best_of=2, best_of_examples=4, shown=2, reconstructions_shown=3)


@dataclasses.dataclass
class Retrieved:
    caption: str
    image: np.ndarray


class ListTokenizer:
    """Loses nothing: the code of a picture is its index in a list, repeated."""

    grid = (8, 8)
    num_codes = COUNT

    def __init__(self, images):
        self._images = images

    def encode(self, images):
        index = {image.tobytes(): i for i, image in enumerate(self._images)}
        return np.array([[index[image.tobytes()]] * 64 for image in images], np.int32)

    def decode(self, codes):
        return self._images[codes[:, 0]]


class Oracle:
    """Draws the true picture, but an empty one under the rule "plain" and for the first of several samples."""

    def __init__(self, examples):
        self._by_caption = {example.caption: example for example in examples}
        self._examples = examples
        self.asked = []

    def retrieve(self, texts, count):
        return [[Retrieved(f"document {i}", self._examples[i].image) for i in range(count)] for _ in texts]

    def text_to_image(self, texts, *, retrieved, n, sampling, label):
        assert len(texts) == len(retrieved)
        self.asked.append((sampling.rule, len(texts), n, len(retrieved[0])))
        images = np.stack([self._by_caption[text].image for text in texts])
        if sampling.rule == "plain":
            images = np.full_like(images, 250)
        samples = np.repeat(images[:, None], n, axis=1)
        if n > 1:
            samples[:, 0] = 250
        return samples

    def image_to_text(self, images, *, sampling, label):
        by_image = {example.image.tobytes(): example.caption for example in self._examples}
        return [by_image[image.tobytes()] for image in images]

    def fill_image(self, texts, images, hidden, *, sampling, label):
        assert hidden.shape == (len(texts), 8, 8)
        assert (hidden.sum(axis=(1, 2)) == 16).all()
        return images


class Encoder:
    """The picture's darkest spot says whether anything is in it: empty pictures are far from every text."""

    def embed_texts(self, texts):
        return np.array([[1.0, 0.0]] * len(texts), np.float32)

    def embed_images(self, images):
        shown = images.reshape(len(images), -1).min(axis=1) < 200
        return np.where(shown[:, None], [[1.0, 0.0]], [[0.0, 1.0]]).astype(np.float32)


def scenes_split():
    rng = np.random.default_rng(3)
    split = []
    while len(split) < COUNT:
        scene = sample_scene(rng, WorldConfig())
        caption = write_caption(rng, scene, CaptionConfig()).text
        if caption not in {example.caption for example in split}:
            image = render(scene, 64).image
            split.append(SourceExample(f"test-{len(split)}", image, caption, {"scene": scene.to_dict()}))
    return split


@pytest.fixture(scope="module")
def examples():
    return held_out_scenes(scenes_split(), COUNT, 64)


@pytest.fixture(scope="module")
def measured(examples, tmp_path_factory):
    directory = tmp_path_factory.mktemp("evaluation") / "gallery"
    tokenizer = ListTokenizer(np.stack([example.image for example in examples]))
    oracle = Oracle(examples)
    rules = {rule: SamplingConfig(rule=rule) for rule in RULES}
    results = evaluate_scenes(
        oracle,
        tokenizer,
        examples,
        rules=rules,
        captioning=SamplingConfig(rule="greedy"),
        directory=directory,
        encoder=Encoder(),
        config=CONFIG,
    )
    return results, directory, oracle


def test_every_key_is_there(measured):
    results, _, _ = measured
    for group, names in SCHEMA.items():
        assert set(results[group]) == set(names)
    assert results["memory_bank"]["recall_at_10"] is None
    assert results["parameters"] is None


def test_a_perfect_model_reaches_the_ceiling_and_an_empty_picture_shows_nothing(measured):
    figures = measured[0]["text_to_image"]
    assert figures["guided"] == figures["cdk"] == figures["top_p"] == figures["ceiling"] > 0.95
    assert figures["plain"] == 0.0
    assert measured[0]["captioning"]["facts_true"] == 1.0
    tokenizer = measured[0]["image_tokenizer"]
    assert tokenizer["reader_original"] == tokenizer["reader_reconstruction"] > 0.95
    assert tokenizer["psnr_db"] == 100.0
    assert tokenizer["codebook_perplexity"] == pytest.approx(COUNT)


def test_the_floor_is_far_below(measured):
    details = measured[0]["details"]
    assert details["text_to_image"]["other_picture"]["overall"]["value"] < 0.5
    assert details["captioning"]["other_picture"]["value"] < 0.5


def test_variants_are_measured_once_each(measured):
    variants = measured[0]["details"]["text_to_image_variants"]
    assert list(variants) == [
        "guidance, 0 retrieved documents",
        "guidance, 1 retrieved document",
        "guidance, 2 retrieved documents",
        "top-p, the first of 2",
        "top-p, the best of 2 by CLIP",
    ]
    assert variants["top-p, the first of 2"]["overall"]["value"] == 0.0
    assert variants["top-p, the best of 2 by CLIP"]["overall"]["value"] > 0.9
    assert measured[2].asked == [
        *((rule, COUNT, 1, 2) for rule in RULES),
        ("guided", COUNT, 1, 0),
        ("guided", COUNT, 1, 1),
        ("top_p", 4, 2, 2),
    ]


def test_the_gallery_keeps_a_fixed_handful(measured, examples):
    gallery = read_gallery(measured[1])
    assert [prompt["caption"] for prompt in gallery["prompts"]] == [example.caption for example in examples[:2]]
    assert list(gallery["prompts"][0]["images"]) == list(RULES)
    assert len(gallery["prompts"][0]["retrieved"]) == 2
    assert len(gallery["reconstructions"]) == 3
    assert len(gallery["infills"]) == 2
    assert all(fact["true"] for fact in gallery["captions"][0]["facts"])
    assert (measured[1] / gallery["infills"][0]["hidden"]).exists()


def test_captions_that_state_little_are_told_apart(examples):
    part = score_captions(["nothing at all"] * COUNT, examples)
    assert part["captioning"]["facts_true"] is None
    assert part["details"]["captioning"]["captions_without_facts"] == COUNT
    wrong = score_captions(["four objects: a red red"] * COUNT, examples)["details"]["captioning"]
    assert wrong["facts_per_caption"] == 1.0
    assert wrong["words_understood"] < 1.0


def test_what_is_not_a_scene_is_one_line():
    image = np.zeros((64, 64, 3), np.uint8)
    with pytest.raises(UserError, match="no scene description"):
        held_out_scenes([SourceExample("a", image, "a cat", {})], 1, 64)
    with pytest.raises(UserError, match="ask for fewer"):
        held_out_scenes([], 1, 64)
