"""Training of the image tokenizer from start to finish: loop, evaluation, model folder, picture."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh
from PIL import Image

from cm3leon_jax.runtime.batches import batches_by_step
from cm3leon_jax.runtime.compute_dtype import Use, training_dtype
from cm3leon_jax.runtime.devices import batch_sharded, data_mesh, put_batch, replicated
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.runtime.files import Path, as_path, write_json, written_aside
from cm3leon_jax.runtime.loop import TrainingLoop
from cm3leon_jax.runtime.settings import LoopConfig
from cm3leon_jax.tokenizers.image import warm_start
from cm3leon_jax.tokenizers.image.adversary import Metrics
from cm3leon_jax.tokenizers.image.config import ImageTokenizerConfig, ImageTokenizerTraining
from cm3leon_jax.tokenizers.image.evaluation import evaluate_image_tokenizer, reconstruction_picture
from cm3leon_jax.tokenizers.image.tokenizer import ImageTokenizer, untrained
from cm3leon_jax.tokenizers.image.training import State, Trainer

LABEL = "image tokenizer"
SHOWN_IMAGES = 32


def train_image_tokenizer(
    config: ImageTokenizerConfig,
    training: ImageTokenizerTraining,
    loop: LoopConfig,
    batch_of_step: Callable[[int], np.ndarray],
    directory: Path,
    evaluation_images: np.ndarray,
) -> ImageTokenizer:
    """Trains, or continues what a stopped run left in `directory`, and returns the tokenizer in `directory`/model.

    `batch_of_step(step)` is a pure function: this process's share of the step's images, uint8 [b, R, R, 3], where b
    times the processes is `training.batch_size`. `evaluation_images` uint8 [N, R, R, 3] are held out; the first of them
    are drawn. Writes `training/` (checkpoints, metrics), `model/`, `evaluation.json`, `reconstructions.png`.
    Raises `UserError` on settings that do not fit each other and `StartAgain` after SIGTERM.
    """
    directory = as_path(directory)
    mesh = data_mesh()
    if training.batch_size % mesh.size:
        raise UserError(f"batch_size {training.batch_size} is not a multiple of the {mesh.size} devices; change it")
    dtype = training_dtype(
        config.compute_dtype, Use.ENCODER_TRAINING, directory=directory / "training", part="model", label=LABEL
    )
    trained = dataclasses.replace(config, compute_dtype=dtype)
    trainer = Trainer(trained, training, loop.steps)
    tokenizer = untrained(config)

    def evaluate(state: dict, _: int) -> dict[str, float]:
        return evaluate_image_tokenizer(tokenizer.with_params(state["params"]), evaluation_images)

    def draw(_: int, state: dict) -> dict[str, Path]:
        path = directory / "reconstructions.png"
        write_reconstructions(tokenizer.with_params(state["params"]), evaluation_images[:SHOWN_IMAGES], path)
        return {"reconstructions": path}

    state = TrainingLoop(
        config=loop,
        train_step=_compiled_step(trainer, mesh),
        make_batches=batches_by_step(lambda step: (step, batch_of_step(step))),
        directory=directory / "training",
        label=LABEL,
        saved_config={"model": dataclasses.asdict(trained), "training": dataclasses.asdict(training)},
        evaluate=evaluate if loop.evaluate_every else None,
        on_step=draw if loop.evaluate_every else None,
    ).run(jax.device_put(_initial_state(trainer, batch_of_step), replicated(mesh)))
    tokenizer = tokenizer.with_params(state["params"])
    tokenizer.save(directory / "model")
    write_json(directory / "evaluation.json", evaluate_image_tokenizer(tokenizer, evaluation_images))
    write_reconstructions(tokenizer, evaluation_images[:SHOWN_IMAGES], directory / "reconstructions.png")
    return tokenizer


def _initial_state(trainer: Trainer, batch_of_step: Callable[[int], np.ndarray]) -> State:
    """Random, or warm-started from the first batches: those of process 0, so that all processes start the same."""
    config, training = trainer.config, trainer.training
    state = trainer.init_state()
    if training.start == "random":
        return state
    warm_start.check(config)
    steps = -(-training.start_images // training.batch_size)
    images = np.concatenate([batch_of_step(step) for step in range(steps)])
    params, usage = warm_start.warm_started(state["params"], config, images, training.seed)
    if jax.process_count() > 1:
        params, usage = multihost_utils.broadcast_one_to_all((params, usage))
    return state | {"params": params, "usage": usage}


def _compiled_step(trainer: Trainer, mesh: Mesh) -> Callable[[State, tuple[int, np.ndarray]], tuple[State, Metrics]]:
    """(state, (step, images)) -> (state, metrics), data-parallel over the mesh. What is done in a step is chosen here,
    on the host, so that each compiled program holds only what it runs."""
    compile_on_mesh = functools.partial(jax.jit, donate_argnums=0, out_shardings=replicated(mesh))
    start_codebook = compile_on_mesh(trainer.start_codebook)
    step = {flag: compile_on_mesh(functools.partial(trainer.train_step, adversarial=flag)) for flag in (False, True)}

    def train_step(state: State, batch: tuple[int, np.ndarray]) -> tuple[State, Metrics]:
        number, images = batch[0], put_batch(batch[1], batch_sharded(mesh))
        if number == trainer.training.quantize_from_step and trainer.training.start == "random":
            state = start_codebook(state, images)
        return step[trainer.adversarial(number)](state, images)

    return train_step


def write_reconstructions(tokenizer: ImageTokenizer, images: np.ndarray, path: Path) -> None:
    """Draws images uint8 [N, R, R, 3] above their reconstructions into a PNG file."""
    picture = reconstruction_picture(images, tokenizer.decode(tokenizer.encode(images)))
    with written_aside(path) as aside:
        Image.fromarray(picture).save(aside, format="PNG")
