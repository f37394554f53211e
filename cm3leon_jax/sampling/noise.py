"""The noise of the draws: Gumbel noise that depends on a row's key and a token's place in the row alone.

The numbers are those of `jax.random.gumbel` for a key of JAX's default generator, written as arithmetic on elements:
a kernel makes the noise of the tokens that it holds, and reads none from memory; XLA fuses it with what it is added to.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

GENERATOR = "threefry2x32"  # of the keys
_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = np.uint32(0x1BD11BDA)
_TINY, _ONE = np.finfo(np.float32).tiny, np.float32(1)


def gumbel(words_Bx2: jax.Array, places: jax.Array) -> jax.Array:
    """Gumbel noise of tokens `places`, int32 [B or 1, V], in rows whose keys are `words`, uint32 [B, 2] -> [B, V]."""
    bits = _threefry(words_Bx2[:, :1], words_Bx2[:, 1:], places.astype(jnp.uint32))
    # 23 bits as a mantissa: [1, 2), shifted to [0, 1); the least is no zero, whose logarithm would be infinite.
    uniform = lax.bitcast_convert_type(bits >> np.uint32(9) | np.uint32(0x3F800000), jnp.float32) - _ONE
    return -jnp.log(-jnp.log(jnp.maximum(_TINY, uniform * (_ONE - _TINY) + _TINY)))


def _threefry(key0: jax.Array, key1: jax.Array, counter: jax.Array) -> jax.Array:
    """32 random bits for each counter: both words of Threefry-2x32 with 20 rounds (Salmon et al. 2011), xored."""
    keys = (key0, key1, key0 ^ key1 ^ _PARITY)
    x, y = keys[0] + jnp.zeros_like(counter), keys[1] + counter
    for turn in range(5):
        for distance in _ROTATIONS[turn % 2]:
            x = x + y
            y = x ^ (y << np.uint32(distance) | y >> np.uint32(32 - distance))
        x, y = x + keys[(turn + 1) % 3], y + keys[(turn + 2) % 3] + np.uint32(turn + 1)
    return x ^ y
