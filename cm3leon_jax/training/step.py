"""One step of training: loss, gradients, update. Free of TensorFlow.

The state is a plain dict, {"params", "opt_state", "step", "skipped", "learning_rate_scale"}; a batch is a dict of
arrays [B, L]: int32 tokens, targets, positions and segments, float32 weights (0 on padding), and where losses by number
of retrieved documents are asked for, int32 retrieved (`data/packing.py`).
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from cm3leon_jax.model.config import DecoderConfig
from cm3leon_jax.model.decoder import Params, hidden_states, init_params, logical_axes
from cm3leon_jax.model.partitioning import Partitioning
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.training.loss import cross_entropy
from cm3leon_jax.training.optimizer import OptimizerConfig, learning_rate_schedule, make_optimizer
from cm3leon_jax.vocabulary import UNK_ID, Vocabulary

State = dict[str, Any]
Batch = dict[str, jax.Array]
Sums = dict[str, jax.Array]  # float32 scalars: weighted losses and weights, by modality and retrieved documents


@dataclasses.dataclass(frozen=True)
class StepConfig:
    """How a step computes its loss and gradients."""

    per_device_batch_size: int = 0  # rows that a device works through at once, at most, then the next; 0: all its rows
    z_loss: float = 0.0  # × mean squared log-normalizer; Chameleon needed 1e-5 at 7B
    loss_chunk: int = 128  # positions of each row whose logits are in memory at once
    gradient_dtype: str = "float32"  # of sums over devices; "bfloat16": half the bytes, less precise

    def __post_init__(self) -> None:
        if self.gradient_dtype not in ("float32", "bfloat16"):
            raise UserError(f"StepConfig.gradient_dtype is {self.gradient_dtype!r}; choose float32 or bfloat16")
        for name, least in (("per_device_batch_size", 0), ("z_loss", 0), ("loss_chunk", 1)):
            if not getattr(self, name) >= least:
                raise UserError(f"StepConfig.{name} is {getattr(self, name)}; it must be at least {least}")


def loss_sums(
    params: Params,
    batch: Batch,
    *,
    config: DecoderConfig,
    vocabulary: Vocabulary,
    step_config: StepConfig,
    partitioning: Partitioning,
    retrieved_max: int | None = None,
) -> tuple[jax.Array, Sums]:
    """-> (what is differentiated: the weighted sum of losses, z-loss included; the sums to report, without it).

    With `retrieved_max` n, there are also those of the examples with 0 … n retrieved documents."""
    total, nll_BxL = token_losses(params, batch, config=config, step_config=step_config, partitioning=partitioning)
    targets, weights = batch["targets"], batch["weights"]
    parts = {
        "all": weights,
        "text": weights * ((targets >= UNK_ID) & (targets < vocabulary.text_size)),
        "image": weights * ((targets >= vocabulary.image_offset) & (targets < vocabulary.break_id)),
    }
    for count in range(0 if retrieved_max is None else retrieved_max + 1):
        parts[f"retrieved_{count}"] = weights * (batch["retrieved"] == count)
    sums = {}
    for name, weight in parts.items():
        sums[f"loss_{name}"], sums[f"weight_{name}"] = (nll_BxL * weight).sum(), weight.sum()
    return total, sums


def token_losses(
    params: Params, batch: Batch, *, config: DecoderConfig, step_config: StepConfig, partitioning: Partitioning
) -> tuple[jax.Array, jax.Array]:
    """-> (the weighted sum of losses, z-loss included; the loss of each target without it, float32 [B, L], nats)."""
    hidden_BxLxD = hidden_states(
        params,
        batch["tokens"],
        config=config,
        positions_BxL=batch["positions"],
        segments_BxL=batch["segments"],
        partitioning=partitioning,
    )
    with jax.named_scope("loss"):
        return cross_entropy(
            hidden_BxLxD,
            params["embedding"]["tokens"],
            batch["targets"],
            batch["weights"],
            z_loss=step_config.z_loss,
            chunk=step_config.loss_chunk,
            partitioning=partitioning,
        )


def mean_losses(sums: Sums) -> dict[str, jax.Array]:
    """Sums -> mean losses in nats: `loss` over all tokens, `loss_text` and `loss_image` by the target's modality;
    where the sums have them, `loss_retrieved_N` over the examples with N retrieved documents, NaN where there are none.
    """
    means = {name: sums[f"loss_{name}"] / jnp.maximum(sums[f"weight_{name}"], 1.0) for name in ("all", "text", "image")}
    losses = {"loss": means["all"], "loss_text": means["text"], "loss_image": means["image"]}
    for name in sums:
        if name.startswith("loss_retrieved"):
            losses[name] = sums[name] / sums[name.replace("loss", "weight")]
    return losses


def make_state(key: jax.Array, config: DecoderConfig, optimizer: optax.GradientTransformation) -> State:
    """A new state: initialised parameters, nothing trained."""
    return state_of(init_params(config, key), optimizer)


def state_of(params: Params, optimizer: optax.GradientTransformation) -> State:
    """The state that starts (or fine-tunes) from given parameters."""
    zero, one = jnp.zeros((), jnp.int32), jnp.ones((), jnp.float32)
    opt_state = optimizer.init(params)
    return {"params": params, "opt_state": opt_state, "step": zero, "skipped": zero, "learning_rate_scale": one}


def state_shardings(
    config: DecoderConfig, optimizer: optax.GradientTransformation, partitioning: Partitioning
) -> State:
    """The sharding of every array of the state: the optimizer's moments lie as their parameters do."""
    params = partitioning.tree(logical_axes(config))
    abstract = jax.eval_shape(functools.partial(make_state, config=config, optimizer=optimizer), jax.random.key(0))
    replicated = partitioning.replicated()
    # A moment's path ends as its parameter's does; what has no parameter (counters) is replicated.
    by_path = dict(jax.tree_util.tree_leaves_with_path(params))

    def of_moment(path: tuple, _: Any) -> jax.sharding.Sharding:
        ends = (path[start:] for start in range(len(path)))
        return next((by_path[end] for end in ends if end in by_path), replicated)

    opt_state = jax.tree_util.tree_map_with_path(of_moment, abstract["opt_state"])
    return dict.fromkeys(abstract, replicated) | {"params": params, "opt_state": opt_state}


