"""VQA v2, OKVQA and VizWiz: exact figures for known answers, resuming, and what cannot be used."""

import json

import pytest
from stand_ins import Told, level, pairs_folder, picture, work_in, write, write_vqa
from tiny_generator import tiny_generator

from cm3leon_jax.evaluation.suites.vqa import SUBMISSION_FILE, okvqa, vizwiz, vqa2
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.runtime.files import read_json_lines

TEN = [["cat"] * 10, ["2"] * 5 + ["two"] * 5, ["yes"] * 2 + ["no"] * 8]


def figures(result):
    return {each.name: each.value for each in result.figures}


def told(*answers):
    """By the brightness of the picture, 10 for each."""
    return Told(lambda request, _: [answers[round(level(request) / 10)]])


def test_figures_for_known_answers(tmp_path):
    folder = write_vqa(tmp_path / "data", TEN)
    work = work_in(tmp_path / "out", told("cat", "two", "yes"), vqa2=f"vqa2:{folder}?split=val", shown=2)
    result = vqa2(work)
    # Two of ten say "yes": of the sets of nine people, 8 have both and 2 have one.
    third = (8 * 2 / 3 + 2 * 1 / 3) / 10
    assert figures(result) == pytest.approx(
        {"accuracy": (2 + third) / 3, "accuracy, number": 1.0, "accuracy, other": (1 + third) / 2}
    )
    assert result.figures[0].low <= result.figures[0].value <= result.figures[0].high and result.figures[0].percent
    assert result.counts["vqa2"].scored == 3 and not result.counts["vqa2"].left_out
    assert [each.title for each in result.shown] == ["what 0", "what 1"]
    assert ("people", "2 (5), two (5)") in result.shown[1].lines
    submitted = json.loads((tmp_path / "out" / SUBMISSION_FILE).read_text())
    assert submitted[0] == {"question_id": 100, "answer": "cat"} and len(submitted) == 3
    request = work.models.generator.asked[1]
    assert (
        request.task == "vqa" and request.parts[0] == "Question: what 1 Answer:" and request.sampling.rule == "greedy"
    )


def test_killed_between_pieces_it_continues(tmp_path):
    folder = write_vqa(tmp_path / "data", TEN)
    settings = {"vqa2": f"vqa2:{folder}?split=val"}
    generator = told("cat", "two", "yes")
    expected = figures(vqa2(work_in(tmp_path / "whole", generator, **settings)))

    class Killed(Exception):
        pass

    class Dies(Told):
        def run(self, prompts, *arguments, **options):
            if len(self.asked) > 2:
                raise Killed
            return super().run(prompts, *arguments, **options)

    with pytest.raises(Killed):
        vqa2(work_in(tmp_path / "out", Dies(generator.answer), **settings))
    assert not (tmp_path / "out" / "vqa2" / "results.jsonl").exists()
    again = told("cat", "two", "yes")
    assert figures(vqa2(work_in(tmp_path / "out", again, **settings))) == expected
    assert len(again.asked) == 1  # the first piece, of two questions, is not asked again


def test_okvqa_counts_five_answers_twice(tmp_path):
    folder = write_vqa(tmp_path / "data", [["a"] * 4 + ["b"], ["c"] * 5], ("OpenEnded_mscoco", "mscoco"))
    work = work_in(tmp_path / "out", told("b", "x"), okvqa=f"okvqa:{folder}?split=val")
    assert figures(okvqa(work))["accuracy"] == pytest.approx(0.6 / 2)  # 2 of 10, as above
    work = work_in(tmp_path / "else", told("b"), okvqa=f"okvqa:{write_vqa(tmp_path / 'more', [['a'] * 3], ('OpenEnded_mscoco', 'mscoco'))}?split=val")  # fmt: skip # noqa: E501
    with pytest.raises(UserError, match="OKVQA has five"):
        okvqa(work)
    assert not work.models.generator.asked


