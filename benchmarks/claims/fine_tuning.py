"""The fourth claim: one model learns many tasks at once, and still draws captions as before (CM3Leon §4).

On the scenes instead of the creatures: the demo's decoder, fine-tuned as `cm3leon demo --sft` does it, once a seed.
"""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np

from benchmarks.claims.bootstrap import Resamples, estimate
from benchmarks.claims.section import Section, verdict
from benchmarks.claims.study import Study
from cm3leon_jax.commands.demo import SFT_STAGES, STAGES
from cm3leon_jax.commands.stage import STAGE_FILE
from cm3leon_jax.runtime.files import read_json

DEMO_DIRECTORY = pathlib.Path("runs/demo")  # as runs/demo.gin has it
_DEMO = ("--gin_file", "runs/demo.gin")
_SFT = (*_DEMO, "--gin_file", "runs/demo_sft.gin")
_MANY = "--gin.SuitesConfig.examples=200"  # of each task, where the demo makes do with 100
MARGIN = 0.03  # of the facts of captions: what "not worse" allows


def commands(study: Study) -> list[list[str]]:
    """Arguments of cm3leon: the demo, whose tokenizers and decoder all start from, then each fine-tuning."""
    bindings = [f"--gin.{binding}" for binding in study.bindings]
    made = [["demo", *_DEMO, *bindings], ["prepare", *_SFT, *bindings]]
    for seed in range(study.fine_tunings):
        folder = _folder(study, seed)
        made += [
            ["train", *_SFT, "--directory", f"{folder}/decoder", f"--gin.StreamConfig.seed={seed}", *bindings],
            ["evaluate", *_SFT, "--decoder", f"{folder}/decoder/model", "--directory", folder, _MANY, *bindings],
        ]
    return made


def records_outside(study: Study) -> list[pathlib.Path]:
    """Stage records of what the claim starts from and is not in the study's folder: the demo, and the instructions."""
    if not study.fine_tunings:
        return []
    instructions = next(stage for stage in SFT_STAGES if stage.command == "prepare")
    return [DEMO_DIRECTORY / stage.folder / STAGE_FILE for stage in (*STAGES, instructions)]


def conclude(study: Study) -> Section:
    found = [
        read_json(
            f"{_folder(study, seed)}/scene_tasks/scores.json", what="scores", make_with="python -m benchmarks.claims"
        )
        for seed in range(study.fine_tunings)
    ]
    tests, rows = {}, []
    for name in found[0]["tasks"]:
        each = [scores["tasks"][name] for scores in found]
        reached, baseline = (_shares([task["counts"][kind] for task in each]) for kind in ("scores", "baseline"))
        tests[f"{name}: fine-tuned over the baseline"] = estimate(reached - baseline)
        ceiling = each[0]["ceiling"][each[0]["headline"]]["value"]
        rows.append([name, str(estimate(baseline)), str(estimate(reached)), f"{100 * ceiling:.1f}%"])
    before, after = (
        _shares([scores["text_to_image"][when]["counts"] for scores in found]) for when in ("before", "after")
    )
    tests[f"captions drawn: after over before, with {100 * MARGIN:g} points allowed"] = estimate(
        after - before + MARGIN
    )
    rows.append(["captions drawn, before and after", str(estimate(before)), str(estimate(after)), ""])
    words = np.mean([scores["tasks"]["science"]["scores"]["words"]["value"] for scores in found])
    how = (
        f"The demo's decoder of pictures of coloured shapes, fine-tuned on nine tasks {_times(study.fine_tunings)}, on "
        "held-out scenes. Scores are exact; each example counts alike, however many objects or facts it has, where "
        "README.md counts every object and fact once. The baseline needs no model: the most frequent answer to each "
        "kind of question, the picture left unchanged, the picture or text of another example. "
        f"Of science the letter of the chosen option counts; the words behind it are the right ones in {words:.0%}. "
        "Captions are drawn without retrieved documents; the scores are their facts that are true of the picture."
    )
    return Section(
        name="fine_tuning",
        title="Many tasks are learned at once, and nothing is forgotten",
        claim="Fine-tuned on many tasks of text and pictures at once, one model does all of them.",
        verdict=verdict(tests),
        tests=tests,
        how=how,
        head=["task", "baseline", "fine-tuned", "ceiling"],
        rows=rows,
        charts=[],
    )


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times with other orders of the data"


def _folder(study: Study, seed: int) -> str:
    return study.path("fine_tuned", str(seed))


def _shares(counts: list[Any]) -> np.ndarray:
    """[hits, totals] of each seed -> the share itself, then that of each draw: the mean over examples of what is right
    of each, since a text may state more or fewer facts with another seed."""
    hits, totals = np.array(counts, float).swapaxes(0, 1)
    right = np.where(totals > 0, hits / np.maximum(totals, 1), 0.0)
    return Resamples(*right.shape).share(right, np.ones(right.shape[1]))
