"""`cm3leon demo`: public commands run in a row, each as its own process, and nothing else."""

from __future__ import annotations

import os
import pathlib
import platform
import sys

# Command -> folder below the run's in which it keeps its stage record, and what it is, for people.
STAGES = {
    "scenes": ("scenes", "Rendering scenes"),
    "train-text-tokenizer": ("text_tokenizer", "Training the text tokenizer (SentencePiece)"),
    "train-image-tokenizer": ("image_tokenizer", "Training the image tokenizer (VQGAN)"),
    "train-retriever": ("retriever", "Training the retriever (CLIP)"),
    "prepare": ("prepared", "Preparing documents: tokens, codes, embeddings, neighbours"),
    "train": ("decoder", "Pretraining the decoder (retrieval-augmented CM3)"),
    "evaluate": ("evaluation", "Drawing and captioning held-out scenes, and scoring them"),
}


def demo(directory: str = "runs/demo") -> None:
    """The complete recipe on the embedded data; ends with DIRECTORY/report.html. Started again, it continues."""
    from cm3leon_jax.commands.stage import STAGE_FILE, commit
    from cm3leon_jax.evaluation.report import RESULTS_FILE, write_report
    from cm3leon_jax.evaluation.results import assemble_results
    from cm3leon_jax.evaluation.summary import summary_table
    from cm3leon_jax.runtime.child import run_child
    from cm3leon_jax.runtime.files import read_json, write_json

    run = pathlib.Path(directory)
    arguments = _gin_arguments()
    parts = []
    for number, (command, (folder, title)) in enumerate(STAGES.items(), start=1):
        print(f"\n[{number}/{len(STAGES)}] {title}\n$ cm3leon {' '.join([command, *arguments])}", flush=True)
        run_child([sys.executable, "-m", "cm3leon_jax", command, *arguments], f"`cm3leon {command}`")
        record = read_json(run / folder / STAGE_FILE, what="stage record", make_with=f"cm3leon {command}")
        parts.append((command, record))
    results_path = run / RESULTS_FILE
    measured = read_json(run / "evaluation" / RESULTS_FILE, what="results", make_with="cm3leon evaluate")
    results = assemble_results(
        measured,
        {
            "seconds": {command: record["seconds"] for command, record in parts},
            "peak_memory_gib": max(record["peak_memory_gib"] for _, record in parts),
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
    print(f"\n{summary_table(results, {name: str(path) for name, path in places.items()})}", flush=True)


def _gin_arguments() -> list[str]:
    """What the demo was given of gin, to be handed on."""
    return [
        argument
        for index, argument in enumerate(sys.argv)
        if argument.startswith(("--gin.", "--gin_file")) or (index and sys.argv[index - 1] == "--gin_file")
    ]
