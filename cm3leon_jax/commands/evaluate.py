"""`cm3leon evaluate`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cm3leon_jax.evaluation.config import EvaluationConfig
from cm3leon_jax.evaluation.suites.config import SuitesConfig
from cm3leon_jax.model.partitioning import AxisRules, MeshConfig
from cm3leon_jax.runtime.errors import UserError, check_at_least
from cm3leon_jax.sampling.rules import SamplingConfig
from cm3leon_jax.sampling.weights import PrecisionConfig

if TYPE_CHECKING:
    from cm3leon_jax.evaluation.suites.work import Models

SCENES = "scenes"


def evaluate(
    directory: str,
    sampling: SamplingConfig,
    precision: PrecisionConfig,
    mesh: MeshConfig,
    rules: AxisRules,
    config: EvaluationConfig,
    suites: SuitesConfig,
    suite: str = SCENES,
    source: str = "",
    decoder: str = "",
    prepared: str = "",
    text_tokenizer: str = "",
    image_tokenizer: str = "",
    retriever: str = "",
    split: str = "test",
    batch_size: int = 64,
) -> None:
    """--suite scenes (the default) draws and captions held-out scenes of SOURCE and scores them exactly ->
    DIRECTORY/results.json and a gallery. The four rules share the settings of SamplingConfig: each reads those that are
    its own.

    Any other --suite NAME measures on data sets that SuitesConfig names -> DIRECTORY/NAME/result.json, result.md and
    result.html (docs/evaluation.md). Stopped, the same command continues; several processes share the work. --suite
    paper runs all whose data are named, and prints our row of the paper's tables beside the published ones."""
    from cm3leon_jax.evaluation.suites.table import PAPER, SUITES
    from cm3leon_jax.runtime import hosts

    options = {"source": source, "decoder": decoder, "prepared": prepared, "retriever": retriever}
    options |= {"text_tokenizer": text_tokenizer, "image_tokenizer": image_tokenizer}
    check_at_least(1, batch_size=batch_size)
    if suite == SCENES:
        missing = [name for name, value in options.items() if not value]
        if missing:
            raise UserError(f"evaluate needs --{missing[0]} VALUE (or evaluate.{missing[0]} = VALUE in a gin file)")
        if hosts.count() > 1:
            raise UserError("suite scenes is the work of one process; start one")
    elif suite not in (*SUITES, PAPER):
        raise UserError(f"unknown suite {suite!r}; there are {', '.join((SCENES, *SUITES, PAPER))}")

    from cm3leon_jax.evaluation.suites.work import Models
    from cm3leon_jax.model.partitioning import local_partitioning

    # Each of several processes draws on its own devices.
    models = Models(options, local_partitioning(mesh, rules), precision=precision, batch_size=batch_size)
    if suite == SCENES:
        _evaluate_scenes(directory, models, sampling, precision, config, split)
        return

    from cm3leon_jax.commands.evaluate_suites import evaluate_paper, evaluate_suite

    def run(name: str) -> None:
        evaluate_suite(name, directory, suites, sampling, precision, models, split)

    if suite == PAPER:
        evaluate_paper(directory, suites, run)
    else:
        run(suite)


def _evaluate_scenes(
    directory: str,
    models: Models,
    sampling: SamplingConfig,
    precision: PrecisionConfig,
    config: EvaluationConfig,
    split: str,
) -> None:
    import dataclasses

    from cm3leon_jax.commands.stage import run_stage
    from cm3leon_jax.data.sources import open_source
    from cm3leon_jax.evaluation.evaluate import evaluate_scenes
    from cm3leon_jax.evaluation.held_out import held_out_scenes
    from cm3leon_jax.evaluation.results import RULES, assemble_results
    from cm3leon_jax.evaluation.suites.fingerprints import source_fingerprint
    from cm3leon_jax.model.config import parameter_count
    from cm3leon_jax.runtime.files import as_path, read_json, write_json

    source, data = models.options["source"], models.prepared
    assert data is not None  # `evaluate` has seen that it is named

    def work() -> None:
        # An imported decoder has none. Where the file is damaged, that is told before drawing.
        losses, details = as_path(models.options["decoder"]) / ".." / "evaluation.json", None
        if losses.exists():
            details = {"held_out": read_json(losses, what="held-out losses", make_with="cm3leon train")}
        generator = models.generator
        tokenizer = generator.image_tokenizer
        examples = held_out_scenes(open_source(source).split(split), config.examples, tokenizer.resolution)
        results = evaluate_scenes(
            generator,
            tokenizer,
            examples,
            rules={rule: dataclasses.replace(sampling, rule=rule) for rule in RULES},
            captioning=dataclasses.replace(sampling, rule="greedy"),
            directory=f"{directory}/gallery",
            encoder=generator.retriever,
            config=config,
        )
        bank = {"recall_at_10": data.manifest["memory_bank"]["recall_at_10"]}
        results = assemble_results(
            results,
            {"memory_bank": bank, "parameters": parameter_count(generator.config), "details": details or {}},
        )
        write_json(f"{directory}/results.json", results)

    run_stage(
        directory,
        "evaluate",
        settings={
            "source": source,
            "models": models.fingerprints(models.options),
            "fingerprints": {"source": source_fingerprint(source)},
            "sampling": sampling,
            "precision": precision,
            "config": config,
            "split": split,
        },
        extendable={},
        work=work,
    )