def init_state(
    seed: int, config: DecoderConfig, optimizer: optax.GradientTransformation, partitioning: Partitioning
) -> State:
    """A new state, made on the mesh where it lies: no device ever holds all of it."""
    make = functools.partial(make_state, config=config, optimizer=optimizer)
    return jax.jit(make, out_shardings=state_shardings(config, optimizer, partitioning))(jax.random.key(seed))


def make_train_step(
    config: DecoderConfig,
    vocabulary: Vocabulary,
    optimizer_config: OptimizerConfig,
    steps: int,
    partitioning: Partitioning,
    step_config: StepConfig,
    compiler_options: Mapping[str, str] | None = None,
    retrieved_max: int | None = None,
) -> jax.stages.Wrapped:
    """The compiled step, (state, batch) -> (state, metrics) for a run of `steps`. It takes the state's memory over.

    `compiler_options` are XLA's, for TPUs; other platforms do not know them, and are not told. With `retrieved_max` n
    the batches have "retrieved", and losses are also reported for 0 … n retrieved documents.
    A step whose loss or gradient is not finite changes nothing but the counters: `skipped` counts them. The state's
    `learning_rate_scale` multiplies the learning rate of every part of the optimizer.
    """
    if config.vocab_size < vocabulary.used:
        raise UserError(
            f"vocab_size {config.vocab_size} is less than the {vocabulary.used} ids of the data; set it to it"
        )
    tensor = 1 if partitioning.mesh is None else partitioning.mesh.shape["tensor"]
    if config.num_heads % tensor:
        raise UserError(f"{tensor} tensor shards do not divide {config.num_heads} heads; change MeshConfig.tensor")
    optimizer = make_optimizer(optimizer_config, steps, partitioning)
    schedule = learning_rate_schedule(optimizer_config, steps)
    partitioning = dataclasses.replace(partitioning, gradient_dtype=step_config.gradient_dtype)
    sums_of = functools.partial(
        loss_sums,
        config=config,
        vocabulary=vocabulary,
        step_config=step_config,
        partitioning=partitioning,
        retrieved_max=retrieved_max,
    )

    def train_step(state: State, batch: Batch) -> tuple[State, dict[str, jax.Array]]:
        parts = accumulated_parts(batch["tokens"].shape[0], partitioning.batch_shards, step_config)
        gradients, sums = _accumulated_gradients(sums_of, state["params"], batch, parts)
        tokens = jnp.maximum(sums["weight_all"], 1.0)
        grad_norm = optax.global_norm(gradients) / tokens
        scale = jnp.minimum(1.0, optimizer_config.clip_norm / jnp.maximum(grad_norm, 1e-12)) / tokens
        gradients = jax.tree.map(lambda g: g * scale, gradients)
        updates, opt_state = optimizer.update(gradients, state["opt_state"], state["params"])
        # Every update, decay included, is a multiple of the learning rate.
        updates = jax.tree.map(lambda u: u * state["learning_rate_scale"], updates)
        finite = jnp.isfinite(grad_norm) & jnp.isfinite(sums["loss_all"])
        keep = functools.partial(jax.tree.map, lambda new, old: jnp.where(finite, new, old))
        new_state = {
            "params": keep(optax.apply_updates(state["params"], updates), state["params"]),
            "opt_state": keep(opt_state, state["opt_state"]),
            "step": state["step"] + 1,
            "skipped": state["skipped"] + ~finite,
            "learning_rate_scale": state["learning_rate_scale"],
        }
        metrics = mean_losses(sums) | {
            "grad_norm": grad_norm,
            "param_norm": optax.global_norm(new_state["params"]),
            "learning_rate": schedule(state["step"] - state["skipped"]) * state["learning_rate_scale"],
            "tokens": sums["weight_all"],
            "skipped": new_state["skipped"],
            "finite": finite.astype(jnp.float32),
        }
        return new_state, metrics

    shardings = state_shardings(config, optimizer, partitioning)
    return jax.jit(
        train_step,
        in_shardings=(shardings, partitioning.sharding("batch")),
        out_shardings=(shardings, partitioning.replicated()),
        donate_argnums=0,
        compiler_options=dict(compiler_options or {}) if partitioning.platform == "tpu" else None,
    )


