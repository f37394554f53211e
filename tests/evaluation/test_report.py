"""The report: what it contains, that it needs nothing else, that it escapes, and that it survives missing parts."""

import json
import re

import numpy as np
import pytest
from html_page import Page

from cm3leon_jax.data.scenes.facts import Count, Exists
from cm3leon_jax.evaluation.gallery import read_gallery, write_gallery
from cm3leon_jax.evaluation.report import write_report
from cm3leon_jax.evaluation.report_losses import loss_series, losses_section
from cm3leon_jax.evaluation.results import assemble_results
from cm3leon_jax.evaluation.scene_scores import fact_shares
from cm3leon_jax.pages.charts import Series, line_chart, nice_ticks
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.runtime.files import write_json

NASTY = """<script>alert("1")</script> & 'a' <img src=x onerror=alert(2)>"""


def picture(value: int) -> np.ndarray:
    return np.full((8, 8, 3), value, np.uint8)


def facts(*verdicts: bool) -> list[dict]:
    return [{"text": f"fact {index}", "kind": "exists", "true": true} for index, true in enumerate(verdicts)]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    run = tmp_path_factory.mktemp("run")
    rules = {rule: {"image": picture(50 + i), "facts": facts(True, i > 1)} for i, rule in enumerate(("plain", "cdk"))}
    gallery = {
        "reconstructions": [{"original": picture(1), "reconstruction": picture(2)}],
        "prompts": [
            {
                "caption": NASTY,
                "original": picture(3),
                "retrieved": [{"image": picture(4), "caption": "a retrieved document"}],
                "images": rules,
            }
        ],
        "captions": [
            {"image": picture(5), "caption": "x", "generated": f"generated {NASTY}", "facts": facts(True, False)}
        ],
        "infills": [{"caption": "x", "hidden": picture(6), "filled": picture(7), "original": picture(8)}],
    }
    write_gallery(run / "evaluation" / "gallery", gallery)
    stated = [(Exists("red", "circle"), Count(1))] * 3
    shares = fact_shares(stated, [[True, True], [True, False], [False, False]])
    results = assemble_results(
        {
            "text_to_image": {"plain": 0.5, "cdk": 0.5, "ceiling": 0.9},
            "captioning": {"facts_true": 0.9},
            "memory_bank": {"recall_at_10": 1.0},
            "seconds": {"train": 100.0, "evaluate": 20.0},
            "parameters": 1_234_567,
            "details": {"text_to_image": {"plain": shares, "cdk": shares}, "notes": [NASTY]},
        }
    )
    write_json(run / "results.json", results)
    training = run / "decoder" / "training"
    training.mkdir(parents=True)
    rows = [{"step": step, "train/loss_text": 3.0 / step, "train/loss_image": 4.0 / step} for step in range(1, 50)]
    rows.append({"step": 49, "eval/loss_text_retrieved_2": 0.123, "eval/loss_image_retrieved_2": float("nan")})
    (training / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (run / "decoder" / "operative.gin").write_text("train.steps = 7  # <b>bold</b>\n")
    return run


@pytest.fixture(scope="module")
def source(run):
    return write_report(run).read_text(encoding="utf-8")


def test_it_contains_what_was_measured(source):
    page = Page(source)
    for words in (
        "1,234,567",
        "not reached",
        "55.5%",
        "without guidance: 55.5%",
        "Text to image : 55.5% where the goal was at least 85.0%",
        "a retrieved document",
        "1 of 2 facts",
        "2 min 00 s in all",
        "held out 0.123",
        "train.steps = 7",
        "colour and shape",
        "not measured",
    ):
        assert words in page.text, words


def test_it_needs_no_other_file_and_no_network(source):
    for tag, attributes in Page(source).elements:
        for name in ("src", "href", "srcset", "data", "poster", "action"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:", "#")), (tag, name, value)
    assert not re.search(r"url\(|@import|https?://", source)
    assert sum(tag == "img" for tag, _ in Page(source).elements) >= 10
    assert "no picture" not in Page(source).text


def test_what_comes_from_data_is_escaped(source):
    page = Page(source)
    assert not any(tag in ("script", "b") and attributes for tag, attributes in page.elements)
    assert "script" not in {tag for tag, _ in page.elements}
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
    assert 'alert("1")' in page.text
    assert "<b>bold</b>" in page.text


def test_it_can_be_read_without_seeing_colours_or_pictures(source):
    page = Page(source)
    assert all(attributes.get("alt") for tag, attributes in page.elements if tag == "img")
    assert all(attributes.get("aria-label") for tag, attributes in page.elements if tag == "svg")
    assert "✗" in page.text
    assert "false:" in page.text


def test_missing_parts_are_left_out_with_the_command_that_makes_them(tmp_path):
    page = Page(write_report(tmp_path).read_text(encoding="utf-8"))
    assert page.text.count("Nothing here yet") >= 7
    for command in ("cm3leon evaluate", "cm3leon train", "cm3leon demo"):
        assert command in page.text


def test_a_missing_picture_is_said(run, tmp_path):
    gallery = read_gallery(run / "evaluation" / "gallery")
    (tmp_path / "evaluation" / "gallery").mkdir(parents=True)
    write_json(tmp_path / "evaluation" / "gallery" / "gallery.json", gallery)
    assert "no picture" in Page(write_report(tmp_path).read_text(encoding="utf-8")).text


def test_bad_input_is_one_line(tmp_path):
    with pytest.raises(UserError, match="no run folder"):
        write_report(tmp_path / "absent")
    (tmp_path / "results.json").write_text("{broken")
    with pytest.raises(UserError, match=r"results .* cannot be read"):
        write_report(tmp_path)


def test_a_gallery_comes_back_with_its_pictures_named(tmp_path):
    write_gallery(tmp_path / "g", {"captions": [{"image": picture(9), "generated": "é"}]})
    assert read_gallery(tmp_path / "g") == {"captions": [{"image": "captions_0_image.png", "generated": "é"}]}
    assert (tmp_path / "g" / "captions_0_image.png").exists()
    assert read_gallery(tmp_path) == {}


def test_losses_become_lines_with_held_out_values_beside_them():
    rows = [
        {"step": 1, "train/loss": 3.0, "train/loss_text": 2.0, "train/loss_retrieved_2": 7.0, "train/learning_rate": 1},
        {"step": 2, "eval/loss_text_retrieved_0": 9.0, "eval/loss_text_retrieved_2": 1.5, "eval/loss_retrieved_2": 1},
    ]
    lines = [(line.label, line.held_out, line.color, list(line.points)) for line in loss_series(rows)]
    assert lines == [
        ("text", False, 1, [(1, 2.0)]),
        ("text", True, 1, [(2, 1.5)]),
        ("loss", False, 2, [(1, 3.0)]),
        ("loss", True, 2, [(2, 1)]),
    ]
    shown = Page(losses_section({"decoder": rows})).text
    assert "retrieved documents text all tokens 0 9.0000 2 1.5000 1.0000" in shown


def test_charts_survive_odd_data():
    assert line_chart("x", []) == ""
    assert line_chart("x", [Series("a", [(1, float("nan"))])]) == ""
    assert "<circle" in line_chart("x", [Series("a", [(5, 1.0)])])
    chart = line_chart("x", [Series("<a>", [(step, 2.0) for step in range(5000)])])
    assert "<a>" not in chart
    assert chart.count("L") < 400
    assert not re.search(r"\b(nan|inf)\b", chart)


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0.31, 0.32), (-5, 1e6), (2, 2), (0, 0)])
def test_ticks_are_round_and_enclose_the_range(low, high):
    ticks = nice_ticks(low, high, 4)
    assert ticks[0] <= low + 1e-9
    assert ticks[-1] >= high - 1e-9
    assert 2 <= len(ticks) <= 7
