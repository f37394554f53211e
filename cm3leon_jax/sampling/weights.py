"""A decoder's parameters as the sampling loop reads them: cast or rounded once, not in every step."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax

from cm3leon_jax.model.cache import CACHE_DTYPES
from cm3leon_jax.model.config import DecoderConfig
from cm3leon_jax.model.decoder import Params, abstract_params, logical_axes
from cm3leon_jax.model.int8 import Int8
from cm3leon_jax.model.partitioning import UNPARTITIONED, Partitioning
from cm3leon_jax.runtime.errors import UserError

WEIGHT_DTYPES = ("float32", "bfloat16", "int8")


@dataclasses.dataclass(frozen=True)
class PrecisionConfig:
    """What weights, and keys and values, are kept in while drawing. Products are in the decoder's compute dtype."""

    weights: str = "auto"  # "float32", "bfloat16", "int8"; "auto": the compute dtype
    cache: str = "auto"  # the same; "auto": the compute dtype, on CPUs float32, which is faster there

    def __post_init__(self) -> None:
        for name, allowed in (("weights", WEIGHT_DTYPES), ("cache", CACHE_DTYPES)):
            if getattr(self, name) not in ("auto", *allowed):
                raise UserError(
                    f"PrecisionConfig.{name} is {getattr(self, name)!r}; choose one of auto, {', '.join(allowed)}"
                )

    @property
    def cache_dtype(self) -> str | None:
        """As `model.cache.init_cache` takes it."""
        return None if self.cache == "auto" else self.cache


AS_COMPUTED = PrecisionConfig()


def sampling_params(
    params: Params,
    *,
    config: DecoderConfig,
    precision: PrecisionConfig = AS_COMPUTED,
    partitioning: Partitioning = UNPARTITIONED,
) -> Params:
    """float32 parameters, on the host or on devices -> those of `loop.start`, the same tree, split over the mesh.

    One parameter after the other, so that no more than one is on the devices in float32. Can be traced by `jax.jit`.
    """
    whole = logical_axes(config)

    def kept(x: Any, names: tuple[str | None, ...], axes: Any, dtype: str) -> Any:
        if partitioning.mesh is not None and not isinstance(x, jax.core.Tracer):
            x = jax.device_put(x, partitioning.sharding(*names))
        return _converted(x, axes, dtype, partitioning)

    return jax.tree.map(kept, params, whole, sampling_axes(config, precision), _dtypes(config, precision))


def sampling_axes(config: DecoderConfig, precision: PrecisionConfig = AS_COMPUTED) -> Params:
    """The logical axes of what `sampling_params` gives, as `decoder.logical_axes` has those of the parameters."""

    def kept(axes: tuple[str | None, ...], dtype: str) -> Any:
        if dtype != "int8":
            return axes
        return Int8(axes, (*axes[:_SUMMED], None, *axes[_SUMMED + 1 :]))

    is_axes = lambda node: isinstance(node, tuple)  # noqa: E731
    return jax.tree.map(kept, logical_axes(config), _dtypes(config, precision), is_leaf=is_axes)


# The axis along which numbers have one scale: inputs of a matrix [layers, inputs, outputs], features of a table.
_SUMMED = 1


def _dtypes(config: DecoderConfig, precision: PrecisionConfig) -> Params:
    """What each parameter is kept in. Positions are few."""
    dtype = config.compute_dtype if precision.weights == "auto" else precision.weights
    dtypes = jax.tree.map(lambda _: dtype, abstract_params(config))
    dtypes["embedding"]["positions"] = config.compute_dtype
    return dtypes


@functools.partial(jax.jit, static_argnums=(1, 2, 3))
def _converted(x: jax.Array, axes: Any, dtype: str, partitioning: Partitioning) -> Any:
    if dtype != "int8":
        return partitioning.constrain(x.astype(dtype), *axes)
    rounded = Int8.of(x, _SUMMED)
    return Int8(partitioning.constrain(rounded.data, *axes.data), partitioning.constrain(rounded.scales, *axes.scales))
