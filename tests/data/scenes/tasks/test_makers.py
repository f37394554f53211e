"""What holds for the examples of every task."""

import collections
import json
import re

import numpy as np
import pytest
from scene_task_examples import CONFIG, made, situations

from cm3leon_jax.data.scenes.caption_parser import parse_caption
from cm3leon_jax.data.scenes.examples import split_of_scene, split_of_word
from cm3leon_jax.data.scenes.facts import Exists, HasPlace, all_facts, fact_from_dict
from cm3leon_jax.data.scenes.reader import read_scene
from cm3leon_jax.data.scenes.render import render
from cm3leon_jax.data.scenes.tasks import pictures
from cm3leon_jax.data.scenes.tasks.answers import QUESTION_KINDS, answer
from cm3leon_jax.data.scenes.tasks.makers import MAKERS, find_maker, make
from cm3leon_jax.data.scenes.tasks.pictures import SHAPE_COLOURS, target_scene
from cm3leon_jax.data.scenes.tasks.reasoning import SCIENCE_KINDS, conclude, mirrored, moved
from cm3leon_jax.data.scenes.world import PLACES, SHAPES, Scene
from cm3leon_jax.data.sources.instructions import instruction, instruction_example
from cm3leon_jax.instructions.tasks import TASKS, first_wording, wordings
from cm3leon_jax.runtime.errors import UserError

SPLITS = ("train", "validation", "test")
TASK = pytest.mark.parametrize("task", MAKERS)


@TASK
def test_every_example_fills_every_wording_of_its_template(task):
    for each in made(task)[:60]:
        said = instruction(task, **each.fields)
        assert len(wordings(said)) == len(TASKS[task].templates)
        assert each.fields.keys() == {field for template in TASKS[task].templates for field in template.texts}
        shown = MAKERS[task].pictures(each.metadata, 64)
        assert all(picture.shape == (64, 64, 3) and picture.dtype == np.uint8 for picture in shown)
        example = instruction_example("id", said, shown, each.metadata)
        assert len(example.pairs) == first_wording(said).images == len(TASKS[task].images)
        assert each.metadata == json.loads(json.dumps(each.metadata))


@TASK
def test_the_language_is_small(task):
    simple = re.compile(r"[a-z0-9 .,:;?()>-]*")
    for each in made(task):
        for name, value in each.fields.items():
            for text in [value] if isinstance(value, str) else value:
                if task == "science" and name in ("choices", "answer"):
                    text = re.sub(r"\([ABC]\)", "", text)
                assert simple.fullmatch(text), text


@TASK
def test_an_example_depends_on_its_own_scene_and_id_alone(task):
    for place in (7, 3):
        assert make(task, situations()[place]) == made(task)[place]
    assert make(task, situations()[3]) != make(task, situations()[7])


@TASK
def test_no_held_out_scene_or_word_is_in_training(task):
    for split in SPLITS:
        for each in made(task, split):
            for name in ("scene", "source"):
                if name in each.metadata:
                    assert split_of_scene(Scene.from_dict(each.metadata[name])) == split
            for word in each.metadata.get("text", "").split():
                assert split_of_word(word) == split


def test_unknown_tasks_are_user_errors():
    with pytest.raises(UserError, match="text_rendering"):
        find_maker("juggling")


def test_paragraphs_state_all_there_is():
    for each in [*made("paragraph"), *made("paragraph", "test")]:
        read = parse_caption(each.fields["caption"])
        assert set(read.facts) == set(all_facts(target_scene(each.metadata)))
        assert read.understood == 1


@pytest.mark.parametrize("task", ["segmentation", "canny"])
def test_map_and_caption_together_tell_the_scene(task):
    for each in made(task)[:150]:
        scene = target_scene(each.metadata)
        facts = parse_caption(each.fields["caption"]).facts
        assert {Exists(item.colour, item.shape) for item in scene.objects} == {f for f in facts if type(f) is Exists}
        shapes = collections.Counter(item.shape for item in scene.objects)
        placed = {HasPlace(i.colour, i.shape, i.place) for i in scene.objects if shapes[i.shape] > 1}
        assert set(facts) - placed == {Exists(item.colour, item.shape) for item in scene.objects}