def accumulated_parts(rows: int, shards: int, step_config: StepConfig) -> int:
    """Into how many equal parts a batch of `rows`, split over `shards` devices, is cut: one after the other is worked
    through, and their gradients are added up.

    UserError: the rows do not divide over the devices.
    """
    if rows % shards:
        raise UserError(
            f"a batch of {rows} rows does not divide over {shards} devices; change StreamConfig.batch_size or the mesh"
        )
    own = rows // shards
    most = step_config.per_device_batch_size or own
    return next(parts for parts in range(1, own + 1) if own % parts == 0 and own // parts <= most)


def _accumulated_gradients(
    sums_of: Callable[[Params, Batch], tuple[jax.Array, Sums]], params: Params, batch: Batch, parts: int
) -> tuple[Params, Sums]:
    """Gradients of the summed loss, and the sums to report, over all parts of the batch."""
    gradient = jax.grad(sums_of, has_aux=True)
    if parts == 1:
        return gradient(params, batch)
    rows = batch["tokens"].shape[0]
    # Every part takes rows from all devices: part p is rows p, p + parts, …
    stacked = jax.tree.map(lambda x: x.reshape(rows // parts, parts, *x.shape[1:]).swapaxes(0, 1), batch)

    def add(carry: Any, part: Batch) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, carry, gradient(params, part)), None

    zeros = jax.tree.map(jnp.zeros_like, jax.eval_shape(gradient, params, jax.tree.map(lambda x: x[0], stacked)))
    return jax.lax.scan(add, zeros, stacked)[0]
