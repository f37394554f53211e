"""Validation loss, over all tokens and by modality; or of every token."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from cm3leon_jax.model.config import DecoderConfig
from cm3leon_jax.model.decoder import Params, logical_axes
from cm3leon_jax.model.partitioning import Partitioning
from cm3leon_jax.runtime.devices import put_batch
from cm3leon_jax.training.step import StepConfig, loss_sums, mean_losses, token_losses
from cm3leon_jax.vocabulary import Vocabulary


def make_evaluate(
    config: DecoderConfig, vocabulary: Vocabulary, partitioning: Partitioning, step_config: StepConfig
) -> Callable[[Params, Mapping[str, Sequence[dict[str, Any]]]], dict[str, float]]:
    """The compiled evaluation: (params, named lists of host batches) -> mean losses in nats.

    For a list named N the metrics are `loss_N`, `loss_text_N` and `loss_image_N`, so lists `retrieved_0` … give
    `loss_text_retrieved_0`. Each process passes its own rows. All batches have one shape.
    """
    sharding = partitioning.sharding("batch")
    sums_of = jax.jit(
        functools.partial(
            loss_sums, config=config, vocabulary=vocabulary, step_config=step_config, partitioning=partitioning
        ),
        in_shardings=(partitioning.tree(logical_axes(config)), sharding),
        out_shardings=partitioning.replicated(),
    )

    def mean_over(params: Params, batches: Iterable[dict[str, Any]]) -> dict[str, float]:
        # Each batch is waited for: on CPU devices, programs with collectives that queue behind each other can hang.
        sums = [jax.device_get(sums_of(params, put_batch(batch, sharding))[1]) for batch in batches]
        total = functools.reduce(functools.partial(jax.tree.map, lambda a, b: a + b), sums)
        return {name: float(value) for name, value in mean_losses(total).items()}

    def evaluate(params: Params, named: Mapping[str, Sequence[dict[str, Any]]]) -> dict[str, float]:
        return {
            f"{metric}_{name}": value
            for name, batches in named.items()
            for metric, value in mean_over(params, batches).items()
        }

    return evaluate


def make_token_losses(
    config: DecoderConfig, params: Params, partitioning: Partitioning, step_config: StepConfig
) -> Callable[[Mapping[str, Any]], np.ndarray]:
    """The compiled function from a host batch [B, L] to the loss of each target, float32 [B, L], in nats. B is a
    multiple of `partitioning.batch_shards`, whose devices are all of this process."""
    sharding, weights = partitioning.sharding("batch"), partitioning.tree(logical_axes(config))
    losses_of = jax.jit(
        lambda params, batch: token_losses(
            params, batch, config=config, step_config=step_config, partitioning=partitioning
        )[1],
        in_shardings=(weights, sharding),
        out_shardings=partitioning.replicated(),
    )
    placed = jax.device_put(params, weights)
    return lambda batch: np.asarray(losses_of(placed, put_batch(batch, sharding)))
