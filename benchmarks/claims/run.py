"""The study from its beginning to its page. Whatever is finished is not done again."""

from __future__ import annotations

import dataclasses
import pathlib
import sys
from collections.abc import Sequence

from benchmarks.claims import best_of, fine_tuning, guidance, retrieval
from benchmarks.claims.about import facts, made_with
from benchmarks.claims.choosing import choose
from benchmarks.claims.drawing import Drawing, missing
from benchmarks.claims.page import write_page
from benchmarks.claims.scores import Scores, read_scores
from benchmarks.claims.settings import CHOICES, Sampling
from benchmarks.claims.shown import write_picture
from benchmarks.claims.study import VARIANTS, Study, arguments_of, shared_commands, training_command
from cm3leon_jax.runtime.child import run_child
from cm3leon_jax.runtime.files import write_json


def run(study: Study, docs: pathlib.Path) -> pathlib.Path:
    """-> the page. Raises `StartAgain` where a command was interrupted, `UserError` where one cannot go on."""
    for command in shared_commands(study):
        _cm3leon(arguments_of(study, command))
    for seed in range(study.seeds):
        for variant in VARIANTS:
            _cm3leon(arguments_of(study, training_command(study, variant, seed)))
    chosen = _chosen(study)
    for seed in range(study.seeds):
        for variant, drawings in _test_drawings(study, chosen).items():
            _draw(study, variant, seed, drawings)
    for arguments in fine_tuning.commands(study) if study.fine_tunings else ():
        _cm3leon(arguments)
    return conclude(study, chosen, docs)


def conclude(study: Study, chosen: dict[str, Sampling], docs: pathlib.Path) -> pathlib.Path:
    """Results and page from what was drawn."""

    def load(variant: str, drawing: Drawing) -> Scores:
        return read_scores(drawing, [_results(study, variant, seed) for seed in range(study.seeds)])

    sections = [
        retrieval.conclude(study, chosen, load),
        best_of.conclude(study, chosen, load),
        guidance.conclude(study, chosen, load),
        *([fine_tuning.conclude(study)] if study.fine_tunings else []),
    ]
    about = facts(study, chosen)
    write_json(
        study.path("results.json"),
        {"about": about, "chosen": chosen, "claims": {section.name: section.to_dict() for section in sections}},
    )
    write_picture(study, docs, retrieval.drawings(study, chosen["retrieval"]), _results(study, "retrieval", 0))
    return write_page(docs, sections, about)


def _chosen(study: Study) -> dict[str, Sampling]:
    """How to sample, by the purpose: the keys of `CHOICES`."""
    wanted = {
        name: [
            Drawing("validation", study.validation, 0, choice.retrieved, choice.samples, sampling)
            for sampling in choice.candidates
        ]
        for name, choice in CHOICES.items()
    }
    for variant in VARIANTS:
        _draw(study, variant, 0, [d for name in wanted if CHOICES[name].variant == variant for d in wanted[name]])
    chosen = {}
    for name, drawings in wanted.items():
        results = _results(study, CHOICES[name].variant, 0)
        chosen[name] = choose(drawings, [read_scores(drawing, [results]) for drawing in drawings])
    write_json(study.path("chosen.json"), chosen)
    return chosen


def _test_drawings(study: Study, chosen: dict[str, Sampling]) -> dict[str, list[Drawing]]:
    """By variant."""
    by_weight = list(guidance.drawings(study).values())
    return {
        "retrieval": [
            *retrieval.drawings(study, chosen["retrieval"]),
            *by_weight,
            *best_of.drawings(study, chosen).values(),
        ],
        "no_retrieval": retrieval.drawings(study, chosen["no_retrieval"]),
        "no_hidden_captions": by_weight,
    }


def _results(study: Study, variant: str, seed: int) -> str:
    """Where a decoder's drawings are kept: those of another decoder or bank are not taken for its own."""
    return study.path("drawings", f"{variant}_{seed}_{made_with(study, variant, seed)}")


def _draw(study: Study, variant: str, seed: int, drawings: Sequence[Drawing]) -> None:
    """What is missing of the drawings of one decoder, in one process."""
    directory = _results(study, variant, seed)
    left = missing(drawings, directory)
    if not left:
        return
    request = {
        "source": study.source("bank"),
        "decoder": f"{study.decoder(variant, seed)}/model",
        "models": study.models,
        "prepared": study.prepared("bank"),
        "directory": directory,
        "drawings": [dataclasses.asdict(drawing) for drawing in left],
    }
    file = f"{directory}.json"
    write_json(file, request)
    _process(["-m", "benchmarks.claims.drawing", file], f"drawing with {variant}_{seed}")


def _cm3leon(arguments: list[str]) -> None:
    print(f"\n$ cm3leon {' '.join(arguments)}", flush=True)
    _process(["-m", "cm3leon_jax", *arguments], f"`cm3leon {arguments[0]}`")


def _process(arguments: list[str], what: str) -> None:
    run_child([sys.executable, *arguments], what)
