"""Scores on hand-made scenes."""

import numpy as np
import pytest

from cm3leon_jax.data.scenes.facts import Count, Exists, HasPlace, HasSize, Related
from cm3leon_jax.data.scenes.render import render
from cm3leon_jax.data.scenes.world import Scene, SceneObject
from cm3leon_jax.evaluation.scene_scores import check_images, check_scenes, fact_shares, fact_text, judged

RED = SceneObject("circle", "red", "large", "top left", 1 / 6, 1 / 6)
BLUE = SceneObject("square", "blue", "small", "right", 5 / 6, 0.5)
SCENE = Scene((RED, BLUE), "white")
TRUE = (
    Exists("red", "circle"),
    HasSize("red", "circle", "large"),
    HasPlace("blue", "square", "right"),
    Related("red", "circle", "left of", "blue", "square"),
    Count(2),
)
FALSE = (
    Exists("green", "circle"),
    HasSize("red", "circle", "small"),
    HasPlace("blue", "square", "left"),
    Related("red", "circle", "below", "blue", "square"),
    Count(3),
)


@pytest.fixture(scope="module")
def image():
    return render(SCENE, 64).image


def test_the_reader_finds_what_is_there_and_nothing_else(image):
    assert check_images([TRUE, FALSE], [image, image]) == [[True] * 5, [False] * 5]
    assert check_scenes([TRUE, FALSE], [SCENE, SCENE]) == [[True] * 5, [False] * 5]


def test_an_empty_picture_shows_no_fact():
    assert check_images([TRUE], [np.full((64, 64, 3), 250, np.uint8)]) == [[False] * 5]


def test_shares_by_kind_and_overall():
    facts = [TRUE, FALSE, (Count(2),), ()]
    shares = fact_shares(facts, check_scenes(facts, [SCENE] * 4))
    assert shares["overall"]["value"] == 6 / 11
    assert shares["overall"]["examples"] == 3
    assert {kind: (one["hits"], one["total"]) for kind, one in shares["by_kind"].items()} == {
        "exists": (1, 2),
        "size": (1, 2),
        "place": (1, 2),
        "relation": (1, 2),
        "count": (2, 3),
    }


def test_kinds_that_nobody_states_are_left_out():
    assert list(fact_shares([(Count(1),)], [[True]])["by_kind"]) == ["count"]


def test_facts_in_words():
    assert [fact_text(fact) for fact in TRUE] == [
        "red circle",
        "red circle: large",
        "blue square: right",
        "red circle left of blue square",
        "2 objects",
    ]
    assert judged(TRUE[:1], [np.True_]) == [{"text": "red circle", "kind": "exists", "true": True}]
