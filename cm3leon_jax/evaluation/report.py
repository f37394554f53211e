"""`report.html`: everything that a run measured and drew, on one page that needs no other file and no network."""

from __future__ import annotations

import dataclasses
import importlib.resources
import pathlib
import string
from collections.abc import Mapping

from cm3leon_jax.evaluation import report_figures, report_losses, report_pictures, report_tables
from cm3leon_jax.evaluation.gallery import read_gallery
from cm3leon_jax.evaluation.page import Pictures, text
from cm3leon_jax.evaluation.results import assemble_results, duration, headline_rule
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.runtime.files import Path, read_json, written_aside
from cm3leon_jax.runtime.metrics import read_metrics

RESULTS_FILE = "results.json"
REPORT_FILE = "report.html"


@dataclasses.dataclass(frozen=True)
class RunLayout:
    """Where the parts of a run lie, relative to its folder. What is not there is left out of the report."""

    results: str = RESULTS_FILE
    gallery: str = "evaluation/gallery"  # gallery.json and its PNG files
    decoder: str = "decoder"  # of this and the next two: training/metrics.jsonl
    image_tokenizer: str = "image_tokenizer"
    retriever: str = "retriever"
    settings: str = "**/*.gin"  # operative configurations, a glob
    report: str = REPORT_FILE


def write_report(
    run: Path, layout: RunLayout | None = None, *, title: str = "A small CM3Leon, trained from scratch"
) -> pathlib.Path:
    """Builds the report of the run folder `run` and returns its path. `UserError` when there is no such folder."""
    run, layout = pathlib.Path(run), layout or RunLayout()
    if not run.is_dir():
        raise UserError(f"no run folder at {run}; make one with `cm3leon demo`, or name another")
    results_path = run / layout.results
    saved = read_json(results_path, what="results", make_with="cm3leon evaluate") if results_path.exists() else {}
    models = ("decoder", "image_tokenizer", "retriever")
    page = report_page(
        assemble_results(saved),
        read_gallery(run / layout.gallery),
        Pictures(run / layout.gallery),
        {model: read_metrics(run / getattr(layout, model) / "training") for model in models},
        _settings(run, layout.settings),
        title=title,
    )
    path = run / layout.report
    with written_aside(path) as aside:
        aside.write_text(page, encoding="utf-8")
    return path


def report_page(
    results: Mapping, gallery: Mapping, pictures: Pictures, metrics: Mapping, settings: Mapping[str, str], *, title: str
) -> str:
    """The page as text, from what `write_report` reads. `results` has every key of `assemble_results`."""
    headline = headline_rule(results)
    sections = [
        report_figures.goals_section(results),
        report_pictures.retrieval_section(gallery, pictures, headline),
        report_pictures.rules_section(gallery, pictures),
        report_pictures.captions_section(gallery, pictures),
        report_pictures.infill_section(gallery, pictures),
        report_pictures.reconstruction_section(gallery, pictures),
        report_tables.scores_section(results),
        report_losses.losses_section(metrics),
        report_figures.time_section(results),
        report_figures.settings_section(settings),
    ]
    templates = importlib.resources.files("cm3leon_jax.evaluation") / "templates"
    return string.Template((templates / "report.html").read_text(encoding="utf-8")).substitute(
        style=(templates / "report.css").read_text(encoding="utf-8"),
        title=text(title),
        introduction=_introduction(results),
        facts=_run_facts(results),
        hero=report_pictures.hero_strip(gallery, pictures, headline),
        sections="\n".join(sections),
    )


def _introduction(results: Mapping) -> str:
    parameters = results["parameters"]
    decoder = "One decoder" if parameters is None else f"One decoder of {_count(parameters)} parameters"
    return text(
        f"{decoder} over text and image tokens draws pictures from captions, writes captions for pictures and fills in "
        "hidden parts. Image tokenizer, text tokenizer, retriever and decoder were all trained in this run, by the "
        "recipe of CM3Leon: retrieval-augmented pretraining on causally masked sequences, then guided and contrastive "
        "decoding."
    )


def _run_facts(results: Mapping) -> str:
    """The line of small print below the introduction: size, time, machine, commit; what is unknown is left out."""
    machine = results["details"].get("machine", {})
    facts = {
        "parameters": results["parameters"] and f"{results['parameters']:,}",
        "time": results["seconds"]["total"] and duration(results["seconds"]["total"]),
        **machine,
        "commit": results["commit"] and str(results["commit"])[:12],
    }
    return "".join(f"<div><dt>{text(name)}</dt><dd>{text(value)}</dd></div>" for name, value in facts.items() if value)


def _count(number: int) -> str:
    for size, word in ((10**9, "billion"), (10**6, "million"), (10**3, "thousand")):
        if number >= size:
            return f"{number / size:.3g} {word}"
    return str(number)


def _settings(run: pathlib.Path, pattern: str) -> dict[str, str]:
    files = sorted(path for path in run.glob(pattern) if path.is_file())
    return {str(path.relative_to(run)): path.read_text(encoding="utf-8", errors="replace") for path in files}
