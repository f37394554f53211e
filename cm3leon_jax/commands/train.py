"""`cm3leon train`."""

from __future__ import annotations

from cm3leon_jax.data.objective import ObjectiveConfig
from cm3leon_jax.data.settings import FinetuningConfig, PretrainingConfig, StreamConfig
from cm3leon_jax.model.config import DecoderConfig
from cm3leon_jax.model.partitioning import AxisRules, MeshConfig
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.runtime.hardware import HardwareConfig
from cm3leon_jax.runtime.settings import LoopConfig
from cm3leon_jax.sampling.rules import SamplingConfig
from cm3leon_jax.training.optimizer import OptimizerConfig
from cm3leon_jax.training.step import StepConfig


def train(
    text_tokenizer: str,
    image_tokenizer: str,
    directory: str,
    model: DecoderConfig,
    hardware: HardwareConfig,
    mesh: MeshConfig,
    rules: AxisRules,
    optimizer: OptimizerConfig,
    step: StepConfig,
    stream: StreamConfig,
    pretraining: PretrainingConfig,
    finetuning: FinetuningConfig,
    objective: ObjectiveConfig,
    sampling: SamplingConfig,
    loop: LoopConfig,
    prepared: str = "",
    seed: int = 0,
    evaluation_documents: int = 256,
    sample_captions: int = 4,
    codebook_start: bool = False,
    init_from: str = "",
    profile_steps: str = "",
) -> None:
    """Trains the decoder on PREPARED documents -> DIRECTORY/model, with checkpoints and metrics in DIRECTORY/training.

    Held-out loss is measured with 0, 1 and 2 retrieved documents; pictures drawn from held-out captions are written to
    DIRECTORY/samples at each evaluation. Killed and started again, it continues with the very next batch.
    With --codebook_start, image tokens' embeddings start from the image tokenizer's code vectors. With --init_from
    MODEL, training starts from the decoder in that folder, of the same size. With --profile_steps 10:15, a jax.profiler
    trace of these steps is written to DIRECTORY/training/profile.

    Fine-tuning (runs/sft.gin): FinetuningConfig.folders name prepared instructions to train on. Held-out loss is that
    of each task's answers, and with --prepared of these documents as well."""
    import dataclasses
    import itertools
    import math

    import jax

    from cm3leon_jax.commands.stage import run_stage
    from cm3leon_jax.data.held_out import Batching, answer_batches, evaluation_batches
    from cm3leon_jax.data.instruction_tasks import finetuning_mixture
    from cm3leon_jax.data.shards import PreparedData
    from cm3leon_jax.data.stream import make_stream
    from cm3leon_jax.data.tasks import pretraining_mixture
    from cm3leon_jax.model.decoder import Params
    from cm3leon_jax.model.folder import open_initial_params, whole
    from cm3leon_jax.model.partitioning import Partitioning, local_partitioning, make_mesh
    from cm3leon_jax.runtime import hosts
    from cm3leon_jax.runtime.files import Path, as_path
    from cm3leon_jax.sampling.generate import check_length
    from cm3leon_jax.sampling.pictures import write_picture_grid
    from cm3leon_jax.sampling.pipeline import Generator
    from cm3leon_jax.sampling.prompts import text_to_image
    from cm3leon_jax.tokenizers.image.tokenizer import ImageTokenizer
    from cm3leon_jax.tokenizers.text import TextTokenizer
    from cm3leon_jax.training.step import accumulated_parts
    from cm3leon_jax.training.train import TrainingConfig, train_decoder

    text, image = TextTokenizer.load(text_tokenizer), ImageTokenizer.load(image_tokenizer)
    if not prepared and not finetuning.folders:
        raise UserError("train needs --prepared DATA (or, for fine-tuning, FinetuningConfig.folders)")
    data = PreparedData(prepared) if prepared else None
    instructions = [PreparedData(folder) for folder in finetuning.folders]
    datas = [*([data] if data else []), *instructions]
    for each in datas:
        each.check(text=text.fingerprint, image=image.fingerprint)
        if each.vocabulary != datas[0].vocabulary:
            raise UserError(f"{each.directory} was prepared for another vocabulary than {datas[0].directory}")
    vocabulary = datas[0].vocabulary
    model = dataclasses.replace(model, vocab_size=vocabulary.size)
    training = TrainingConfig(optimizer=optimizer, step=step, mesh=mesh, rules=rules, hardware=hardware, seed=seed)
    initial_params = open_initial_params(init_from, model, vocabulary) if init_from else None
    held_out = data.split("validation") if data else ()

    def fits(caption: str) -> bool:
        """Whether the model holds the caption with its picture, so that it can be drawn from."""
        try:
            prompt = text_to_image(text.encode(caption), [], image_tokens=image.tokens_per_image, vocabulary=vocabulary)
            check_length(prompt, vocabulary, model)
        except UserError:
            return False
        return True

    every = (held_out[index].caption for index in range(len(held_out)))
    captions = list(itertools.islice(filter(fits, every), sample_captions))

    if profile_steps:
        loop = dataclasses.replace(loop, profile_steps=profile_steps)

    def write_samples(step: int, params: Params) -> dict[str, Path]:
        params = jax.tree.map(whole, params)
        if not hosts.is_first():
            return {}
        # While the other processes wait. Split over the devices as far as that goes: a copy for each may not fit.
        alone = local_partitioning(MeshConfig(tensor=math.gcd(model.num_heads, jax.local_device_count())))
        generator = Generator(model, vocabulary, params, text, image, partitioning=alone)
        pictures = generator.text_to_image(captions, sampling=sampling)
        path = as_path(directory) / "samples" / f"step_{step:07d}.png"
        write_picture_grid(path, [list(row) for row in pictures], captions=captions)
        return {"samples": path}

    def work() -> None:
        share = {"process_index": jax.process_index(), "process_count": jax.process_count()}
        # So many rows at once as training works through: more might not fit.
        shards = Partitioning(make_mesh(mesh), rules).batch_shards
        rows = stream.batch_size // accumulated_parts(stream.batch_size, shards, step)
        batching = Batching(
            length=stream.length,
            batch_size=math.lcm(rows, jax.process_count()),
            limit=evaluation_documents,
            position_rule=model.position_rule,
            **share,
        )
        evaluation = {}
        if data:
            for count in range(3):
                evaluation[f"retrieved_{count}"] = evaluation_batches(data, "validation", batching, retrieved=count)
        if instructions:
            evaluation |= answer_batches(instructions, "validation", batching, text_tokenizer=text)
            mixing = finetuning_mixture("finetuning", instructions, finetuning, text)
        else:
            mixing = pretraining_mixture(prepared, "pretraining", pretraining, text)
        with mixing as mixture:
            alone = bool(instructions) and finetuning.answers_alone
            batches = make_stream(
                mixture, stream, objective, answers_alone=alone, position_rule=model.position_rule, **share
            )
            if hosts.is_first():
                print(f"packing: {batches.fill:.1%} of the tokens in a batch are not padding", flush=True)
                if batches.left_out:
                    long = f"longer than {stream.length} tokens (StreamConfig.length)"
                    print(f"packing: {batches.left_out:.1%} of the examples are left out, being {long}", flush=True)
            train_decoder(
                model,
                vocabulary,
                training,
                loop,
                batches,
                directory,
                evaluation=evaluation,
                on_step=write_samples if captions else None,
                initial_params=initial_params,
                codebook=image.codebook if codebook_start else None,
                retrieved_max=None if instructions else pretraining.retrieved_max,
            )

    settings = {"model": model, "codebook_start": codebook_start, "optimizer": optimizer, "step": step}
    settings |= {"stream": stream, "seed": seed, "init_from": init_from}
    recipe = {"finetuning": finetuning} if instructions else {"pretraining": pretraining}
    run_stage(
        directory,
        "train",
        settings=settings | {"data": [each.fingerprint for each in datas], "objective": objective} | recipe,
        extendable={"loop": loop},
        work=work,
    )
