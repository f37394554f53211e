"""`cm3leon prepare`."""

from __future__ import annotations

from cm3leon_jax.data.prepare.config import PrepareConfig
from cm3leon_jax.retrieval.memory_bank import MemoryBankConfig
from cm3leon_jax.retrieval.selection import SelectionConfig


def prepare(
    source: str,
    text_tokenizer: str,
    image_tokenizer: str,
    directory: str,
    config: PrepareConfig,
    selection: SelectionConfig,
    memory_bank: MemoryBankConfig,
    retriever: str = "",
    runner: str = "DirectRunner",
    runner_options: str = "",
) -> None:
    """Turns the images and captions of SOURCE into documents for training, in DIRECTORY:
    tokenized, embedded, without duplicates, indexed for retrieval, each with its neighbours. Without a retriever (for
    fine-tuning) nothing is embedded or indexed.

    Runs on Apache Beam, in this process unless told otherwise. In several of this machine:
    --runner_options="--direct_running_mode=multi_processing --direct_num_workers=4".
    On a cluster: --runner is Beam's name of it, --runner_options are its own (docs/data.md)."""
    import functools
    import shlex

    from cm3leon_jax.commands.stage import run_stage
    from cm3leon_jax.data.prepare import pipeline
    from cm3leon_jax.data.prepare.job import load_models
    from cm3leon_jax.data.prepare.summary import summary
    from cm3leon_jax.data.sources import check_spec, open_source
    from cm3leon_jax.runtime.files import local_path

    check_spec(source)
    local_path(directory)
    models = functools.partial(load_models, text_tokenizer, image_tokenizer, retriever)

    def work() -> None:
        data = pipeline.prepare(
            functools.partial(open_source, source),
            models,
            f"{directory}/data",
            config,
            selection=selection,
            memory_bank=memory_bank,
            runner=runner,
            runner_options=shlex.split(runner_options),
        )
        print(summary(data), flush=True)

    run_stage(
        directory,
        "prepare",
        settings={
            "source": source,
            "models": list(models().fingerprints.values()),
            "config": config.of_the_result,
            "selection": selection,
            "memory_bank": memory_bank,
        },
        extendable={"config": config.of_the_work},
        work=work,
    )
