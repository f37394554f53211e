"""Visual Dialog: files in their published form, candidates ranked by a known likelihood."""

import json

import numpy as np
import pytest
from stand_ins import Told, picture, work_in, write
from tiny_generator import tiny_generator

from cm3leon_jax.evaluation.suites.visdial import request_of, visdial
from cm3leon_jax.evaluation.suites.visdial_data import read_dialogs
from cm3leon_jax.runtime.errors import UserError

ANSWERS = ["yes", "no", "two", "red ball"]


@pytest.fixture
def folder(tmp_path):
    """Two dialogs of two rounds with four candidates; the second round of the first is judged."""
    turns = [
        {"question": 0, "answer": 0, "answer_options": [0, 1, 2, 3], "gt_index": 0},
        {"question": 1, "answer": 2, "answer_options": [3, 2, 1, 0], "gt_index": 1},
    ]
    dialogs = [{"image_id": image, "caption": f"c {image}", "dialog": turns} for image in (7, 8)]
    data = {"questions": ["a", "b?"], "answers": ANSWERS, "dialogs": dialogs}
    write(tmp_path / "v" / "visdial_1.0_val.json", {"split": "val2018", "version": "1.0", "data": data})
    dense = [{"image_id": 7, "round_id": 2, "gt_relevance": [0.0, 1.0, 0.5, 0.0]}]
    write(tmp_path / "v" / "visdial_1.0_val_dense_annotations.json", dense)
    for image in (7, 8):
        picture(tmp_path / "v" / "VisualDialog_val2018" / f"VisualDialog_val2018_{image:012d}.jpg", image)
    return tmp_path / "v"


def scored(request, text):
    return {"yes": -3.0, "no": -1.0, "two": -2.0, "red ball": -4.4}[text]


def test_figures_for_known_likelihoods(folder, tmp_path):
    work = work_in(tmp_path / "out", Told(lambda *_: [""], scored), visdial=f"visdial:{folder}", shown=1)
    result = visdial(work)
    found = {each.name: each.value for each in result.figures}
    # The right answers, "yes" and "two", come third and second.
    assert found["MRR"] == pytest.approx((1 / 3 + 1 / 2) / 2) and found["mean rank"] == pytest.approx(2.5)
    assert found["R@1"] == 0 and found["R@5"] == 1
    gained, best = 0.5 / 1 + 1 / np.log2(3), 1 / 1 + 0.5 / np.log2(3)
    assert found["NDCG"] == pytest.approx(gained / best) and result.figures[0].examples == 1
    assert result.figures[1].examples == 4 and result.counts["visdial"].scored == 4
    assert ("1.", "no (-1.00)") in result.shown[0].lines

    judged_only = work_in(
        tmp_path / "judged", Told(lambda *_: [""], scored), visdial=str(folder), visdial_all_rounds=False,
        length_normalized=True,
    )  # fmt: skip
    found = {each.name: each for each in visdial(judged_only).figures}
    assert found["MRR"].examples == 1
    assert found["MRR"].value == pytest.approx(1 / 2)  # a token: no -0.5, two -1, red ball -1.47, yes -1.5


def test_what_was_said_before_stands_before_the_question(folder):
    _, second, *_ = read_dialogs(str(folder)).rounds
    said = request_of(second, history=True)["parts"]
    assert said[0] == {"text": "c 7 Question: a? Answer: yes. Question: b? Answer:"}
    assert said[1:3] == [{"hole": "text", "max_tokens": 1}, {"text": "."}]
    assert request_of(second, history=False)["parts"][0] == {"text": "Question: b? Answer:"}


def test_a_tiny_model_ranks_as_its_likelihoods(folder, tmp_path):
    generator = tiny_generator()
    work = work_in(tmp_path / "out", generator, visdial=str(folder), most_left_out=0.9)
    assert {each.name for each in visdial(work).figures} >= {"NDCG", "MRR"}
    first = json.loads((tmp_path / "out" / "visdial" / "results.jsonl").read_text().splitlines()[0])
    (alone,) = generator.logprobs(
        [generator.question(generator.ask(["c 7 Question: a? Answer:", *hole_and_image(generator, work)]), ANSWERS)]
    )
    np.testing.assert_allclose(first["logprobs"], alone, atol=1e-3)
    assert first["tokens"] == [4, 3, 4, 9]


def hole_and_image(generator, work):
    from cm3leon_jax.sampling.prompts import TextHole

    return TextHole(1), ".", generator.image_tokenizer.encode(work.dialogs.image(work.dialogs.rounds[0].picture, 8)[None])[0]  # fmt: skip # noqa: E501


