"""The files of a suite and the paper's tables, for known figures."""

import json

import numpy as np
import pytest
from html_page import Page

from cm3leon_jax.commands.evaluate_suites import evaluate_paper
from cm3leon_jax.evaluation.suites.config import SuitesConfig
from cm3leon_jax.evaluation.suites.paper import paper_tables, write_paper
from cm3leon_jax.evaluation.suites.result import Count, Figure, Shown, SuiteResult, number
from cm3leon_jax.evaluation.suites.writing import About, write_result
from cm3leon_jax.runtime.errors import UserError

ABOUT = About("vqa2", "VQA", {"vqa2": "vqa2:x"}, {"sampling": 0}, {"decoder": "abc"}, {"vqa2": "def"}, "1.0", None)
RESULT = SuiteResult(
    [Figure("vqa2", "accuracy", 0.4761, 0.46, 0.49, 2000, True), Figure("0 | 1", "FID", 4.881, None, None, 3)],
    {"vqa2": Count("vqa2:x", 2000, {"no picture": 2, "no text": 1}, {"too long": 4})},
    [Shown("<what>", [("a cat", np.zeros((8, 8, 3), np.uint8))], [("answer", "a & b")])],
    ["of several"],
)


def test_files_hold_what_was_found(tmp_path):
    write_result(tmp_path, RESULT, ABOUT)
    assert json.loads((tmp_path / "result.json").read_text()) == {
        "suite": "vqa2",
        "summary": "VQA",
        "settings": {"vqa2": "vqa2:x"},
        "seeds": {"sampling": 0},
        "models": {"decoder": "abc"},
        "fingerprints": {"vqa2": "def"},
        "version": "1.0",
        "commit": None,
        "figures": [
            {"data": "vqa2", "name": "accuracy", "value": 0.4761, "low": 0.46, "high": 0.49, "examples": 2000, "percent": True},  # noqa: E501
            {"data": "0 | 1", "name": "FID", "value": 4.881, "low": None, "high": None, "examples": 3, "percent": False},  # noqa: E501
        ],
        "counts": {
            "vqa2": {
                "source": "vqa2:x",
                "scored": 2000,
                "left_out": {"no picture": 2, "no text": 1},
                "unanswered": {"too long": 4},
            }
        },
        "notes": ["of several"],
    }  # fmt: skip
    assert (tmp_path / "result.md").read_text() == (
        "# vqa2: VQA\n\n"
        "| data | figure | value | 95% interval | examples |\n| --- | --- | --- | --- | --- |\n"
        "| vqa2 | accuracy | 47.61 | [46.00, 49.00] | 2,000 |\n| 0 \\| 1 | FID | 4.88 |  | 3 |\n\n"
        "- vqa2: vqa2:x, 2,000 examples\n- vqa2: 3 left out, most often: no picture\n"
        "- vqa2: 4 not answered, most often: too long\n- of several\n- made with cm3leon_jax 1.0: decoder `abc`\n\n"
        '## Settings\n```json\n{\n  "settings": {\n    "vqa2": "vqa2:x"\n  },\n  "seeds": {\n    "sampling": 0\n  },\n'
        '  "fingerprints": {\n    "vqa2": "def"\n  }\n}\n```\n'
    )
    page = Page((tmp_path / "result.html").read_text())
    assert "47.61 [46.00, 49.00] 2,000" in page.text and "<what>" in page.text and "answer a & b" in page.text
    assert [tag for tag, _ in page.elements].count("img") == 1


def test_numbers_as_tables_have_them():
    assert [number(0.4761, True), number(12.345), number(0.01234), number(-3.2)] == [
        "47.61",
        "12.35",
        "0.0123",
        "-3.20",
    ]
    assert Figure("a", "b", None, None, None, 0).shown() == ("—", "")


def results():
    fid = [
        {"data": f"{n} retrieved documents", "name": "FID", "value": 20.5 - n, "low": 20.0 - n, "high": 21.0 - n}
        for n in (0, 2)
    ]
    cider = {"data": "coco_captions", "name": "CIDEr-D", "value": 0.5, "low": 0.4, "high": 0.6, "percent": True}
    common = {"examples": 10, "percent": False}
    return {
        "text_to_image": {"figures": [common | each for each in fid], "models": {"decoder": "abc"}},
        "captioning": {"figures": [common | cider]},
    }


def test_our_row_stands_beside_the_published_ones(tmp_path):
    config = SuitesConfig(retrieved=(0, 2))
    (drawn, tasks), missing = paper_tables(results(), config)
    assert ("CM3Leon-7B", "2", "4.88") in drawn.rows and ("CM3Leon-350M", "2", "14.20") in drawn.rows
    assert {("RA-CM3", "2", "15.70"), ("KNN-Diffusion", "10", "12.50"), ("MUSE", "none", "7.88")} <= set(drawn.rows)
    # Of 30,000 captions or of ten: a figure says it.
    assert list(drawn.rows[-2:]) == [
        ("this model", "0", "20.50 [20.00, 21.00], 10 examples"),
        ("this model", "2", "18.50 [18.00, 19.00], 10 examples"),
    ]
    assert tasks.rows[0] == ("MS-COCO (test), CIDEr", "61.6", "65.5", "79.4", "50.00 [40.00, 60.00], 10 examples")
    assert tasks.rows[1] == ("VQA2 (test-dev), accuracy", "47.6", "43.5", "51.8", "—")
    assert tasks.rows[4] == ("Image-Paragraph (test), CIDEr", "10.5", "not published", "not published", "—")
    assert missing[0] == "VQA2 (test-dev), accuracy: set SuitesConfig.vqa2" and len(missing) == 5
    text = write_paper(tmp_path, results(), config)
    assert text == (tmp_path / "result.md").read_text()
    assert "| this model | 0 | 20.50 [20.00, 21.00], 10 examples |" in text
    assert "Table 2: captions and questions" in Page((tmp_path / "result.html").read_text()).text
    written = json.loads((tmp_path / "result.json").read_text())
    assert written["missing"] == missing
    first, second = (table["figures"] for table in written["tables"])
    assert [figure["value"] for figure in first] == [20.5, 18.5] and second[1:] == [None] * 5
    assert second[0]["suite"] == "captioning" and second[0]["value"] == 0.5 and second[0]["examples"] == 10
    assert "set SuitesConfig.text_to_image, and SuitesConfig.network_weights" in paper_tables({}, config)[1][0]


def test_the_paper_runs_what_is_named(tmp_path, capsys):
    ran = []

    def run(name):
        ran.append(name)
        (tmp_path / name).mkdir()
        (tmp_path / name / "result.json").write_text(json.dumps(results()[name]))

    evaluate_paper(str(tmp_path), SuitesConfig(coco_captions="x", text_to_image="y", retrieval="z"), run)
    assert ran == ["text_to_image", "captioning"]
    row = "| MS-COCO (test), CIDEr | 61.6 | 65.5 | 79.4 | 50.00 [40.00, 60.00], 10 examples |"
    assert row in capsys.readouterr().out
    with pytest.raises(UserError, match=r"needs a data set.*SuitesConfig.text_to_image.*SuitesConfig.visdial"):
        evaluate_paper(str(tmp_path), SuitesConfig(), run)


def test_settings_that_make_no_sense():
    for wrong in ({"piece": 0}, {"samples": 0}, {"most_left_out": 1.0}, {"retrieved": ()}, {"retrieved": (1, 1)}):
        with pytest.raises(UserError, match=f"SuitesConfig.{next(iter(wrong))}"):
            SuitesConfig(**wrong)
