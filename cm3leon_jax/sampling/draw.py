"""Drawing tokens by a rule: one interface, and the implementation that suits the platform."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

from cm3leon_jax.model.partitioning import UNPARTITIONED, Partitioning
from cm3leon_jax.sampling import rule_kernel, rules


def draw_tokens(
    rule: str,
    logits_SxBxV: jax.Array,
    keys_B: jax.Array,
    settings: dict,
    partitioning: Partitioning = UNPARTITIONED,
    *,
    implementation: str = "auto",
    interpret: bool = False,
) -> tuple[jax.Array, jax.Array]:
    """Draws a token of each row by `rule` -> its index, int32 [B], and its log-probability in stream 0, float32 [B].

    logits float32 [S, B, V]: the stream with the text first, that without it last; the log-probability is that at
    temperature 1. Settings are numbers for all rows, or float32 [B, 1]. `implementation`: "kernel", for TPUs
    (`interpret` runs it anywhere, slowly), "xla", or "auto", which takes the kernel on TPUs where it has room. A row's
    token depends on its key and its logits alone. Both draw the same tokens, but where rounding decides.
    """
    streams, rows, vocabulary = logits_SxBxV.shape
    if implementation == "auto":
        kernel = partitioning.platform == "tpu" and rule_kernel.fits(streams, vocabulary)
        implementation = "kernel" if kernel else "xla"
    if implementation == "xla":
        return _by_xla(rule, logits_SxBxV, keys_B, settings)
    draw = functools.partial(rule_kernel.draw_by_kernel, rule, interpret=interpret)
    if partitioning.mesh is not None:
        # Each device its own rows. Where the vocabulary is split, its logits are gathered: without the constraint, the
        # weights of the output projection would be, which are more.
        logits_SxBxV = partitioning.constrain(logits_SxBxV, None, "batch", "vocab")
        row = partitioning.rules.spec(("batch",))
        draw = jax.shard_map(
            draw,
            mesh=partitioning.mesh,
            in_specs=(partitioning.rules.spec((None, "batch", None)), row, row),
            out_specs=(row, row),
            check_vma=False,  # the kernel does not say how its outputs vary
        )
    with jax.named_scope(f"rule_{rule}"):
        return draw(logits_SxBxV, jax.random.key_data(keys_B), rule_kernel.numbers(settings, rows))


def _by_xla(rule: str, logits_SxBxV: jax.Array, keys_B: jax.Array, settings: dict) -> tuple[jax.Array, jax.Array]:
    index_B = rules.draw(keys_B, rules.scores(rule, tuple(logits_SxBxV), settings))
    return index_B, jnp.take_along_axis(jax.nn.log_softmax(logits_SxBxV[0]), index_B[:, None], axis=1)[:, 0]
