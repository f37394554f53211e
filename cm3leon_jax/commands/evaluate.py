"""`cm3leon evaluate`."""

from __future__ import annotations

from cm3leon_jax.evaluation.config import EvaluationConfig
from cm3leon_jax.sampling.rules import SamplingConfig
from cm3leon_jax.sampling.weights import PrecisionConfig


def evaluate(
    source: str,
    decoder: str,
    prepared: str,
    text_tokenizer: str,
    image_tokenizer: str,
    retriever: str,
    directory: str,
    sampling: SamplingConfig,
    precision: PrecisionConfig,
    config: EvaluationConfig,
    split: str = "test",
) -> None:
    """Draws and captions held-out scenes of SOURCE and scores them exactly -> DIRECTORY/results.json and a gallery.

    The four rules share the settings of SamplingConfig: each reads those that are its own."""
    import dataclasses

    from cm3leon_jax.commands.stage import run_stage
    from cm3leon_jax.data.shards import PreparedData
    from cm3leon_jax.data.sources import open_source
    from cm3leon_jax.evaluation.evaluate import evaluate_scenes
    from cm3leon_jax.evaluation.held_out import held_out_scenes
    from cm3leon_jax.evaluation.results import RULES, assemble_results
    from cm3leon_jax.model.config import parameter_count
    from cm3leon_jax.runtime.files import read_json, write_json
    from cm3leon_jax.runtime.model_folder import model_fingerprint
    from cm3leon_jax.sampling.pipeline import Generator

    data = PreparedData(prepared)

    def work() -> None:
        generator = Generator.load(
            decoder, text_tokenizer, image_tokenizer, retriever=retriever, prepared=prepared, precision=precision
        )
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
        validation = read_json(f"{decoder}/../evaluation.json", what="held-out losses", make_with="cm3leon train")
        bank = {"recall_at_10": data.manifest["memory_bank"]["recall_at_10"]}
        results = assemble_results(
            results,
            {"memory_bank": bank, "parameters": parameter_count(generator.config), "details": {"held_out": validation}},
        )
        write_json(f"{directory}/results.json", results)

    run_stage(
        directory,
        "evaluate",
        settings={
            "source": source,
            "decoder": model_fingerprint(decoder),
            "prepared": data.fingerprint,
            "sampling": sampling,
            "precision": precision,
            "config": config,
            "split": split,
        },
        extendable={},
        work=work,
    )
