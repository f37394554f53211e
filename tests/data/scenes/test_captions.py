import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cm3leon_jax.data.scenes.caption_parser import parse_caption
from cm3leon_jax.data.scenes.captions import CaptionConfig, write_caption
from cm3leon_jax.data.scenes.facts import (
    KINDS,
    Count,
    Exists,
    Fact,
    HasPlace,
    HasSize,
    Related,
    all_facts,
    check,
    fact_from_dict,
    fact_to_dict,
    kind_of,
    score,
)
from cm3leon_jax.data.scenes.world import Scene, SceneObject, WorldConfig, place_center, sample_scene
from cm3leon_jax.runtime.errors import UserError


@pytest.fixture(scope="module")
def captioned():
    rng = np.random.default_rng(1)
    scenes = [sample_scene(rng, WorldConfig()) for _ in range(8000)]
    return [(scene, write_caption(rng, scene, CaptionConfig())) for scene in scenes]


def scene_of(*objects: tuple[str, str, str, str]) -> Scene:
    return Scene(
        tuple(SceneObject(shape, colour, size, place, *place_center(place)) for colour, shape, size, place in objects),
        "white",
    )


def test_captions_read_back_into_exactly_the_facts_that_they_state(captioned):
    for _, caption in captioned:
        parsed = parse_caption(caption.text)
        assert parsed.facts == caption.facts, caption.text
        assert parsed.understood == 1.0, caption.text


def test_everything_stated_is_true_and_every_caption_names_an_object(captioned):
    for scene, caption in captioned:
        assert score(caption.facts, scene) == (len(caption.facts), len(caption.facts)), caption.text
        assert kind_of(caption.facts[0]) == "exists"


def test_the_language_is_varied_and_small(captioned):
    texts = [caption.text for _, caption in captioned]
    words = {word for text in texts for word in "".join(c if c.isalpha() else " " for c in text).split()}
    assert 50 <= len(words) <= 90
    assert all(text == text.lower() and "  " not in text for text in texts)
    lengths = [len(text.split()) for text in texts]
    assert 6 <= np.median(lengths) <= 22 and max(lengths) <= 60
    assert len(set(texts)) > 0.8 * len(texts)
    kinds = {kind_of(fact) for _, caption in captioned for fact in caption.facts}
    assert kinds == set(KINDS)


def test_captions_state_as_much_as_the_config_says(captioned):
    facts = [fact for _, caption in captioned for fact in caption.facts]
    named = sum(isinstance(fact, Exists) for fact in facts)
    assert sum(isinstance(fact, HasSize) for fact in facts) / named == pytest.approx(0.7, abs=0.03)
    assert sum(isinstance(fact, HasPlace) for fact in facts) / named == pytest.approx(0.7, abs=0.03)
    rng = np.random.default_rng(2)
    everything = CaptionConfig(mention_all=1, state_size=1, state_place=1)
    for scene, _ in captioned[:200]:
        stated = set(write_caption(rng, scene, everything).facts)
        assert set(all_facts(scene)) - {Count(len(scene.objects))} <= stated


def test_the_same_seed_gives_the_same_caption(captioned):
    scene, _ = captioned[0]
    one, other = (write_caption(np.random.default_rng(7), scene, CaptionConfig()) for _ in range(2))
    assert one == other


def test_probabilities_outside_their_range_are_user_errors():
    with pytest.raises(UserError, match="state_size"):
        CaptionConfig(state_size=1.5)


def test_facts_survive_json(captioned):
    for _, caption in captioned[:500]:
        for fact in caption.facts:
            assert fact_from_dict(json.loads(json.dumps(fact_to_dict(fact)))) == fact


def test_facts_are_checked_against_the_scene():
    scene = scene_of(("red", "circle", "large", "top left"), ("blue", "star", "small", "bottom"))
    true: list[Fact] = [
        Exists("red", "circle"),
        HasSize("blue", "star", "small"),
        HasPlace("red", "circle", "top left"),
        Related("red", "circle", "left of", "blue", "star"),
        Related("red", "circle", "above", "blue", "star"),
        Related("blue", "star", "right of", "red", "circle"),
        Related("blue", "star", "below", "red", "circle"),
        Count(2),
    ]
    false: list[Fact] = [
        Exists("red", "star"),
        HasSize("blue", "star", "large"),
        HasPlace("red", "circle", "top"),
        Related("red", "circle", "right of", "blue", "star"),
        Related("red", "circle", "left of", "green", "star"),
        Count(3),
    ]
    assert all(check(fact, scene) for fact in true)
    assert not any(check(fact, scene) for fact in false)
    assert score([*true, *false], scene) == (len(true), len(true) + len(false))


def test_a_caption_about_an_object_that_is_not_there_is_false_throughout():
    scene = scene_of(("red", "circle", "large", "top left"))
    facts = parse_caption("a large green circle in the top left; the green circle is left of the red circle").facts
    assert len(facts) == 5
    assert [fact for fact in facts if check(fact, scene)] == [Exists("red", "circle")]


@pytest.mark.parametrize(
    ("text", "facts", "understood"),
    [
        ("", (), 0.0),
        ("a a picture of of", (), None),
        ("the quick brown fox", (), 0.0),
        ("A Large RED circle!", (Exists("red", "circle"), HasSize("red", "circle", "large")), 1.0),
        ("a red a blue star", (Exists("blue", "star"),), 0.6),
        ("red circle top left", (Exists("red", "circle"), HasPlace("red", "circle", "top left")), 1.0),
        ("a red circle and a red circle", (Exists("red", "circle"),), 1.0),
        ("in the top left, at the bottom a red ring", (Exists("red", "ring"), HasPlace("red", "ring", "bottom")), None),
        ("above a red ring", (Exists("red", "ring"),), 0.75),
    ],
)
def test_garbled_text_gives_what_can_be_read(text, facts, understood):
    parsed = parse_caption(text)
    assert parsed.facts == facts
    if understood is None:
        assert 0 < parsed.understood < 1
    else:
        assert parsed.understood == pytest.approx(understood)


_PHRASES = (
    "in the top left",
    "on the",
    "left of",
    "is",
    "small",
    "red",
    "blue circle",
    "red star",
    "and",
    "above",
    ";",
    ":",
)


@given(st.one_of(st.text(max_size=60), st.lists(st.sampled_from(_PHRASES), max_size=20).map(" ".join)))
def test_no_text_breaks_the_parser(text):
    parsed = parse_caption(text)
    assert 0 <= parsed.understood <= 1
    assert len(set(parsed.facts)) == len(parsed.facts)
