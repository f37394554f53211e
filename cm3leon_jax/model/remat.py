"""What the backward pass finds saved, and what it computes again: policies by name (`DecoderConfig.remat`).

Inside a layer the results worth saving have names. A token of a layer takes, in units of d_model values: layer_input 1
(always saved: the loop hands it on), query, key, value 1 each, attention 1 and a float32 a head, residual 1, up 4.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
from jax.ad_checkpoint import checkpoint_name

# From the least memory to the most.
SAVED = {
    "full": (),
    "attention": ("attention",),  # the attention kernel is not run a second time
    "projections": ("query", "key", "value", "attention", "residual"),  # of the products, only `up` is run again
    "dots": ("query", "key", "value", "attention", "up"),  # only the output projection is run again
}
# What a token of a layer takes, in those units of bfloat16, at least; from the most memory to the least.
KEPT = {"none": 14, "dots": 9, "projections": 6, "attention": 2, "full": 1}
OFFLOADED = {"offload": ("layer_input", "attention")}  # to the host's memory, and back when they are due
POLICIES = ("none", *SAVED, *OFFLOADED)


def named(x: jax.Array, name: str) -> jax.Array:
    """Names a result inside a layer for the policies."""
    return checkpoint_name(x, name)


def rematerialized(function: Callable, policy: str) -> Callable:
    """`function`, whose backward pass computes again what `policy` does not save."""
    if policy == "none":
        return function
    if policy in OFFLOADED:
        return jax.checkpoint(
            function,
            policy=jax.checkpoint_policies.save_and_offload_only_these_names(
                names_which_can_be_saved=[],
                names_which_can_be_offloaded=list(OFFLOADED[policy]),
                offload_src="device",
                offload_dst="pinned_host",
            ),
        )
    return jax.checkpoint(function, policy=jax.checkpoint_policies.save_only_these_names(*SAVED[policy]))
