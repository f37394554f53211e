"""ScienceQA's table, and options read from generated answers."""

import pytest

from cm3leon_jax.evaluation.metrics.scienceqa import Question, read_choice, scienceqa
from cm3leon_jax.runtime.errors import UserError

OPTIONS = ["solid", "liquid", "gas", "a solid and a gas"]


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("The answer is (B).", 1),
        ("The answer is B.", 1),
        ("the answer is (b)", 1),
        ("Answer: C", 2),
        ("The answer is A. BECAUSE: water is a liquid.", 0),
        ("It could be A, but ice melts. The answer is C.", 2),
        ("First the answer is A. No, the answer is B.", 1),
        ("B", 1),
        ("b", 1),
        ("(C) gas", 2),
        ("c. gas", 2),
        ("B) liquid", 1),
        ("liquid", 1),
        ("Liquid.", 1),
        ("It is a liquid because it flows.", 1),
        ("the answer is a liquid", 1),
        ("it is a solid and a gas", 3),  # the longest option that occurs
        ("solid or liquid", None),
        ("liquids", None),
        ("The answer is E.", None),  # there is no fifth option
        ("E", None),
        ("", None),
        ("A plasma", None),
    ],
)
def test_choices_are_read(answer, expected):
    assert read_choice(answer, OPTIONS) == expected


def test_options_that_say_the_same_are_no_choice():
    assert read_choice("yes", ["yes", "yes"]) is None
    assert read_choice("(B)", ["yes", "yes"]) == 1


def test_the_columns_of_the_table():
    questions = [
        Question(0, "natural science", 2, has_text=True, has_image=True),
        Question(1, "natural science", 8, has_text=False, has_image=False),
        Question(2, "social science", 6, has_text=False, has_image=True),
        Question(0, "language science", 7, has_text=True, has_image=False),
    ]
    values = {column: score.value for column, score in scienceqa([0, 0, 2, None], questions).items()}
    assert values == {
        "NAT": 0.5,
        "SOC": 1,
        "LAN": 0,
        "TXT": 0.5,
        "IMG": 1,
        "NO": 0,
        "G1-6": 1,
        "G7-12": 0,
        "Avg": 0.5,
    }


def test_an_empty_column_has_no_value():
    scores = scienceqa([0], [Question(0, "natural science", 2, has_text=True, has_image=False)])
    assert scores["SOC"].value is None and scores["SOC"].interval().low is None


def test_unknown_questions_are_refused():
    with pytest.raises(UserError, match="a question has subject 'art'"):
        scienceqa([0], [Question(0, "art", 2, True, False)])
    with pytest.raises(UserError, match="0 choices, 1 questions"):
        scienceqa([], [Question(0, "natural science", 2, True, False)])
