"""Templates: what they say, how their fields fill them, and that an instruction can be written down and read back."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cm3leon_jax.instructions.instruction import Instruction, InstructionDocument, Text, from_parts
from cm3leon_jax.instructions.tasks import TASKS, draw_wording, find_task, first_wording, texts_to_learn, wordings
from cm3leon_jax.instructions.template import Template
from cm3leon_jax.runtime.errors import UserError

VQA = {"task": "vqa", "fields": {"question": "what is it?", "answer": ["a cat", "cat"]}}


def test_an_answer_is_a_part_of_its_own():
    (document,) = first_wording(VQA).documents
    assert document.texts == (Text("Question: what is it? Answer:"), Text("a cat", True), Text(".", False, True))
    assert document.has_image and not document.image_is_answer
    assert document.text == "Question: what is it? Answer: a cat."


def test_pictures_are_given_or_answers():
    first, second = first_wording({"task": "edit", "fields": {"instruction": "make it red"}}).documents
    assert (first.has_image, first.image_is_answer) == (True, False)
    assert (second.text, second.image_is_answer) == ("make it red", True)


@pytest.mark.parametrize("name", TASKS)
def test_every_template_has_what_its_task_names(name):
    task = TASKS[name]
    for template in task.templates:
        filled = template.fill({field: f"<{field}>" for field in template.texts})
        said = [part for document in filled.documents for part in document.texts]
        assert {part.text for part in said if part.is_answer} == {
            f"<{field}>" for field in template.texts if field in task.answers
        }
        assert filled.images == len(template.images)
        assert any(part.is_answer for part in said) or filled.documents[-1].image_is_answer


def test_wordings_and_alternatives_are_all_drawn():
    rng = np.random.default_rng(0)
    drawn = {draw_wording(VQA, rng) for _ in range(200)}
    assert len(drawn) == 6  # three templates, two answers


def test_a_line_ends_where_the_template_says_so():
    (document,) = find_task("vqa").templates[1].fill({"question": " what? ", "answer": "red"}).documents
    assert document.texts == (Text("Question: what?\n"), Text("red", True, True))
    instruction = Instruction((document,))
    assert document.text == "Question: what?\nred"
    assert from_parts(**instruction.to_dict()) == instruction


@pytest.mark.parametrize("name", TASKS)
def test_a_filled_template_says_what_its_pattern_says(name):
    """Not a space more or less: it is tokenized as any other text."""
    for pattern, template in zip(TASKS[name].patterns, TASKS[name].templates, strict=True):
        values = {field: f"<{field}>" for field in template.texts}
        texts = [part for part in pattern.split(" <break> ") if not part.startswith("{image")]
        filled = [document.text for document in template.fill(values).documents if document.texts]
        assert filled == [text.format(**values) for text in texts]


def test_a_text_tokenizer_learns_all_wordings():
    learned = [tuple(texts_to_learn(VQA, number)) for number in range(50)]
    assert len(set(learned)) == 6
    assert tuple(texts_to_learn(VQA, 7)) == learned[7]
    edit = {"task": "edit", "fields": {"instruction": "make it red"}}
    assert texts_to_learn(edit, 0) == [document.text for document in first_wording(edit).documents]


def test_templates_need_their_fields():
    fields = {"question": "q", "context": "", "choices": "(A) x", "answer": "(A)"}
    assert len(wordings({"task": "science", "fields": fields})) == 1  # without an explanation
    assert len(wordings({"task": "science", "fields": fields | {"explanation": "e"}})) == 2
    with pytest.raises(UserError, match="an example of vqa has only the fields question"):
        wordings({"task": "vqa", "fields": {"question": "q"}})


def test_unknown_task():
    with pytest.raises(UserError, match="unknown task 'vqa2'; there are edit, text_rendering"):
        find_task("vqa2")


@pytest.mark.parametrize(
    "pattern",
    ["{answer} {image}", "{answer} <break> x {image}", "{answer} <break> {answer}", "{question} <break> {image}"],
)
def test_patterns_that_are_none(pattern):
    with pytest.raises(ValueError, match="template"):
        Template(pattern, frozenset({"answer"}))


texts = st.lists(
    st.builds(Text, st.text("ab ", min_size=1).filter(str.strip).map(str.strip), st.booleans()), max_size=3
)
documents = st.builds(lambda parts, answer: InstructionDocument(tuple(parts), True, answer), texts, st.booleans())


@given(st.lists(documents, min_size=1, max_size=3))
def test_reading_back_is_exact(found):
    instruction = Instruction(tuple(found))
    assert from_parts(**instruction.to_dict()) == instruction


def test_the_order_of_keys_says_nothing():
    parts = [{"text": "a"}, {"follows_at_once": True, "text": "."}]
    assert from_parts(parts).documents[0].text == "a."


@pytest.mark.parametrize(
    ("parts", "answers", "message"),
    [
        ([{"text": " "}], [], "part 0 is neither"),
        ([{"text": "a", "image": "b"}], [], "part 0 is neither"),
        ([{"text": "a"}], [1], "places among the 1 parts"),
        ([{"text": "a"}], ["0"], "places among the 1 parts"),
    ],
)
def test_parts_that_are_none(parts, answers, message):
    with pytest.raises(ValueError, match=message):
        from_parts(parts, answers)
