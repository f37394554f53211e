"""`report.html`: everything that a run measured and drew, on one page that needs no other file and no network."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Mapping

from cm3leon_jax.evaluation import report_figures, report_losses, report_pictures, report_tables, report_tasks
from cm3leon_jax.evaluation.gallery import read_gallery
from cm3leon_jax.evaluation.results import assemble_results, duration, headline_rule
from cm3leon_jax.evaluation.scene_tasks import GALLERY, SCORES_FILE
from cm3leon_jax.pages.page import Part, whole_page
from cm3leon_jax.pages.pieces import Pictures
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
    tasks: str = "scene_tasks"  # of fine-tuning: scores.json, and gallery/ likewise
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
    tasks_path, tasks_gallery = run / layout.tasks / SCORES_FILE, run / layout.tasks / GALLERY
    tasks = read_json(tasks_path, what="scores", make_with="cm3leon evaluate") if tasks_path.exists() else {}
    page = report_page(
        assemble_results(saved),
        read_gallery(run / layout.gallery),
        Pictures(run / layout.gallery),
        {model: read_metrics(run / getattr(layout, model) / "training") for model in models},
        _settings(run, layout.settings),
        report_tasks.tasks_section(tasks, read_gallery(tasks_gallery), Pictures(tasks_gallery)),
        title=title,
    )
    path = run / layout.report
    with written_aside(path) as aside:
        aside.write_text(page, encoding="utf-8")
    return path


def report_page(
    results: Mapping,
    gallery: Mapping,
    pictures: Pictures,
    metrics: Mapping,
    settings: Mapping[str, str],
    tasks: str,
    *,
    title: str,
) -> str:
    """The page as text, from what `write_report` reads. `results` has every key of `assemble_results`; `tasks` is the
    section about fine-tuning."""
    headline = headline_rule(results)
    parts = [
        Part("goals", "Goals", report_figures.goals_section(results)),
        Part("prompts", "Pictures", report_pictures.retrieval_section(gallery, pictures, headline)),
        Part("rules", "Sampling", report_pictures.rules_section(gallery, pictures)),
        Part("captions", "Captions", report_pictures.captions_section(gallery, pictures)),
        Part("infill", "Filling in", report_pictures.infill_section(gallery, pictures)),
        Part("tasks", "Tasks", tasks),
        Part("tokenizer", "Tokenizer", report_pictures.reconstruction_section(gallery, pictures)),
        Part("scores", "Scores", report_tables.scores_section(results)),
        Part("curves", "Losses", report_losses.losses_section(metrics)),
        Part("time", "Time", report_figures.time_section(results)),
        Part("settings", "Settings", report_figures.settings_section(settings)),
    ]
    return whole_page(
        parts,
        title=title,
        eyebrow="report of a run",
        introduction=_introduction(results),
        facts=_run_facts(results),
        hero=report_pictures.hero_strip(gallery, pictures, headline),
        footer="Every figure on this page was measured in this run, on examples held out from training; what was not "
        "measured is shown as —.",
    )


def _introduction(results: Mapping) -> str:
    parameters = results["parameters"]
    decoder = "One decoder" if parameters is None else f"One decoder of {_count(parameters)} parameters"
    return (
        f"{decoder} over text and image tokens draws pictures from captions, writes captions for pictures and fills in "
        "hidden parts. Image tokenizer, text tokenizer, retriever and decoder were all trained in this run, by the "
        "recipe of CM3Leon: retrieval-augmented pretraining on causally masked sequences, then guided and contrastive "
        "decoding."
    )


def _run_facts(results: Mapping) -> dict[str, object]:
    """Size, time, machine, commit; what is unknown is None."""
    return {
        "parameters": results["parameters"] and f"{results['parameters']:,}",
        "time": results["seconds"]["total"] and duration(results["seconds"]["total"]),
        **results["details"].get("machine", {}),
        "commit": results["commit"] and str(results["commit"])[:12],
    }


def _count(number: int) -> str:
    for size, word in ((10**9, "billion"), (10**6, "million"), (10**3, "thousand")):
        if number >= size:
            return f"{number / size:.3g} {word}"
    return str(number)


def _settings(run: pathlib.Path, pattern: str) -> dict[str, str]:
    files = sorted(path for path in run.glob(pattern) if path.is_file())
    return {str(path.relative_to(run)): path.read_text(encoding="utf-8", errors="replace") for path in files}
