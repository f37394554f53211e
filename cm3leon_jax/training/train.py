"""A training run of the decoder, from the stream to the finished model folder. Pretraining and fine-tuning alike."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from cm3leon_jax.model.config import DecoderConfig, parameter_count
from cm3leon_jax.model.decoder import Params, logical_axes
from cm3leon_jax.model.folder import fingerprint_of_params, placed_params, save_decoder
from cm3leon_jax.model.partitioning import AxisRules, MeshConfig, Partitioning, make_mesh
from cm3leon_jax.planning.chips import parse_slice
from cm3leon_jax.runtime import hosts
from cm3leon_jax.runtime.agreement import check_same
from cm3leon_jax.runtime.batches import MakeBatches
from cm3leon_jax.runtime.compute_dtype import Use, training_dtype
from cm3leon_jax.runtime.devices import put_batch
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.runtime.files import Path, as_path, check_writable, write_json
from cm3leon_jax.runtime.hardware import HardwareConfig
from cm3leon_jax.runtime.loop import TrainingLoop
from cm3leon_jax.runtime.settings import LoopConfig
from cm3leon_jax.runtime.tensor_stream import StoredTensor
from cm3leon_jax.training.codebook_start import with_codebook
from cm3leon_jax.training.evaluate import make_evaluate
from cm3leon_jax.training.optimizer import OptimizerConfig, make_optimizer
from cm3leon_jax.training.step import (
    State,
    StepConfig,
    accumulated_parts,
    init_state,
    make_train_step,
    state_of,
    state_shardings,
)
from cm3leon_jax.training.throughput import throughput
from cm3leon_jax.vocabulary import Vocabulary

LABEL = "decoder"


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """Everything about a run but the model, the data and how long it takes."""

    optimizer: OptimizerConfig = dataclasses.field(default_factory=OptimizerConfig)
    step: StepConfig = dataclasses.field(default_factory=StepConfig)
    mesh: MeshConfig = dataclasses.field(default_factory=MeshConfig)
    rules: AxisRules = dataclasses.field(default_factory=AxisRules)
    hardware: HardwareConfig = dataclasses.field(default_factory=HardwareConfig)
    seed: int = 0  # of the initial parameters


def train_decoder(
    config: DecoderConfig,
    vocabulary: Vocabulary,
    training: TrainingConfig,
    loop: LoopConfig,
    make_batches: MakeBatches,
    directory: Path,
    *,
    evaluation: Mapping[str, Sequence[dict[str, np.ndarray]]] | None = None,
    on_step: Callable[[int, Params], Mapping[str, Path] | None] | None = None,
    initial_params: Mapping[str, StoredTensor] | None = None,
    codebook: np.ndarray | None = None,
    retrieved_max: int | None = None,
) -> Params:
    """Trains, or continues training, and returns the final parameters (arrays on the mesh).

    Below `directory`: `training/` (checkpoints, metrics), `model/` (the decoder: `model.folder`), `evaluation.json`.
    `make_batches` gives this process's rows of each batch; `evaluation` names lists of batches (`evaluate.py`);
    `on_step(step, params)` runs before each evaluation and may name images that it has made; with `initial_params`, a
    trained model's in their file (`model.folder.open_initial_params`), training starts from these; with `codebook`, the
    image tokenizer's code vectors [K, C], a new model's image tokens start from them (`codebook_start.py`); with
    `retrieved_max`, the most that an example has, the training loss is also reported by the number of retrieved
    documents, for batches that tell it (`data/packing.py`).
    """
    _check_slice(training.hardware)
    directory = as_path(directory)
    check_writable(directory / "training")
    dtype = training_dtype(
        config.compute_dtype, Use.DECODER_TRAINING, directory=directory / "training", part="decoder", label=LABEL
    )
    saved, config = config, dataclasses.replace(config, compute_dtype=dtype)
    partitioning = Partitioning(make_mesh(training.mesh), training.rules)
    # What cannot work is said before anything is compiled. A position is all that leads to a batch: this one is made
    # once more when its turn comes.
    _check_batch(next(iter(make_batches(None)))[0], config, training, partitioning)
    state = _initial_state(config, training, loop.steps, partitioning, initial_params)
    if codebook is not None and initial_params is None:
        state["params"] = with_codebook(
            state["params"],
            codebook,
            vocabulary,
            std=config.init_std,
            seed=training.seed,
            sharding=partitioning.tree(logical_axes(config))["embedding"]["tokens"],
        )
    evaluate = make_evaluate(config, vocabulary, partitioning, training.step)
    last_evaluation: dict[str, float] = {}
    length = 0

    sharding = partitioning.sharding("batch")

    def placed(position: dict | None) -> Iterator[tuple[Any, dict]]:
        nonlocal length
        for batch, following in make_batches(position):
            _check_lengths(batch, config)
            length = batch["tokens"].shape[1]
            yield put_batch(batch, sharding), following

    def on_evaluation(state: State, step: int) -> dict[str, float]:
        last_evaluation.clear()
        last_evaluation.update(evaluate(state["params"], evaluation or {}))
        return last_evaluation

    def rates(metrics: Mapping[str, float], steps_per_second: float) -> dict[str, float]:
        return throughput(config, length, metrics["tokens"] * steps_per_second, jax.device_count())

    state = TrainingLoop(
        config=loop,
        train_step=make_train_step(
            config,
            vocabulary,
            training.optimizer,
            loop.steps,
            partitioning,
            training.step,
            training.hardware.compiler_options,
            retrieved_max,
        ),
        make_batches=placed,
        directory=directory / "training",
        label=LABEL,
        saved_config={"decoder": dataclasses.asdict(config), "vocabulary": dataclasses.asdict(vocabulary)},
        evaluate=on_evaluation if evaluation else None,
        on_step=None if on_step is None else lambda step, state: on_step(step, state["params"]),
        rates=rates,
    ).run(state)
    save_decoder(directory / "model", saved, vocabulary, state["params"])
    summary: dict[str, float] = {"steps": loop.steps, "parameters": parameter_count(config)}
    if evaluation:
        summary |= last_evaluation or on_evaluation(state, loop.steps)
    if hosts.is_first():
        write_json(directory / "evaluation.json", summary)
    return state["params"]


def _initial_state(
    config: DecoderConfig,
    training: TrainingConfig,
    steps: int,
    partitioning: Partitioning,
    tensors: Mapping[str, StoredTensor] | None,
) -> State:
    optimizer = make_optimizer(training.optimizer, steps, partitioning)
    if tensors is None:
        return init_state(training.seed, config, optimizer, partitioning)
    check_same({"the weights to start from": fingerprint_of_params(tensors)})
    shardings = state_shardings(config, optimizer, partitioning)
    params = placed_params(tensors, shardings.pop("params"))
    # The parameters are no output: they would be copied.
    others = jax.jit(
        lambda params: {name: part for name, part in state_of(params, optimizer).items() if name != "params"},
        out_shardings=shardings,
    )(params)
    return {"params": params, **others}


def _check_slice(hardware: HardwareConfig) -> None:
    """Whether the TPU devices that are there, if any, are as many as the named slice has."""
    if hardware.slice and jax.default_backend() == "tpu":
        chips = parse_slice(hardware.slice).chips
        if jax.device_count() != chips:
            raise UserError(
                f"the hardware file is for {hardware.slice} ({chips} chips), and there are {jax.device_count()}; name "
                "the hardware file of this slice"
            )


def _check_lengths(batch: Mapping[str, np.ndarray], config: DecoderConfig) -> None:
    length = batch["tokens"].shape[1]
    if length > config.max_length:
        raise UserError(f"sequences of {length} tokens, but max_length is {config.max_length}; make one of them fit")
    reached = int(batch["positions"].max()) + 1
    if reached > config.max_length:  # JAX would read the last row of the table instead, in silence
        raise UserError(f"a sequence reaches position {reached}, but max_length is {config.max_length}; raise it")


def _check_batch(
    batch: Mapping[str, np.ndarray], config: DecoderConfig, training: TrainingConfig, partitioning: Partitioning
) -> None:
    """Whether the step can be compiled for batches like this one."""
    _check_lengths(batch, config)
    own = batch["tokens"].shape[0]
    rows = own * hosts.count()
    accumulated_parts(rows, partitioning.batch_shards, training.step)
    # Each process makes its own share of the rows; one whose devices need other rows too would read past them.
    pieces = partitioning.sharding("batch").addressable_devices_indices_map((rows,)).values()
    needed = {row for piece in pieces if piece for row in range(rows)[piece[0]]}
    if len(needed) != own:
        raise UserError(
            f"a process makes {own} rows of a batch, but its devices work on {len(needed)}: an axis that is not of the"
            " batch reaches over several processes; make `tensor` a divisor of the devices of a process"
        )
