"""A folder that Hugging Face's OPT was saved in -> a decoder's folder; tensor by tensor."""

from __future__ import annotations

import dataclasses
import functools
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from cm3leon_jax.interop.folder import DESCRIPTION_FILE, Opened, read_description
from cm3leon_jax.interop.opt.config import decoder_config
from cm3leon_jax.interop.opt.names import POSITIONS, ROWS_BEFORE_POSITIONS, TIED, TOKENS, opt_shapes, places
from cm3leon_jax.interop.opt.vocabulary import extended_rows, same_rows, their_tokens
from cm3leon_jax.model.config import DecoderConfig
from cm3leon_jax.model.decoder import abstract_params
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.runtime.files import Path, read_json
from cm3leon_jax.runtime.model_folder import CONFIG_FILE, flatten
from cm3leon_jax.runtime.tensor_files import find_weights
from cm3leon_jax.runtime.tensor_stream import NewTensor, StoredTensor, stored_tensors
from cm3leon_jax.vocabulary import Vocabulary

_FLOATS = ("float32", "float16", "bfloat16")


def open_opt(weights: Path) -> Opened:
    """An OPT that `cm3leon export` wrote, or that was trained further from there. Raises `UserError`."""
    path = find_weights(weights)
    described, vocabulary = read_description(path.parent)
    where, file = path.parent / DESCRIPTION_FILE, path.parent / CONFIG_FILE
    config = decoder_config(_settings(path), str(file), described)
    if config.vocab_size != vocabulary.size:
        raise UserError(
            f"{file} has {config.vocab_size} ids, and {where} describes {vocabulary.size}; take both of one"
        )
    return Opened(config, vocabulary, _parameters(config, _checked(stored_tensors(path), config, path)))


def open_pretrained_opt(weights: Path, vocabulary: Vocabulary, pieces: Sequence[str]) -> Opened:
    """An OPT that was pretrained on text with its own tokenizer, such as Galactica, as a decoder of `vocabulary`, whose
    text ids are `pieces`: see `vocabulary.py`. Raises `UserError`."""
    path = find_weights(weights)
    settings = _settings(path)
    theirs = decoder_config(settings, str(path.parent / CONFIG_FILE))
    tensors = _checked(stored_tensors(path), theirs, path)
    table = next(name for name, place in places(theirs).items() if place.parameter == TOKENS)
    same = same_rows(pieces, their_tokens(path.parent), settings)
    if outside := [row for row in same.values() if not 0 <= row < theirs.vocab_size]:
        raise UserError(f"{path.parent}: the tokenizer has id {outside[0]} and the weights {theirs.vocab_size} rows")
    config = dataclasses.replace(theirs, vocab_size=vocabulary.size)
    rows = functools.partial(extended_rows, tensors[table], same, vocabulary)
    found = _parameters(theirs, tensors)
    found[TOKENS] = NewTensor((vocabulary.size, config.d_model), np.dtype(np.float32), rows)
    return Opened(config, vocabulary, found, len(same))


def _settings(path: pathlib.Path) -> Any:
    return read_json(path.parent / CONFIG_FILE, what="config", make_with="save_pretrained")


def _checked(tensors: dict[str, StoredTensor], config: DecoderConfig, path: pathlib.Path) -> dict[str, StoredTensor]:
    """The tensors by the names that `save_pretrained` of the whole model gives them. Raises `UserError`."""
    if not any(name.startswith("model.") for name in tensors):
        tensors = {f"model.{name}": tensor for name, tensor in tensors.items()}  # of `OPTModel` alone
    if config.num_layers > len(tensors):  # before there is a name for each layer that a config claims
        raise UserError(f"{path} has {len(tensors)} tensors, too few for {config.num_layers} layers; take both of one")
    shapes = opt_shapes(config)
    for name in sorted(shapes | tensors):
        if name not in tensors:
            raise UserError(f"{path} lacks the tensor {name}; copy all files of the model")
        if name == TIED:
            continue
        if name not in shapes:
            raise UserError(f"{path} has the tensor {name}, which the decoder of its config has not; take both of one")
        tensor = tensors[name]
        if tensor.shape != shapes[name]:
            raise UserError(
                f"{path}: {name} is {list(tensor.shape)} and by the config {list(shapes[name])}; take both of one model"
            )
        if tensor.dtype.name not in _FLOATS:
            raise UserError(f"{path} keeps {name} as {tensor.dtype.name}; save it as {', '.join(_FLOATS)}")
    return tensors


def _parameters(config: DecoderConfig, tensors: dict[str, StoredTensor]) -> dict[str, NewTensor]:
    """Our parameters by their paths, float32, from OPT's tensors by their names."""
    parts: dict[str, list[StoredTensor]] = {}
    for name, place in places(config).items():
        parts.setdefault(place.parameter, []).append(tensors[name])
    shapes = flatten(abstract_params(config))
    return {
        path: NewTensor(shapes[path].shape, np.dtype(np.float32), functools.partial(_pieces, path, parts[path]))
        for path in shapes
    }


def _pieces(path: str, parts: list[StoredTensor]) -> Iterator[np.ndarray]:
    if not path.startswith("layers/"):
        skipped = ROWS_BEFORE_POSITIONS if path == POSITIONS else 0
        for chunk in parts[0].chunks():
            yield chunk[skipped:]
            skipped = max(0, skipped - len(chunk))
        return
    for layer in parts:
        yield layer.all().T.astype(np.float32)
