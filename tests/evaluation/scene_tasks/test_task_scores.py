"""Single scores on outputs that are wrong in one known way."""

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scene_task_examples import CONFIG, made

from cm3leon_jax.data.scenes.render import render
from cm3leon_jax.data.scenes.tasks.edits import EDITS, Edit, edit_kinds, legal_edits
from cm3leon_jax.data.scenes.tasks.lettering import draw_text
from cm3leon_jax.data.scenes.tasks.pictures import target_scene
from cm3leon_jax.data.scenes.world import Scene, sample_scene
from cm3leon_jax.evaluation.scene_tasks.conditions import score_conditioned
from cm3leon_jax.evaluation.scene_tasks.descriptions import score_captions, score_paragraphs
from cm3leon_jax.evaluation.scene_tasks.edit import is_changed, is_kept
from cm3leon_jax.evaluation.scene_tasks.ground import iou, score_grounded
from cm3leon_jax.evaluation.scene_tasks.science import score_reasoning, split_answer
from cm3leon_jax.evaluation.scene_tasks.text_rendering import score_lettering
from cm3leon_jax.evaluation.scene_tasks.vqa import most_frequent, plain, score_answers


def counted(scores):
    return {name: (int(one.hits.sum()), int(one.totals.sum())) for name, one in scores.items()}


def with_objects(task, number):
    return next(one for one in made(task) if len(one.metadata["scene"]["objects"]) == number)


@given(st.integers(0, 2**32), st.sampled_from(sorted(EDITS)))
@settings(max_examples=200, deadline=None)
def test_changed_and_kept_together_are_exactly_the_target(seed, kind):
    rng = np.random.default_rng(seed)
    source = sample_scene(rng, CONFIG.world)
    found = list(legal_edits(rng, source, kind, CONFIG.world))
    if not found:
        return
    edit, target = found[0]
    assert is_changed(edit, target) and is_kept(edit, source, target)
    assert not is_changed(edit, source) and is_kept(edit, source, source)
    # Readings near the target: another edit's result, and the target edited further.
    readings = [result for _, result in found[1:20]]
    for other in edit_kinds(CONFIG.world):
        for scene in (source, target):
            edits = legal_edits(rng, scene, other, CONFIG.world)
            readings += [result for _, result in itertools.islice(edits, 15)]
    for read in readings:
        assert (is_changed(edit, read) and is_kept(edit, source, read)) == (read.key() == target.key())


def test_another_background_is_not_kept():
    one = made("edit")[0].metadata
    scene, source = target_scene(one), Scene.from_dict(one["source"])
    other = dataclasses.replace(scene, background="mist")
    edit = Edit.from_dict(one["edit"])
    assert is_changed(edit, other) and not is_kept(edit, source, other)


def test_grounded_objects_count_by_name_and_by_box():
    one = with_objects("ground", 2)
    scene = target_scene(one.metadata)
    first, second = scene.objects
    sizes = {"small": "large", "medium": "large", "large": "small"}
    resized = Scene((dataclasses.replace(first, size=sizes[first.size]), second), scene.background)
    recoloured = dataclasses.replace(first, colour="black" if first.colour != "black" else "red")
    for changed, expected in (
        (resized, {"object": (1, 2), "name": (2, 2), "box": (1, 2), "picture": (0, 1)}),
        (Scene((recoloured, second), scene.background), {"object": (1, 2), "name": (1, 2), "box": (2, 2)}),
        (Scene((second,), scene.background), {"object": (1, 2), "name": (1, 2), "box": (1, 2), "picture": (0, 1)}),
    ):
        found = counted(score_grounded([one.metadata], [render(changed, 64).image]))
        assert {name: found[name] for name in expected} == expected


def test_the_overlap_of_boxes():
    assert iou((0, 0, 4, 4), (0, 0, 4, 4)) == 1
    assert iou((0, 0, 4, 4), (2, 0, 6, 4)) == pytest.approx(8 / 24)
    assert iou((0, 0, 4, 4), (4, 4, 8, 8)) == 0