def test_files_of_another_form(folder, tmp_path):
    dense = folder / "visdial_1.0_val_dense_annotations.json"
    dense.write_text('[{"image_id": 7, "round_id": 2, "gt_relevance": [1.0]}]')
    dialogs = read_dialogs(str(folder))
    assert len(dialogs.rounds) == 2 and list(dialogs.left_out) == ["an answer is judged that is not among the options"]
    for row in ('{"image_id": 7}', "3", '"x"'):
        dense.write_text(f"[{row}]")
        with pytest.raises(UserError, match="a dense annotation of VisDial is of another form"):
            read_dialogs(str(folder))
    dense.write_text('[{"image_id": 7}]')
    with pytest.raises(UserError, match="a dense annotation of VisDial is of another form"):
        read_dialogs(str(folder))
    dense.unlink()
    with pytest.raises(UserError, match=r"no file visdial_1.0_\*_dense_annotations.json"):
        read_dialogs(str(folder))
    with pytest.raises(UserError, match="no folder"):
        read_dialogs(str(tmp_path / "nowhere"))
    dense.write_text("[]")
    for file in (folder / "VisualDialog_val2018").iterdir():
        file.unlink()
    with pytest.raises(UserError, match=r"2 of 2 dialogs of .* no picture VisualDialog_val2018_000000000007"):
        work_in(tmp_path / "out", Told(lambda *_: [""], scored), visdial=str(folder)).dialogs  # noqa: B018


def test_dialogs_that_cannot_be_used_are_counted(folder, tmp_path):
    (folder / "VisualDialog_val2018" / "VisualDialog_val2018_000000000008.jpg").unlink()
    work = work_in(tmp_path / "out", Told(lambda *_: [""], scored), visdial=str(folder))
    with pytest.raises(UserError, match=r"1 of 2 dialogs of .*most_left_out"):
        visdial(work)
    assert not work.models.generator.asked
    work = work_in(tmp_path / "out", Told(lambda *_: [""], scored), visdial=str(folder), most_left_out=0.5)
    assert visdial(work).counts["visdial"].left_out == {"a dialog's picture is missing": 1}


def test_pictures_that_cannot_be_decoded_are_counted_together(folder, tmp_path):
    picture(folder / "VisualDialog_val2018" / "VisualDialog_val2018_000000000009.jpg", 9)
    path = folder / "visdial_1.0_val.json"
    file = json.loads(path.read_text())
    file["data"]["dialogs"].append(file["data"]["dialogs"][0] | {"image_id": 9})
    path.write_text(json.dumps(file))
    for image in (8, 9):
        (folder / "VisualDialog_val2018" / f"VisualDialog_val2018_{image:012d}.jpg").write_bytes(b"no picture")
    work = work_in(tmp_path / "out", Told(lambda *_: [""], scored), visdial=str(folder), most_left_out=0.7)
    result = visdial(work)
    assert list(result.counts["visdial"].unanswered.values()) == [4] and len(result.shown) == 2


@pytest.mark.parametrize("dialogs", [["x"], [None, 3], {"a": 1}, 5, None, [{"image_id": 7, "dialog": "x"}]])
def test_dialogs_of_another_form(folder, tmp_path, dialogs):
    path = folder / "visdial_1.0_val.json"
    path.write_text(json.dumps({"data": json.loads(path.read_text())["data"] | {"dialogs": dialogs}}))
    work = work_in(tmp_path / "out", Told(lambda *_: [""], scored), visdial=str(folder))
    with pytest.raises(UserError, match=r"cannot be used|has no 'dialogs' that is a list"):
        visdial(work)


@pytest.mark.parametrize(
    ("changed", "turn"),
    [
        ({"questions": [None, "b?"]}, {}),
        ({"answers": ["yes", None, "two", "red ball"]}, {}),
        ({}, {"answer_options": [-1, 0, 1, 2]}),
        ({}, {"answer_options": [0, 1, 2, 4]}),
        ({}, {"answer_options": "0123"}),
        ({}, {"question": 2}),
        ({}, {"gt_index": 4}),
    ],
)
def test_numbers_of_no_text(folder, changed, turn):
    path = folder / "visdial_1.0_val.json"
    file = json.loads(path.read_text())
    file["data"] |= changed
    file["data"]["dialogs"][1]["dialog"][0] |= turn
    path.write_text(json.dumps(file))
    assert read_dialogs(str(folder)).left_out.total() == (2 if changed else 1)


def test_a_change_of_any_word_is_another_data_set(folder):
    before = read_dialogs(str(folder)).fingerprint
    path = folder / "visdial_1.0_val.json"
    path.write_text(path.read_text().replace("c 7", "c 9"))
    assert read_dialogs(str(folder)).fingerprint != before
