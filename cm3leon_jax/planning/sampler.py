"""Plans the sampling program: one image a row, drawn by CD-K with retrieved documents in the prompt."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp

from cm3leon_jax.model.config import DecoderConfig
from cm3leon_jax.model.decoder import abstract_params
from cm3leon_jax.model.partitioning import AxisRules, MeshConfig, Partitioning, make_mesh
from cm3leon_jax.planning.chips import GIB, Slice
from cm3leon_jax.planning.compile import CompiledProgram, DoesNotFit, read_program, slice_devices
from cm3leon_jax.planning.plan import table
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.sampling.loop import decode
from cm3leon_jax.sampling.prompts import IMAGE
from cm3leon_jax.sampling.rules import TWO_STREAMS, SamplingConfig
from cm3leon_jax.sampling.weights import AS_COMPUTED, PrecisionConfig, sampling_axes, sampling_config, sampling_params
from cm3leon_jax.vocabulary import CM3LEON

IMAGE_TOKENS = 1024  # 256 × 256 pixels (CM3Leon §2.1)


@dataclasses.dataclass(frozen=True)
class PlannedSampler:
    """All that decides the sampling program. The slice holds chips ÷ `tensor` copies of the model."""

    model: DecoderConfig
    tensor: int  # chips that hold one copy together: heads, FFN and vocabulary are split over them
    rows: int  # images that a copy draws at once, each with the streams of its rule
    prompt: int  # tokens of the retrieved documents, which all streams of an image share
    text: int = 64  # tokens behind them
    steps: int = IMAGE_TOKENS
    rule: str = "cdk"
    precision: PrecisionConfig = AS_COMPUTED
    compiler_options: tuple[tuple[str, str], ...] = ()

    @property
    def decoder(self) -> DecoderConfig:
        """The model as the sampling program has it."""
        return sampling_config(self.model, "tpu")


def compile_sampler(run: PlannedSampler, slice_: Slice) -> CompiledProgram:
    """Compiles the very program that `cm3leon sample` runs. DoesNotFit: too little memory."""
    # Copies of the model, not shares of it: gathering weights for every token would take longer than the token.
    rules = AxisRules(embed=None)
    mesh = make_mesh(MeshConfig(slices=slice_.slices, data=-1, tensor=run.tensor), slice_devices(slice_))
    partitioning = Partitioning(mesh, rules)
    params = jax.tree.map(
        lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
        _weights(run),
        partitioning.tree(sampling_axes(run.decoder, run.precision)),
    )
    rows, streams = run.rows * partitioning.batch_shards, 2 if run.rule in TWO_STREAMS else 1
    array = functools.partial(jax.ShapeDtypeStruct, sharding=partitioning.sharding("batch"))
    batch = {
        "shared": array((rows, run.prompt), jnp.int32),
        "shared_positions": array((rows, run.prompt), jnp.int32),
        "shared_lengths": array((rows,), jnp.int32),
        "tokens": array((rows, streams, run.text), jnp.int32),
        "positions": array((rows, streams, run.text), jnp.int32),
        "lengths": array((rows, streams), jnp.int32),
        "next": array((rows, streams), jnp.int32),
        "template": array((rows, streams, run.steps), jnp.int32),
        "steps": array((rows,), jnp.int32),
        "seeds": array((rows, 3), jnp.uint32),
        "settings": {name: array((rows, 1), jnp.float32) for name in SamplingConfig(rule=run.rule).settings()},
    }
    lowered = decode.lower(
        params,
        batch,
        config=run.decoder,
        vocabulary=CM3LEON,
        draws=IMAGE,
        rule=run.rule,
        precision=run.precision,
        partitioning=partitioning,
    )
    # The loop ends when the longest row does: here, after an image's tokens.
    return read_program(lowered, partitioning, slice_, trips=run.steps, compiler_options=run.compiler_options)


def plan_sampler(run: PlannedSampler, slice_: Slice) -> dict[str, Any]:
    """The plan, JSON-able, with the smallest number of chips a copy that fits where `run.tensor` is 0.

    UserError: it does not fit the slice, or the heads do not divide.
    """
    most = slice_.chips_per_slice
    tried = [run.tensor] if run.tensor else [2**power for power in range(most.bit_length()) if 2**power <= most]
    failures = []
    for tensor in (size for size in tried if run.model.num_heads % size == 0 and most % size == 0):
        planned = dataclasses.replace(run, tensor=tensor)
        try:
            _check_weights(planned, slice_)
            return _plan(planned, slice_, compile_sampler(planned, slice_))
        except DoesNotFit as error:
            failures.append(f"over {tensor} chips a copy it {error}")
    reason = failures[-1] if failures else f"no number of chips divides {run.model.num_heads} heads and the slice"
    raise UserError(
        f"the sampling program does not fit {slice_.name}: {reason}; draw fewer images at once (--sampler_rows) or "
        "take a larger slice"
    )


def describe_sampler(plan: dict[str, Any]) -> str:
    """The plan as lines for the terminal."""
    lines = [
        (
            "sampling",
            f"{plan['copies']} copies of the model on {plan['tensor']} chip(s) each, {plan['rows']} images at once by "
            f"{plan['rule']}, {plan['prompt']:,} tokens before {plan['steps']:,}, {plan['weights']} weights, "
            f"{plan['cache']} cache",
        ),
        (
            "memory a chip",
            f"{plan['hbm_bytes_per_chip'] / GIB:.2f} GiB of {plan['hbm_capacity_bytes'] / GIB:.2f} GiB",
        ),
        (
            "predicted",
            f"{plan['predicted_seconds']:.1f} s a batch, {plan['predicted_step_seconds'] * 1e3:.1f} ms a token",
        ),
        ("speed", f"{plan['images_per_second']:.2f} images a second on the slice"),
        ("compiled in", f"{plan['compile_seconds']:.0f} s"),
    ]
    return table(lines, plan["warnings"])


def _check_weights(run: PlannedSampler, slice_: Slice) -> None:
    """DoesNotFit where the weights alone are too large: known without compiling."""
    leaves = jax.tree.leaves(_weights(run))
    weights = sum(leaf.size * leaf.dtype.itemsize for leaf in leaves) // run.tensor
    if weights > slice_.chip.usable_hbm_bytes:
        raise DoesNotFit(weights, slice_.chip.usable_hbm_bytes)


def _weights(run: PlannedSampler) -> Any:
    """Their shapes, as the program reads them."""
    prepare = functools.partial(sampling_params, config=run.decoder, precision=run.precision)
    return jax.eval_shape(prepare, abstract_params(run.decoder))


def _plan(run: PlannedSampler, slice_: Slice, program: CompiledProgram) -> dict[str, Any]:
    copies = slice_.chips // run.tensor
    return {
        "slice": slice_.name,
        "chips": slice_.chips,
        "copies": copies,
        "tensor": run.tensor,
        "rows": run.rows,
        "prompt": run.prompt + run.text,
        "weights": run.precision.weights_dtype(run.decoder),
        "cache": run.precision.cache_dtype or run.decoder.compute_dtype,
        "steps": run.steps,
        "rule": run.rule,
        "hbm_bytes_per_chip": program.peak_bytes,
        "hbm_capacity_bytes": slice_.chip.usable_hbm_bytes,
        "predicted_seconds": program.cost.seconds,
        "predicted_step_seconds": program.cost.open_loops / run.steps,
        "images_per_second": copies * run.rows / program.cost.seconds,
        "compile_seconds": program.seconds,
        "warnings": list(program.cost.warnings),
    }
