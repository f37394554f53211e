"""The options of `cm3leon sample` that say what is asked for, as requests."""

import pytest

from cm3leon_jax.commands.sample_options import requests_of
from cm3leon_jax.runtime.errors import UserError


def asked(task=None, mask=None, wording=None, **texts):
    return requests_of(texts, mask, task, wording)


def test_without_a_task():
    assert asked() == []
    assert asked(prompt=["cat"], image=["a"]) == [{"prompt": "cat"}, {"image": "a"}]
    assert asked(prompt=["cat"], image=["a"], mask="m") == [{"prompt": "cat", "image": "a", "mask": "m"}]
    assert asked(instruction=["dog"], image=["a"], question=None) == [{"instruction": "dog", "image": "a"}]


def test_with_a_task_the_firsts_go_together():
    assert asked("vqa", image=["a", "b"], question=["q", "r"], prompt=None) == [
        {"task": "vqa", "image": "a", "question": "q"},
        {"task": "vqa", "image": "b", "question": "r"},
    ]
    assert asked("paragraph", image=["a"], wording=2) == [{"task": "paragraph", "image": "a", "wording": 2}]
    assert asked("text_rendering", text=["A"]) == [{"task": "text_rendering", "text": "A"}]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"question": ["q"], "image": ["a"]}, "--question belongs to a task"),
        ({"prompt": ["a"], "wording": 1}, "--wording belongs to a task"),
        ({"task": "vqa"}, "task 'vqa' takes image, question; image is missing, question is missing"),
        ({"task": "vqa", "image": ["a"], "question": ["q", "r"]}, "there are 1 --image, 2 --question"),
        ({"task": "vqaa", "image": ["a"]}, "unknown task 'vqaa'"),
        ({"task": "vqa", "image": ["a"], "question": ["q"], "mask": "m"}, "a task takes no --mask"),
        ({"instruction": ["dog"]}, "--instruction TEXT changes an --image FILE"),
        ({"prompt": ["cat"], "mask": "m"}, "there are 1 and 0"),
    ],
)
def test_options_that_do_not_belong_together(options, words):
    with pytest.raises(UserError, match=words):
        asked(**options)