def test_a_wrong_colour_leaves_shape_size_and_place():
    one = with_objects("segmentation", 2)
    scene = target_scene(one.metadata)
    first, second = scene.objects
    wrong = dataclasses.replace(first, colour="black" if first.colour != "black" else "red")
    image = render(Scene((wrong, second), scene.background), 64).image
    assert counted(score_conditioned([one.metadata], [image])) == {
        "object": (1, 2), "place": (2, 2), "shape": (2, 2), "size": (2, 2), "colour": (1, 2), "picture": (0, 1),
    }  # fmt: skip


def test_captions_and_paragraphs():
    scene = {"background": "white", "objects": [
        {"shape": "circle", "colour": "red", "size": "large", "place": "left", "x": 0.125, "y": 0.5}]}  # fmt: skip
    texts = ["a large red circle", "a small red circle", "", "one object: a large red circle on the left"]
    examples = [{"scene": scene}] * len(texts)
    assert counted(score_captions(examples, texts)) == {"true": (2 + 1 + 0 + 4, 2 + 2 + 0 + 4), "all true": (2, 4)}
    scores = counted(score_paragraphs(examples, texts))
    assert scores["covered"] == (2 + 1 + 0 + 4, 16) and scores["exact"] == (1, 4)


def test_answers_are_compared_by_their_words():
    examples = [
        {"kind": "larger", "answer": "red circle"},
        {"kind": "place", "answer": "top left"},
        {"kind": "exists", "answer": "no"},
    ]
    scores = counted(score_answers(examples, ["The red circle.", "top", " No"]))
    assert scores == {"answer": (2, 3), "larger": (1, 1), "place": (0, 1), "exists": (1, 1)}
    assert plain("An  Orange, ring!") == "orange ring"


def test_the_constant_answer_is_the_most_frequent_of_its_kind():
    training = [{"kind": "exists", "answer": "no"}] * 2 + [{"kind": "exists", "answer": "yes"}]
    training += [{"kind": "count", "answer": "one"}]
    asked = [{"kind": "count"}, {"kind": "exists"}, {"kind": "place"}]
    assert most_frequent(training, asked) == ["one", "no", ""]


def test_letters_and_words_count_where_they_stand():
    examples = [{"text": "bado kim"}]
    for drawn, expected in (
        ("bado kin", {"text": (0, 1), "word": (1, 2), "letter": (6, 7)}),
        ("bado", {"text": (0, 1), "word": (1, 2), "letter": (4, 7)}),
        ("kim bado", {"text": (0, 1), "word": (0, 2), "letter": (0, 7)}),
    ):
        assert counted(score_lettering(examples, [draw_text(drawn, 64)])) == expected


def test_reasoning_counts_the_option_and_the_explanation():
    one = next(each.metadata for each in made("science") if each.metadata["kind"] == "beside")
    wrong = next(f"({letter})" for letter in "ABC" if letter != one["answer"][1])
    needed = len(one["facts"])
    assert counted(score_reasoning([one], [one["answer"]])) == {
        "answer": (1, 1),
        "words": (1, 1),
        "beside": (1, 1),
    }
    misnamed = counted(score_reasoning([one], [f"{wrong}{one['answer'][3:]}."]))
    assert misnamed["answer"] == (0, 1) and misnamed["words"] == (1, 1)
    present = target_scene(one).objects[0]
    said = f"the {present.colour} {present.shape} is {present.size}. {one['answer']} or {wrong}"
    scores = counted(score_reasoning([one], [said]))
    assert scores["answer"] == (0, 1) and scores["true"] == (2, 2)
    assert scores["covered"][0] <= 1 and scores["covered"][1] == needed
    assert split_answer("so it is red. So the answer is ( b ) red.") == ("so it is red. So the answer is", "B", "red")
    assert split_answer("no idea") == ("no idea", "", "")
