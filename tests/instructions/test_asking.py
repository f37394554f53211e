"""Which fields a task takes, which of its wordings they make, and one line for what does not fit."""

import pytest

from cm3leon_jax.instructions.asking import unanswered
from cm3leon_jax.instructions.instruction import Text
from cm3leon_jax.instructions.tasks import TASKS
from cm3leon_jax.runtime.errors import UserError


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("wording", [None, 0, -1])
def test_answers_are_empty_and_all_else_is_as_in_training(task, wording):
    templates = TASKS[task].templates
    template = templates[wording or 0]
    number = wording if wording != -1 else len(templates) - 1
    given = {name: f"its {name}" for name in template.given_texts}
    asked = unanswered(task, given, len(template.given_images), number)
    trained = template.fill(given | dict.fromkeys(template.answers, "an answer"))
    assert len(asked.documents) == len(trained.documents)
    for one, other in zip(asked.documents, trained.documents, strict=True):
        assert (one.has_image, one.image_is_answer) == (other.has_image, other.image_is_answer)
        assert one.texts == tuple(Text("", True) if text.is_answer else text for text in other.texts)


def test_a_field_may_have_another_name_or_be_left_out():
    expected = unanswered("ground", {"caption": "a cat", "objects": "cat at (1, 2) -> (3, 4)"})
    assert unanswered("ground", {"prompt": "a cat", "objects": "cat at (1, 2) -> (3, 4)"}) == expected
    science = {"question": "why?", "choices": "(A) so"}
    (document,) = unanswered("science", science, 1).documents
    assert document.texts[0].text == "Question: why?\nContext: N/A\nOptions: (A) so\nAnswer:"
    (explained,) = unanswered("science", science, 1, 1).documents
    assert [text.is_answer for text in explained.texts] == [False, True, False, True, False]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("vqaa", {}), "unknown task 'vqaa'; there are edit, text_rendering"),
        (("vqa", {"question": "q"}), "task 'vqa' takes image, question; image is missing"),
        (("vqa", {"question": "q"}, 2), "another image does not belong there"),
        (("vqa", {"prompt": "q"}, 1), "question is missing, caption does not belong there"),
        (("vqa", {"question": "q", "answer": "a"}, 1), "takes image, question; answer does not belong there"),
        (("vqa", {"question": " "}, 1), "question is empty"),
        (("vqa", {"question": "q"}, 1, 3), "has 3 wordings, counted from 0; 3 is none"),
        (("vqa", {"question": "q"}, 1, -1), "-1 is none"),
        (("vqa", {"question": "q", "image": "a.png"}), "image is a picture"),
        (("science", {"question": "q"}, 1), r"context \(may be left out\), choices; choices is missing"),
        (("ground", {"prompt": "p"}, 1), r"takes caption \(or prompt\), objects; objects is missing, image does not"),
        (("ground", {"prompt": "p", "caption": "c", "objects": "o"}), "names of one field"),
        (("caption", {"prompt": "p"}, 1), "takes image; caption does not belong there"),
    ],
)
def test_what_does_not_fit_is_said_in_one_line(arguments, words):
    with pytest.raises(UserError, match=words) as error:
        unanswered(*arguments)
    assert "\n" not in str(error.value)
