"""`cm3leon demo`: public commands run in a row, each as its own process, and nothing else."""

from __future__ import annotations

import os
import pathlib
import platform
import sys
import time
from typing import Any, NamedTuple

from cm3leon_jax.commands.demo_clock import Clock, DemoConfig
from cm3leon_jax.evaluation.results import FINE_TUNING
from cm3leon_jax.runtime.child import run_child
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.runtime.processor import processor
from cm3leon_jax.runtime.progress import WholeRun, minutes


class Stage(NamedTuple):
    """A command, the folder below the run's in which it keeps its stage record, and what it is, for people."""

    command: str
    folder: str
    title: str
    of_fine_tuning: bool = False

    @property
    def name(self) -> str:
        return f"{self.command}{FINE_TUNING}" if self.of_fine_tuning else self.command


STAGES = (
    Stage("scenes", "scenes", "Rendering scenes"),
    Stage("train-text-tokenizer", "text_tokenizer", "Training the text tokenizer (SentencePiece)"),
    Stage("train-image-tokenizer", "image_tokenizer", "Training the image tokenizer (VQGAN)"),
    Stage("train-retriever", "retriever", "Training the retriever (CLIP)"),
    Stage("prepare", "prepared", "Preparing documents: tokens, codes, embeddings, neighbours"),
    Stage("train", "decoder", "Pretraining the decoder (retrieval-augmented CM3)"),
    Stage("evaluate", "evaluation", "Drawing and captioning held-out scenes, and scoring them"),
)
SFT_STAGES = (
    Stage("prepare", "instructions", "Preparing instructions of nine tasks", True),
    Stage("train", "sft", "Fine-tuning the decoder on them", True),
    Stage("evaluate", "scene_tasks", "Asking for every task on held-out scenes, and scoring the answers", True),
)
SFT_GIN = "runs/demo_sft.gin"  # after the gin files that the demo was given
SPEED_FILE = "speed.json"


def demo(config: DemoConfig, directory: str = "runs/demo", sft: bool = False) -> None:
    """The complete recipe on the embedded data; ends with DIRECTORY/report.html. Started again, it continues.

    With --sft the decoder is then fine-tuned on nine tasks, from edits of pictures to questions about them."""
    if config.quick and sft:
        raise UserError("the quick demo has no fine-tuning; leave out --sft or --quick")

    from cm3leon_jax.commands.stage import commit
    from cm3leon_jax.evaluation.report import RESULTS_FILE, write_report
    from cm3leon_jax.evaluation.results import assemble_results
    from cm3leon_jax.evaluation.summary import summary_table
    from cm3leon_jax.runtime.files import read_json, write_json

    run = pathlib.Path(directory)
    given = _gin_arguments()
    stages = STAGES + (SFT_STAGES if sft else ())
    speed = _speed(run, given)
    clock = Clock(config, speed["compute_dtype"], speed["step_seconds"])
    finished = {stage.name: record["seconds"] for stage in stages if (record := _record(run, stage)).get("finished")}
    records = {}
    for number, stage in enumerate(stages, start=1):
        arguments = [*given, "--gin_file", SFT_GIN] if stage.of_fine_tuning else given
        command = f"cm3leon {' '.join([stage.command, *arguments])}"
        left, environment = "", {}
        if not stage.of_fine_tuning:  # whose times are not known beforehand
            later = [other.name for other in STAGES[number:]]
            whole = WholeRun(
                "until fine-tuning" if sft else "demo",
                time.time(),
                clock.seconds_left([stage.name], finished),
                clock.seconds_left(later, finished),
            )
            left, environment = f" ({whole.name}: {minutes(whole.seconds_left())} left)", whole.variable()
        print(f"\n[{number}/{len(stages)}] {stage.title}{left}\n$ {command}", flush=True)
        run_child(
            [sys.executable, "-m", "cm3leon_jax", stage.command, *arguments], f"`cm3leon {stage.command}`", environment
        )
        records[stage.name] = _record(run, stage)
        finished[stage.name] = records[stage.name]["seconds"]
    results_path = run / RESULTS_FILE
    measured = read_json(run / "evaluation" / RESULTS_FILE, what="results", make_with="cm3leon evaluate")
    results = assemble_results(
        measured,
        {
            "seconds": {"speed": speed["seconds"]} | {name: record["seconds"] for name, record in records.items()},
            "peak_memory_gib": max(record["peak_memory_gib"] for record in records.values()),
            "commit": commit(),
            "details": {
                "quick": config.quick,
                "machine": {
                    "processor": f"{os.cpu_count()} cores, {processor().model}",
                    "python": platform.python_version(),
                },
            },
        },
    )
    write_json(results_path, results)
    report = write_report(run)
    places = {"report": report, "figures": results_path, "model": run / "decoder" / "model"}
    if sft:
        places["fine-tuned model"] = run / "sft" / "model"
    print(f"\n{summary_table(results, {name: str(path) for name, path in places.items()})}", flush=True)


def _record(run: pathlib.Path, stage: Stage) -> dict[str, Any]:
    """The stage record of a command, {} where it has not begun."""
    from cm3leon_jax.commands.stage import STAGE_FILE
    from cm3leon_jax.runtime.files import read_json

    path = run / stage.folder / STAGE_FILE
    return read_json(path, what="stage record", make_with=f"cm3leon {stage.command}") if path.exists() else {}


def _speed(run: pathlib.Path, given: list[str]) -> dict[str, Any]:
    """What `cm3leon speed` measures here, and how long that takes; measured once for the same settings."""
    from cm3leon_jax.runtime.files import read_json, write_json

    path = run / SPEED_FILE
    if path.exists():
        measured = read_json(path, what="speed", make_with="cm3leon speed")
        if measured["given"] == given:
            return measured
    print(f"Timing the decoder's training step\n$ cm3leon {' '.join(['speed', *given])}", flush=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    started, aside = time.perf_counter(), path.with_suffix(".new.json")
    run_child([sys.executable, "-m", "cm3leon_jax", "speed", *given, "--json", str(aside)], "`cm3leon speed`")
    measured = read_json(aside, what="speed", make_with="cm3leon speed")
    measured |= {"given": given, "seconds": time.perf_counter() - started}
    write_json(path, measured)
    aside.unlink()
    return measured


def _gin_arguments() -> list[str]:
    """What the demo was given of gin, to be handed on."""
    return [
        argument
        for index, argument in enumerate(sys.argv)
        if argument.startswith(("--gin.", "--gin_file")) or (index and sys.argv[index - 1] == "--gin_file")
    ]
