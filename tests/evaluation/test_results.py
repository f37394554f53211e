"""The schema of results.json, the goals, and the table at the end of a run."""

import json

import pytest

from cm3leon_jax.evaluation.report_figures import goals_section
from cm3leon_jax.evaluation.results import (
    GOALS,
    SCHEMA,
    assemble_results,
    duration,
    gigabytes,
    headline_rule,
    percent,
)
from cm3leon_jax.evaluation.summary import summary_table

FULL = {
    "text_to_image": {"plain": 0.6, "top_p": 0.7, "guided": 0.8, "cdk": 0.9, "ceiling": 0.95},
    "captioning": {"facts_true": 0.79},
    "image_tokenizer": {
        "reader_original": 0.99,
        "reader_reconstruction": 0.97,
        "psnr_db": 27.0,
        "codebook_perplexity": 90.0,
    },
    "memory_bank": {"recall_at_10": 0.995},
    "seconds": {"train": 300.0, "evaluate": 50.0},
    "peak_memory_gib": 4.0,
    "parameters": 1_000_000,
    "commit": "abc",
}


def test_without_figures_every_key_is_there_and_null():
    results = assemble_results()
    for group, names in SCHEMA.items():
        assert results[group] == dict.fromkeys(names)
    assert results["seconds"] == {"total": None}
    assert all(results[name] is None for name in ("peak_memory_gib", "parameters", "commit"))
    assert all(goal.reached(results) is None for goal in GOALS)
    assert "not measured" in summary_table(results)


def test_parts_are_merged_and_null_overwrites_nothing():
    results = assemble_results(
        FULL,
        {"image_tokenizer": {"psnr_db": 28.0}, "commit": None, "details": {"a": {"x": 1}}},
        {"image_tokenizer": {"psnr_db": None}, "details": {"a": {"y": [2]}}},
    )
    assert results["image_tokenizer"]["psnr_db"] == 28.0
    assert results["image_tokenizer"]["reader_original"] == 0.99
    assert results["commit"] == "abc"
    assert results["details"] == {"a": {"x": 1, "y": [2]}}
    assert results["seconds"]["total"] == 350.0
    assert assemble_results(json.loads(json.dumps(results))) == results


def test_a_measured_total_is_kept():
    assert assemble_results(FULL, {"seconds": {"total": 360.0}})["seconds"]["total"] == 360.0


@pytest.mark.parametrize("part", [{"peak_memory": 1}, {"text_to_image": {"guidance": 0.5}}])
def test_misspelt_figures_are_refused(part):
    with pytest.raises(ValueError, match="unknown figure"):
        assemble_results(part)


def test_goals_are_judged_against_the_ceiling():
    results = assemble_results(FULL)
    by_title = {goal.title: goal for goal in GOALS}
    assert by_title["Text to image"].value(results) == pytest.approx(0.9 / 0.95)
    assert by_title["Image tokenizer"].value(results) == pytest.approx(0.97 / 0.99)
    assert by_title["Peak memory"].value(results) == pytest.approx(4 * 1.073741824)
    assert {goal.title for goal in GOALS if goal.reached(results) is False} == {"Captions"}
    assert headline_rule(results) == "cdk"


def test_rounding_never_makes_a_missed_bar_look_reached():
    assert percent(0.8499) == "84.9%"
    assert percent(0.85) == "85.0%"
    assert percent(0.99) == "99.0%"
    assert gigabytes(6.01) == "6.1 GB"
    assert gigabytes(6.0) == "6.0 GB"
    assert duration(900.0) == "15 min 00 s"
    assert duration(900.2) == "15 min 01 s"
    assert duration(7.25) == "7.2 s"
    assert duration(3725) == "1 h 02 min"


def test_the_table_says_what_was_reached_and_missed():
    table = summary_table(assemble_results(FULL), {"report": "runs/demo/report.html"})
    lines = {line.split("  ")[0]: line for line in table.splitlines() if line}
    assert "MISSED" in lines["Captions"]
    assert "94.7%" in lines["Text to image"]
    assert "reached" in lines["Text to image"]
    assert "runs/demo/report.html" in table
    assert "5 min 50 s" in table


def test_a_quick_run_says_so_before_its_figures():
    quick = assemble_results(FULL, {"details": {"quick": True}})
    assert summary_table(quick).startswith("A quick run")
    assert "A quick run" in goals_section(quick)
    assert "quick" not in summary_table(assemble_results(FULL)) + goals_section(assemble_results(FULL))
