"""`cm3leon demo`: public commands run in a row, each as its own process, and nothing else."""

from __future__ import annotations

import os
import pathlib
import platform
import sys
from typing import NamedTuple

from cm3leon_jax.evaluation.results import FINE_TUNING
from cm3leon_jax.runtime.child import run_child


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
SFT_GIN = "runs/demo_sft.gin"  # behind the gin files that the demo was given


def demo(directory: str = "runs/demo", sft: bool = False) -> None:
    """The complete recipe on the embedded data; ends with DIRECTORY/report.html. Started again, it continues.

    With --sft the decoder is then fine-tuned on nine tasks, from edits of pictures to questions about them."""
    from cm3leon_jax.commands.stage import STAGE_FILE, commit
    from cm3leon_jax.evaluation.report import RESULTS_FILE, write_report
    from cm3leon_jax.evaluation.results import assemble_results
    from cm3leon_jax.evaluation.summary import summary_table
    from cm3leon_jax.runtime.files import read_json, write_json

    run = pathlib.Path(directory)
    given = _gin_arguments()
    stages = STAGES + (SFT_STAGES if sft else ())
    records = {}
    for number, stage in enumerate(stages, start=1):
        arguments = [*given, "--gin_file", SFT_GIN] if stage.of_fine_tuning else given
        command = f"cm3leon {' '.join([stage.command, *arguments])}"
        print(f"\n[{number}/{len(stages)}] {stage.title}\n$ {command}", flush=True)
        run_child([sys.executable, "-m", "cm3leon_jax", stage.command, *arguments], f"`cm3leon {stage.command}`")
        record = read_json(run / stage.folder / STAGE_FILE, what="stage record", make_with=f"cm3leon {stage.command}")
        records[stage.name] = record
    results_path = run / RESULTS_FILE
    measured = read_json(run / "evaluation" / RESULTS_FILE, what="results", make_with="cm3leon evaluate")
    results = assemble_results(
        measured,
        {
            "seconds": {name: record["seconds"] for name, record in records.items()},
            "peak_memory_gib": max(record["peak_memory_gib"] for record in records.values()),
            "commit": commit(),
            "details": {
                "machine": {
                    "processor": f"{os.cpu_count()} cores, {platform.machine()}",
                    "python": platform.python_version(),
                }
            },
        },
    )
    write_json(results_path, results)
    report = write_report(run)
    places = {"report": report, "figures": results_path, "model": run / "decoder" / "model"}
    if sft:
        places["fine-tuned model"] = run / "sft" / "model"
    print(f"\n{summary_table(results, {name: str(path) for name, path in places.items()})}", flush=True)


def _gin_arguments() -> list[str]:
    """What the demo was given of gin, to be handed on."""
    return [
        argument
        for index, argument in enumerate(sys.argv)
        if argument.startswith(("--gin.", "--gin_file")) or (index and sys.argv[index - 1] == "--gin_file")
    ]
