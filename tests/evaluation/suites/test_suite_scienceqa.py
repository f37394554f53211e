"""ScienceQA: written answers read as options, asked in both wordings."""

import dataclasses

import pytest
import tiny_generator
from stand_ins import Told, level, pairs_folder, picture, work_in, write

from cm3leon_jax.evaluation.suites.scienceqa import evaluate_scienceqa
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.sampling.prompts import TextHole

QUESTIONS = [  # right option, subject, grade, hint
    (0, "natural science", "grade2", "ab"),
    (1, "social science", "grade8", ""),
    (1, "language science", "grade12", ""),
]


@pytest.fixture
def source(tmp_path):
    return written(tmp_path / "science")


def written(folder, **changed):
    """ScienceQA's file with `changed` in each of its problems, and a problem without a picture."""
    problems = {"99": {"question": "q", "choices": ["x", "y"], "answer": 0, "image": None, "split": "test"}}
    for number, (right, subject, grade, hint) in enumerate(QUESTIONS):
        picture(folder / "images" / "test" / str(number) / "image.png", 10 * number)
        problems[str(number)] = {
            "question": f"q{number}", "choices": ["x", "y"], "answer": right, "hint": hint, "image": "image.png",
            "subject": subject, "grade": grade, "solution": "e", "split": "test",
        } | changed  # fmt: skip
    write(folder / "problems.json", problems)
    return f"scienceqa:{folder}?split=test"


def test_figures_for_known_answers(source, tmp_path):
    def answer(request, _):
        explained = sum(isinstance(part, TextHole) for part in request.parts) == 2
        if explained:
            return ["because", ["(A)", "(B)", "y"][round(level(request) / 10)]]
        return [["(A)", "(A)", "no idea"][round(level(request) / 10)]]

    result = evaluate_scienceqa(work_in(tmp_path, Told(answer), scienceqa=source, explanation_tokens=7))
    found = {(each.data, each.name): each.value for each in result.figures}
    assert found["without explanation", "Avg"] == pytest.approx(1 / 3)
    assert found["without explanation", "names no option"] == pytest.approx(1 / 3)
    assert found["with explanation", "Avg"] == 1 and found["with explanation", "SOC"] == 1
    assert found["without explanation", "TXT"] == 1 and found["without explanation", "G7-12"] == 0
    assert found["without explanation", "NO"] is None and result.counts["scienceqa"].scored == 3
    assert ("with explanation", "because / (B)") in result.shown[1].lines and ("right", "y") in result.shown[1].lines


def test_a_picture_that_cannot_be_decoded_is_left_out(source, tmp_path):
    for number in (0, 1):
        (tmp_path / "science" / "images" / "test" / str(number) / "image.png").write_bytes(b"no picture")
    told = Told(lambda request, _: ["(A)"] * sum(isinstance(part, TextHole) for part in request.parts))
    result = evaluate_scienceqa(work_in(tmp_path / "out", told, scienceqa=source, most_left_out=0.7))
    count = result.counts["scienceqa"]
    assert count.scored == 1 and [each.title for each in result.shown] == ["q2"]
    # Equal reasons are counted together; the command names the first example.
    assert list(count.unanswered.values()) == [2, 2]
    with pytest.raises(UserError, match=r"2 of 3 requests .*decoded.*; copy the picture again, the first of them 0 "):
        evaluate_scienceqa(work_in(tmp_path / "else", told, scienceqa=source))


def test_a_tiny_model_end_to_end(source, tmp_path, monkeypatch):
    monkeypatch.setattr(tiny_generator, "CONFIG", dataclasses.replace(tiny_generator.CONFIG, max_length=160))
    settings = {"answer_tokens": 2, "explanation_tokens": 2, "examples": 2}
    result = evaluate_scienceqa(work_in(tmp_path, tiny_generator.tiny_generator(), scienceqa=source, **settings))
    assert {each.data for each in result.figures} == {"without explanation", "with explanation"}
    assert result.counts["scienceqa"].scored == 2


def test_metadata_of_another_form(tmp_path):
    for changed, words in (
        ({"grade": "first"}, "lacks answer .a number., subject or grade"),
        ({"subject": 3}, "lacks"),
        ({"subject": "art"}, "example 0 of .*: a question has subject 'art' and grade 2"),
    ):
        generator = Told(lambda *_: ["(A)"])
        with pytest.raises(UserError, match=words):
            source = written(tmp_path / "science", **changed)
            evaluate_scienceqa(work_in(tmp_path / "out", generator, scienceqa=source))
        assert not generator.asked
    pairs = pairs_folder(tmp_path / "pairs", [["a"]] * 30)
    with pytest.raises(UserError, match="has no list of choices"):
        evaluate_scienceqa(work_in(tmp_path / "out", Told(lambda *_: ["(A)"]), scienceqa=pairs, split="train"))