def test_vizwiz_with_answerability(tmp_path):
    rows = []
    for number, said in enumerate(["dog", "unanswerable", "red"]):
        picture(tmp_path / "data" / f"VizWiz_val_{number}.jpg", 10 * number)
        rows.append({"image": f"VizWiz_val_{number}.jpg", "question": f"q{number}", "answers": [{"answer": said}] * 10})
        rows[-1] |= {"answer_type": "other", "answerable": int(said != "unanswerable")}
    write(tmp_path / "data" / "val.json", rows)
    generator = told("dog", "unanswerable", "blue")
    generator.likelihood = lambda request, text: [-5.0, -0.1, -0.2][round(level(request) / 10)]
    found = figures(vizwiz(work_in(tmp_path / "out", generator, vizwiz=f"vizwiz:{tmp_path / 'data'}?split=val")))
    assert found["accuracy"] == pytest.approx(2 / 3)
    # Two are found unanswerable (e^-0.1 and e^-0.2 are above a half), one of them rightly, and ranked first.
    assert found["answerability, F1"] == pytest.approx(2 / 3)
    assert found["answerability, average precision"] == 1.0
    kept = read_json_lines(tmp_path / "out" / "vizwiz_likelihoods" / "results.jsonl")
    assert [row["logprobs"] for row in kept] == [[-5.0], [-0.1], [-0.2]]


def test_what_people_answered_is_looked_at_before_asking(tmp_path):
    folder = write_vqa(tmp_path / "data", [["cat"]] * 3)
    work = work_in(tmp_path / "out", told("cat"), vqa2=f"vqa2:{folder}?split=val")
    with pytest.raises(UserError, match="has no list of answers"):
        vqa2(work)
    picture(tmp_path / "vizwiz" / "a.jpg")
    write(tmp_path / "vizwiz" / "val.json", [{"image": "a.jpg", "question": "q", "answers": [{"answer": "x"}] * 10}])
    other = work_in(tmp_path / "out", work.models.generator, vizwiz=f"vizwiz:{tmp_path / 'vizwiz'}?split=val")
    with pytest.raises(UserError, match="does not say whether it is answerable"):
        vizwiz(other)
    assert not work.models.generator.asked


def test_training_data_are_not_measured_by_mistake(tmp_path):
    folder = write_vqa(tmp_path / "data", TEN)
    for file in folder.glob("*.json"):  # of no split by their names
        file.rename(folder / file.name.replace("val2014_", ""))
    with pytest.raises(UserError, match=r"names no split.*add \?split=val"):
        vqa2(work_in(tmp_path / "out", told("cat"), vqa2=f"vqa2:{folder}"))
    for split in ("train", "val"):
        generator = told("cat", "2", "no")
        vqa2(work_in(tmp_path / split, generator, vqa2=f"vqa2:{folder}?split={split}"))
        assert len(generator.asked) == 3


def test_a_tiny_model_end_to_end(tmp_path):
    folder = write_vqa(tmp_path / "data", TEN)
    work = work_in(tmp_path / "out", tiny_generator(), vqa2=f"vqa2:{folder}?split=val", answer_tokens=4, examples=2)
    result = vqa2(work)
    assert result.counts["vqa2"].scored == 2 and 0 <= result.figures[0].value <= 1


def test_what_cannot_be_used(tmp_path):
    folder = write_vqa(tmp_path / "data", TEN, missing=(1,))
    settings = {"vqa2": f"vqa2:{folder}?split=val"}
    with pytest.raises(UserError, match=r"1 of 3 examples of vqa2:.* cannot be used \(the first: 101: no picture"):
        vqa2(work_in(tmp_path / "out", told("cat"), **settings))
    result = vqa2(work_in(tmp_path / "out", told("cat", "", "no"), most_left_out=0.5, **settings))
    assert result.counts["vqa2"].scored == 2 and sum(result.counts["vqa2"].left_out.values()) == 1

    def too_long(request, sample):
        return None if level(request) == 20 else ["cat"]

    with pytest.raises(UserError, match="1 of 2 requests of vqa2 were not answered: this takes 99 positions"):
        vqa2(work_in(tmp_path / "long", Told(too_long), most_left_out=0.4, **settings))
    result = vqa2(work_in(tmp_path / "long", Told(too_long), most_left_out=0.5, **settings))
    assert result.counts["vqa2"].unanswered == {"this takes 99 positions and the model holds 96": 1}
    with pytest.raises(UserError, match=r"set SuitesConfig.okvqa to a source"):
        okvqa(work_in(tmp_path / "none", told("cat")))
    pairs = pairs_folder(tmp_path / "pairs", [["a cat"]] * 40)
    with pytest.raises(UserError, match="is no instruction of task 'vqa'"):
        vqa2(work_in(tmp_path / "pairs_out", told("cat"), vqa2=pairs, split="train"))