def test_a_segmentation_map_tells_shapes_and_no_colours():
    assert len(set(SHAPE_COLOURS.values())) == len(SHAPES)
    for each in made("segmentation")[:150]:
        scene = target_scene(each.metadata)
        read = read_scene(pictures.segmentation_map(scene, 64))
        assert read.background == "white"
        assert {(i.place, i.shape, i.size) for i in read.objects} == {(i.place, i.shape, i.size) for i in scene.objects}
        assert all(item.colour == SHAPE_COLOURS[item.shape] for item in read.objects)
        recoloured = Scene.from_dict(
            {**each.metadata["scene"], "objects": [{**o, "colour": "black"} for o in each.metadata["scene"]["objects"]]}
        )
        assert np.array_equal(pictures.segmentation_map(recoloured, 64), pictures.segmentation_map(scene, 64))


def test_an_edge_map_is_the_outlines_alone():
    for each in made("canny")[:20]:
        scene = target_scene(each.metadata)
        is_black = (pictures.edge_map(scene, 64) < 100).all(-1)
        assert np.array_equal(is_black, render(scene, 64).edges > 0)
        assert (pictures.edge_map(scene, 64)[~is_black] == 250).all()


def test_boxes_are_those_of_the_rendering_and_are_written_as_the_paper_does():
    for each in made("ground")[:60]:
        scene, boxes = target_scene(each.metadata), each.metadata["boxes"]
        assert boxes == render(scene, CONFIG.resolution).boxes.tolist()
        for item, (x0, y0, x1, y1) in zip(scene.objects, boxes, strict=True):
            assert f"{item.colour} {item.shape} at ({x0}, {y0}) -> ({x1}, {y1})" in each.fields["objects"]
        assert {Exists(i.colour, i.shape) for i in scene.objects} == set(parse_caption(each.fields["caption"]).facts)


def test_answers_are_true_short_and_of_every_kind():
    kinds = collections.Counter(each.metadata["kind"] for each in made("vqa"))
    assert set(kinds) == set(QUESTION_KINDS)
    for each in made("vqa"):
        said = each.fields["answer"]
        assert said == each.metadata["answer"] == answer(each.metadata["query"], target_scene(each.metadata))
        assert 1 <= len(said.split()) <= 2
        assert all(question.endswith("?") for question in each.fields["question"])


def test_yes_is_as_likely_as_no():
    for kind in ("exists", "relation"):
        said = [
            each.metadata["answer"] for split in SPLITS for each in made("vqa", split) if each.metadata["kind"] == kind
        ]
        assert abs(said.count("yes") - said.count("no")) < 3 * len(said) ** 0.5
        assert set(said) == {"yes", "no"}


def test_options_are_different_and_each_as_often_right():
    right = collections.Counter()
    for each in made("science"):
        options, said = each.metadata["options"], each.metadata["answer"]
        assert len(set(options)) == 3 and options["ABC".index(said[1])] == said[4:]
        conclusion = conclude(each.metadata["query"], target_scene(each.metadata))
        assert conclusion.answer == said[4:]
        right[said[1]] += 1
    assert all(abs(count - 400 / 3) < 4 * (400 * 2 / 9) ** 0.5 for count in right.values())
    assert {each.metadata["kind"] for each in made("science")} == set(SCIENCE_KINDS)


def test_an_explanation_states_its_facts_all_true_and_ends_in_the_answer():
    for each in made("science"):
        facts = [fact_from_dict(fact) for fact in each.metadata["facts"]]
        assert set(parse_caption(each.fields["explanation"]).facts) == set(facts)
        assert all(fact.holds(target_scene(each.metadata)) for fact in facts)
        assert each.fields["explanation"].endswith(f" {each.metadata['answer'][4:]}.")


def test_steps_and_mirrors():
    assert [mirrored(place) for place in PLACES[:3]] == ["top right", "top", "top left"]
    assert moved("center", "up") == "top" and moved("top", "right") == "top right" and moved("top", "up") is None
