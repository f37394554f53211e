"""A published CLIP's files -> a retriever, or one line that says what is wrong with them."""

from __future__ import annotations

import pathlib

import numpy as np

from cm3leon_jax.retrieval.clip.bpe import MERGES_FILE, VOCABULARY_FILE, BytePairTokenizer
from cm3leon_jax.retrieval.clip.config import ClipConfig
from cm3leon_jax.retrieval.clip.encoders import abstract_params
from cm3leon_jax.retrieval.clip.published.config import read_config
from cm3leon_jax.retrieval.clip.published.names import Naming, Source, recognise
from cm3leon_jax.retrieval.clip.published.tokenizer_file import TOKENIZER_FILE, read_tokenizer_file
from cm3leon_jax.retrieval.clip.retriever import Retriever
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.runtime.files import Path
from cm3leon_jax.runtime.model_folder import flatten, unflatten
from cm3leon_jax.runtime.tensor_files import FILE, INDEX, find_weights, read_tensors

_FILES = (FILE, INDEX, "open_clip_model.safetensors")
_FLOATS = ("float32", "float16", "bfloat16")


def load_published(weights: Path) -> Retriever:
    """The CLIP in a folder of `model.safetensors` (or shards), config and tokenizer files, or in the folder of the file
    that is named. Raises `UserError`."""
    path = find_weights(weights, _FILES)
    tensors = read_tensors(path)
    naming = recognise(tensors)
    file = next((file for file in naming.config_files if (path.parent / file).exists()), None)
    if file is None:
        raise UserError(f"{path.parent} lacks {naming.config_files[0]}; copy it from where the weights were published")
    config = read_config(path.parent, file)
    tokenizer = _load_tokenizer(path.parent)
    if tokenizer.size != config.vocab_size:
        raise UserError(
            f"the text tokenizer in {path.parent} has {tokenizer.size} tokens and the CLIP knows {config.vocab_size}; "
            "take the tokenizer files that were published with the weights"
        )
    return Retriever(config, params_of(tensors, naming, config), tokenizer)


def params_of(tensors: dict[str, np.ndarray], naming: Naming, config: ClipConfig) -> dict:
    """Published tensors -> our nested dict, float32. `UserError` unless they are just those of `config`."""
    sources = naming.sources(config)
    needed = {source.name for group in sources.values() for source in group}
    for wrong, problem in (
        (needed - tensors.keys(), "lack"),
        (tensors.keys() - needed - naming.others, "have, beyond what its config says,"),
    ):
        if wrong:
            raise UserError(
                f"the CLIP's weights {problem} {sorted(wrong)[0]} ({len(wrong)} such tensors); take the weights and "
                "the config of the same model"
            )
    shapes = flatten(abstract_params(config))
    params = {}
    for path, group in sources.items():
        stacked = "/blocks/" in path
        shape = shapes[path].shape[1:] if stacked else shapes[path].shape
        arrays = [_parameter(source, tensors[source.name], shape) for source in group]
        params[path] = np.stack(arrays) if stacked else arrays[0]
    return unflatten(params)


def _parameter(source: Source, tensor: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    if tensor.dtype.name not in _FLOATS:
        raise UserError(
            f"the tensor {source.name} is kept as {tensor.dtype.name}; save the weights as float32, float16 or bfloat16"
        )
    try:
        parameter = source.view(tensor)
    except (ValueError, IndexError):  # too few axes, or not to be divided by three
        parameter = None
    if parameter is None or parameter.shape != shape:
        raise UserError(
            f"the tensor {source.name} of shape {list(tensor.shape)} does not fit the config; take the weights and the "
            "config of the same model"
        )
    return np.asarray(parameter, np.float32)


def _load_tokenizer(folder: pathlib.Path) -> BytePairTokenizer:
    if all((folder / file).exists() for file in (VOCABULARY_FILE, MERGES_FILE)):
        return BytePairTokenizer.load(folder)
    if (folder / TOKENIZER_FILE).exists():
        return read_tokenizer_file(folder / TOKENIZER_FILE)
    raise UserError(
        f"{folder} lacks CLIP's tokenizer: {VOCABULARY_FILE} and {MERGES_FILE}, or {TOKENIZER_FILE}; copy them from "
        "where the weights were published (all of OpenAI's and open_clip's usual CLIPs have the same)"
    )
