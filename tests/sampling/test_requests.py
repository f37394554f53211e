"""Requests as JSON: what each kind asks for, and one line for what makes no sense."""

import numpy as np
import pytest
from tiny_generator import Blocks, tiny_generator

from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.sampling.parts import Continuation, HiddenCells, ImageHole
from cm3leon_jax.sampling.prompts import TextHole
from cm3leon_jax.sampling.requests import RequestReader, hidden_cells
from cm3leon_jax.sampling.rules import SamplingConfig

PICTURE = Blocks().decode(np.arange(16)[None])[0]
MASK = np.zeros((8, 8, 3), np.uint8)
MASK[3, 4] = 255


def read_image(name):
    if name == "missing":
        raise UserError("the image missing cannot be used")
    return {"picture": PICTURE, "mask": MASK}[name]


READER = RequestReader(read_image, (4, 4), SamplingConfig(rule="cdk", seed=7), retrieved=1, samples=2)


def kinds(request):
    return [type(part) for part in request.parts]


def test_each_kind():
    draw = READER.read({"prompt": "cat"})
    assert kinds(draw) == [str, ImageHole] and (draw.retrieved, draw.samples, draw.sampling.seed) == (1, 2, 7)
    assert draw.query == "cat" and not draw.task
    caption = READER.read({"image": "picture", "max_tokens": 5, "retrieved": 0})
    assert kinds(caption) == [TextHole, np.ndarray] and caption.parts[0].max_tokens == 5 and caption.query == ""
    fill = READER.read({"prompt": "cat", "image": "picture", "mask": "mask", "id": 12})
    assert kinds(fill) == [str, HiddenCells] and fill.id == "12"
    assert np.argwhere(fill.parts[1].hidden).tolist() == [[1, 2]]
    edit = READER.read({"instruction": "dog", "image": "picture"})
    assert edit.task == "edit" and kinds(edit) == [str, np.ndarray, str, ImageHole] and edit.retrieved == 0
    asked = READER.read({"task": "vqa", "image": "picture", "question": "what", "wording": 2, "max_tokens": 5})
    assert asked.task == "vqa" and kinds(asked) == [str, TextHole, Continuation, np.ndarray] and asked.retrieved == 0
    assert asked.parts[:2] == ("Question: what The answer is", TextHole(5))
    rendering = READER.read({"task": "text_rendering", "text": "cat", "id": "a", "samples": 3})
    assert rendering.parts == ('draw "cat"', ImageHole()) and (rendering.id, rendering.samples) == ("a", 3)
    parts = [{"text": "c"}, {"hole": "text", "max_tokens": 3}, {"image": "picture", "mask": "mask"}]
    parts += [{"text": "d"}, {"hole": "image"}]
    assert kinds(READER.read({"parts": parts})) == [str, TextHole, HiddenCells, str, ImageHole]
    changed = READER.read({"prompt": "cat", "sampling": {"rule": "top_p", "top_p": 1, "seed": 4}, "samples": 3})
    assert (changed.sampling.rule, changed.sampling.top_p, changed.sampling.seed, changed.samples) == ("top_p", 1, 4, 3)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ([], "a request is a JSON object"),
        ({}, "keys missing"),
        ({"promt": "cat"}, "unknown keys promt"),
        ({"prompt": "cat", "image": "picture"}, "keys image, prompt"),
        ({"prompt": "  "}, "prompt is empty"),
        ({"prompt": 3}, "prompt is a text"),
        ({"image": "missing"}, "missing cannot be used"),
        ({"prompt": "cat", "samples": 0}, "samples is 0; it is a number from 1 to"),
        ({"prompt": "cat", "samples": True}, "samples is True"),
        ({"prompt": "cat", "retrieved": -1}, "retrieved is -1"),
        ({"prompt": "cat", "sampling": {"ruel": "cdk"}}, "sampling is an object with some of rule"),
        ({"prompt": "cat", "sampling": {"top_p": "high"}}, "sampling.top_p is 'high'"),
        ({"prompt": "cat", "sampling": {"top_p": float("nan")}}, "sampling.top_p is nan"),
        ({"prompt": "cat", "sampling": {"top_p": 2.0}}, "must lie in"),
        ({"prompt": "cat", "sampling": {"rule": "magic"}}, "unknown sampling rule"),
        ({"prompt": "cat", "sampling": {"seed": -1}}, "sampling seed is -1"),
        ({"instruction": " ", "image": "picture"}, "instruction is empty"),
        ({"task": "vqaa"}, "unknown task 'vqaa'"),
        ({"task": 3}, "task is a text"),
        ({"task": "vqa", "image": "picture"}, "question is missing"),
        ({"task": "vqa", "image": "picture", "question": 3}, "question is a text"),
        ({"task": "vqa", "image": "picture", "question": "q", "mask": "mask"}, "mask does not belong there"),
        ({"task": "vqa", "image": "picture", "question": "q", "wording": 3}, "has 3 wordings"),
        ({"task": "vqa", "image": "picture", "question": "q", "retrieved": 1}, "leave out retrieved"),
        ({"parts": []}, "parts are a list"),
        ({"parts": [{"sound": "a"}]}, "a part is"),
        ({"parts": [{"hole": "sound"}]}, "a hole is"),
        ({"parts": ["cat"]}, "a part is"),
    ],
)
def test_what_makes_no_sense_is_said_in_one_line(row, words):
    with pytest.raises(UserError, match=words) as error:
        READER.read(row)
    assert len(str(error.value)) < 300 and "\n" not in str(error.value)


def test_cells_that_a_mask_touches():
    mask = np.zeros((8, 8), bool)
    mask[3:5, 4] = True
    assert np.argwhere(hidden_cells(mask, (4, 4))).tolist() == [[1, 2], [2, 2]]


def test_all_are_asked_together_and_one_that_is_wrong_spoils_no_other():
    generator = tiny_generator()
    rows = [{"prompt": "cat"}, {"prompt": "a" * 90}, {"image": "picture"}, {"instruction": "dog", "image": "picture"}]
    asked = generator.ask_all([READER.read(row) for row in rows])
    assert isinstance(asked[1], UserError) and "the model holds 96" in str(asked[1])
    (drawn, documents), (caption, _), (edit, _) = asked[0], asked[2], asked[3]
    alone = generator.ask_text_to_image("cat", generator.retrieve(["cat"], 1)[0])
    np.testing.assert_array_equal(drawn.conditional, alone.conditional)
    assert [document.caption for document in documents] == [generator.retrieve(["cat"], 1)[0][0].caption]
    np.testing.assert_array_equal(caption.conditional, generator.ask_image_to_text(PICTURE).conditional)
    bare = tiny_generator(library=None)
    missing, drawn = bare.ask_all([READER.read(row) for row in ({"prompt": "cat"}, {"prompt": "cat", "retrieved": 0})])
    assert isinstance(missing, UserError) and "retrieve 0" in str(missing) and not isinstance(drawn, UserError)
    np.testing.assert_array_equal(edit.conditional, generator.ask_edit_image("dog", PICTURE).conditional)
