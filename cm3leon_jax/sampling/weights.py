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
from cm3leon_jax.runtime.compute_dtype import Use
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

    def weights_dtype(self, config: DecoderConfig) -> str:
        """Of that decoder's weights."""
        return config.compute_dtype if self.weights == "auto" else self.weights

    @property
    def cache_dtype(self) -> str | None:
        """As `model.cache.init_cache` takes it."""
        return None if self.cache == "auto" else self.cache


AS_COMPUTED = PrecisionConfig()


def sampling_config(config: DecoderConfig, platform: str) -> DecoderConfig:
    """The decoder as it is sampled from on a platform: its layers one by one, and a definite compute dtype.

    A loop over stacked layers would copy the weights and the cache of each layer out of the stack in every step, which
    takes about as long as the step itself."""
    return dataclasses.replace(config.computing_in(Use.SAMPLING, platform), stack="unroll")


def sampling_params(
    params: Params,
    *,
    config: DecoderConfig,
    precision: PrecisionConfig = AS_COMPUTED,
    partitioning: Partitioning = UNPARTITIONED,
) -> Params:
    """float32 parameters, on the host or on devices -> those of `loop.start`, split over the mesh: the same tree, but
    where layers are unrolled a list of them.

    One parameter after the other, so that no more than one is on the devices in float32. Can be traced by `jax.jit`.
    """

    def kept(x: Any, names: tuple[str | None, ...], dtype: str, layers: int | None) -> Any:
        if partitioning.mesh is not None and not isinstance(x, jax.core.Tracer):
            x = jax.device_put(x, partitioning.sharding(*names))
        return _converted(x, names, dtype, layers, partitioning)

    whole, dtypes = logical_axes(config), _dtypes(config, precision)
    found = {}
    for part in params:
        layers = _unrolled(config, part)
        converted = jax.tree.map(functools.partial(kept, layers=layers), params[part], whole[part], dtypes[part])
        found[part] = converted if layers is None else _by_layer(params[part], converted, layers)
    return found


def sampling_axes(config: DecoderConfig, precision: PrecisionConfig = AS_COMPUTED) -> Params:
    """The logical axes of what `sampling_params` gives, as `decoder.logical_axes` has those of the parameters."""
    whole, dtypes = logical_axes(config), _dtypes(config, precision)
    is_axes = lambda node: isinstance(node, tuple)  # noqa: E731
    axes = jax.tree.map(_kept_axes, whole, dtypes, is_leaf=is_axes)
    layers = _unrolled(config, "layers")
    if layers is not None:
        is_kept = lambda node: isinstance(node, tuple | Int8)  # noqa: E731
        axes["layers"] = [jax.tree.map(_without_first, axes["layers"], is_leaf=is_kept) for _ in range(layers)]
    return axes


# The axis along which numbers have one scale: inputs of a matrix [layers, inputs, outputs], features of a table.
_SUMMED = 1


def _unrolled(config: DecoderConfig, part: str) -> int | None:
    """How many layers the parameters `part` are taken apart into; None: they stay together."""
    return config.num_layers if part == "layers" and config.stack == "unroll" else None


def _by_layer(like: Params, converted: Params, layers: int) -> list[Params]:
    """A tree of lists -> a list of trees."""
    return [jax.tree.map(lambda _, leaf, layer=layer: leaf[layer], like, converted) for layer in range(layers)]


def _dtypes(config: DecoderConfig, precision: PrecisionConfig) -> Params:
    """What each parameter is kept in. Positions are few."""
    dtype = precision.weights_dtype(config)
    dtypes = jax.tree.map(lambda _: dtype, abstract_params(config))
    dtypes["embedding"]["positions"] = config.compute_dtype
    return dtypes


def _kept_axes(axes: tuple[str | None, ...], dtype: str) -> Any:
    return Int8(axes, (*axes[:_SUMMED], None, *axes[_SUMMED + 1 :])) if dtype == "int8" else axes


def _without_first(axes: Any) -> Any:
    return Int8(axes.data[1:], axes.scales[1:]) if isinstance(axes, Int8) else axes[1:]


@functools.partial(jax.jit, static_argnums=(1, 2, 3, 4))
def _converted(
    x: jax.Array, names: tuple[str | None, ...], dtype: str, layers: int | None, partitioning: Partitioning
) -> Any:
    """x as `dtype`, or a list of that for each of so many layers."""
    axes = _kept_axes(names, dtype)
    kept = Int8.of(x, _SUMMED) if dtype == "int8" else x.astype(dtype)
    if layers is None:
        return _constrained(kept, axes, partitioning)
    return [_constrained(kept[layer], _without_first(axes), partitioning) for layer in range(layers)]


def _constrained(kept: Any, axes: Any, partitioning: Partitioning) -> Any:
    if isinstance(kept, Int8):
        return Int8(partitioning.constrain(kept.data, *axes.data), partitioning.constrain(kept.scales, *axes.scales))
    return partitioning.constrain(kept, *axes)
