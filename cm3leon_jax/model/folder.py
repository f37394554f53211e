"""A decoder as a folder of its own (`runtime.model_folder`): what sampling needs, without checkpoints or TensorFlow."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from cm3leon_jax.model.config import DecoderConfig
from cm3leon_jax.model.decoder import Params, abstract_params
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.runtime.files import Path, as_path, fingerprint, new_directory, write_json
from cm3leon_jax.runtime.model_folder import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    flatten,
    load_config,
    load_model,
    save_model,
    unflatten,
)
from cm3leon_jax.runtime.tensor_stream import NewTensor, StoredTensor, stored_tensors, write_tensors
from cm3leon_jax.vocabulary import Vocabulary

KIND = "decoder"
_MAKE_WITH = "cm3leon train"


@dataclasses.dataclass(frozen=True)
class _Settings:
    decoder: dict
    vocabulary: dict


def save_decoder(directory: Path, config: DecoderConfig, vocabulary: Vocabulary, params: Params) -> None:
    """Writes a model folder, whole or not at all. Every process calls it; process 0 writes."""
    params = jax.tree.map(whole, params)
    if jax.process_index() == 0:
        save_model(directory, kind=KIND, config=_settings(config, vocabulary), params=params)


def whole(x: Any) -> Any:
    """A numpy array of all of x, wherever its pieces lie. Every process calls it."""
    if isinstance(x, jax.Array) and not x.is_fully_addressable:
        return multihost_utils.process_allgather(x, tiled=True)
    return jax.device_get(x)


def write_decoder(
    directory: Path, config: DecoderConfig, vocabulary: Vocabulary, tensors: Mapping[str, NewTensor]
) -> None:
    """Writes a model folder, whole or not at all, of parameters that need not be in memory: path -> tensor."""
    with new_directory(directory) as aside:
        write_json(aside / CONFIG_FILE, {"kind": KIND, **dataclasses.asdict(_settings(config, vocabulary))})
        write_tensors(aside / WEIGHTS_FILE, tensors)


def load_decoder(directory: Path) -> tuple[DecoderConfig, Vocabulary, Params]:
    """-> (config, vocabulary, parameters as numpy arrays). `UserError` where the folder is missing or broken."""
    settings, params = load_model(directory, kind=KIND, config_type=_Settings, make_with=_MAKE_WITH)
    config, vocabulary = _checked(settings, {name: leaf.shape for name, leaf in flatten(params).items()}, directory)
    return config, vocabulary, params


def open_decoder(directory: Path) -> tuple[DecoderConfig, Vocabulary, dict[str, StoredTensor]]:
    """`load_decoder` without reading the parameters: path -> tensor in the file."""
    settings = load_config(directory, kind=KIND, config_type=_Settings, make_with=_MAKE_WITH)
    tensors = stored_tensors(as_path(directory) / WEIGHTS_FILE)
    config, vocabulary = _checked(settings, {name: tensor.shape for name, tensor in tensors.items()}, directory)
    return config, vocabulary, tensors


def _settings(config: DecoderConfig, vocabulary: Vocabulary) -> _Settings:
    return _Settings(dataclasses.asdict(config), dataclasses.asdict(vocabulary))


def _checked(settings: _Settings, found: dict[str, tuple], directory: Path) -> tuple[DecoderConfig, Vocabulary]:
    try:
        config, vocabulary = DecoderConfig(**settings.decoder), Vocabulary(**settings.vocabulary)
    except TypeError as error:
        raise UserError(f"the config in {directory} is of another version ({error}); `{_MAKE_WITH}` again") from None
    expected = {name: leaf.shape for name, leaf in flatten(abstract_params(config)).items()}
    for name in sorted(expected | found):
        ours, theirs = expected.get(name), found.get(name)
        if ours != theirs:
            raise UserError(
                f"the weights in {directory} do not fit its config: {name} is {_shape(theirs)}, and by the config "
                f"{_shape(ours)}; make them again with `{_MAKE_WITH}`"
            )
    return config, vocabulary


def _shape(shape: tuple | None) -> str:
    return "missing" if shape is None else str(list(shape))


def placed_params(tensors: Mapping[str, StoredTensor], shardings: Params) -> Params:
    """Parameters read from their file onto a mesh: float32. Each process reads what its devices hold, one device's part
    of one parameter at a time. `jax.device_put` of a host array onto several processes would gather it whole, once for
    each process, on each device."""
    flat = {name: _placed(tensors[name], sharding) for name, sharding in flatten(shardings).items()}
    return unflatten(flat)


def _placed(tensor: StoredTensor, sharding: jax.sharding.Sharding) -> jax.Array:
    devices = sharding.addressable_devices_indices_map(tensor.shape)
    to_come = Counter(map(str, devices.values()))  # devices may hold the same part, which is then read once
    held: dict[str, np.ndarray] = {}
    parts = []
    for device, index in devices.items():
        assert index is not None  # the device is this process's
        part = held.pop(str(index)) if str(index) in held else tensor.read(index).astype(np.float32, copy=False)
        to_come[str(index)] -= 1
        if to_come[str(index)]:
            held[str(index)] = part
        parts.append(jax.device_put(part, device).block_until_ready())
        del part
    return jax.make_array_from_single_device_arrays(tensor.shape, sharding, parts)


def fingerprint_of_params(tensors: Mapping[str, StoredTensor]) -> str:
    """Tells weights apart by three numbers of each parameter: reading all of them takes minutes."""
    found = []
    for name, tensor in sorted(tensors.items()):
        ends = [
            tuple(slice(at, at + 1) for at in corner)
            for corner in ([0] * len(tensor.shape), [n // 2 for n in tensor.shape], [n - 1 for n in tensor.shape])
        ]
        found.append([name, list(tensor.shape), [tensor.read(index).astype(np.float64).item() for index in ends]])
    return fingerprint(found)


def open_initial_params(directory: Path, config: DecoderConfig, vocabulary: Vocabulary) -> dict[str, StoredTensor]:
    """The parameters of a saved decoder, to start training another of `config` from. UserError: of another size."""
    saved_config, saved_vocabulary, tensors = open_decoder(directory)
    if saved_vocabulary != vocabulary:
        differ = [
            f"{field.name} = {getattr(saved_vocabulary, field.name)}, the data has {getattr(vocabulary, field.name)}"
            for field in dataclasses.fields(vocabulary)
            if getattr(saved_vocabulary, field.name) != getattr(vocabulary, field.name)
        ]
        raise UserError(
            f"the decoder in {directory} was trained with another vocabulary ({'; '.join(differ)}); prepare the data "
            "with its own tokenizers and settings (PrepareConfig.num_sentinels, num_others, vocabulary_multiple_of)"
        )
    for name in ("num_layers", "d_model", "num_heads", "max_length", "vocab_size", "activation", "qk_norm"):
        saved, wanted = getattr(saved_config, name), getattr(config, name)
        if saved != wanted:
            raise UserError(
                f"the decoder in {directory} has {name} = {saved!r}, this run {wanted!r}; name the gin file of its size"
            )
    return tensors
