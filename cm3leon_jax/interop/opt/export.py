"""A decoder's folder -> a folder that `transformers.OPTForCausalLM.from_pretrained` opens; tensor by tensor."""

from __future__ import annotations

import functools
import pathlib
from collections.abc import Iterator

import ml_dtypes
import numpy as np

from cm3leon_jax.interop.opt.config import opt_config
from cm3leon_jax.interop.opt.names import POSITIONS, ROWS_BEFORE_POSITIONS, Place, opt_shapes, places
from cm3leon_jax.model.config import DecoderConfig
from cm3leon_jax.runtime.files import write_json
from cm3leon_jax.runtime.tensor_files import FILE, INDEX
from cm3leon_jax.runtime.tensor_stream import NewTensor, StoredTensor, write_sharded
from cm3leon_jax.vocabulary import EOS_ID, PAD_ID

DTYPES = {"float32": np.dtype(np.float32), "bfloat16": np.dtype(ml_dtypes.bfloat16)}


def write_opt(
    folder: pathlib.Path,
    config: DecoderConfig,
    stored: dict[str, StoredTensor],
    *,
    dtype: str,
    shard_bytes: int,
) -> None:
    """Writes `config.json`, `generation_config.json` and the weights into an existing folder. Of the weights, one
    matrix of one layer at a time is in memory. Raises `UserError` where OPT is another function than this decoder."""
    write_json(folder / "config.json", opt_config(config, dtype))
    tokens = {"pad_token_id": PAD_ID, "bos_token_id": EOS_ID, "eos_token_id": EOS_ID}
    write_json(folder / "generation_config.json", tokens)
    shapes = opt_shapes(config)
    tensors = {
        name: NewTensor(shapes[name], DTYPES[dtype], functools.partial(_pieces, place, stored[place.parameter]))
        for name, place in places(config).items()
    }
    write_sharded(folder, tensors, file=FILE, index=INDEX, shard_bytes=shard_bytes, metadata={"format": "pt"})


def _pieces(place: Place, stored: StoredTensor) -> Iterator[np.ndarray]:
    if place.layer is not None:
        yield stored.rows(place.layer, place.layer + 1)[0].T
        return
    if place.parameter == POSITIONS:
        yield np.zeros((ROWS_BEFORE_POSITIONS, *stored.shape[1:]), stored.dtype)
    yield from stored.chunks()
