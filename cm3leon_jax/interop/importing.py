"""What other software saved: recognised by its files, and made a model of this package."""

from __future__ import annotations

import dataclasses
import functools
import json
import pathlib
from collections.abc import Callable
from typing import Any

from cm3leon_jax.interop.folder import DESCRIPTION_FILE
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.runtime.files import Path, as_path


@dataclasses.dataclass(frozen=True)
class Found:
    """A model that can be saved in a folder of ours."""

    kind: str  # as people call it
    config: Any  # a dataclass
    save: Callable[[Path], Any]


def recognise(weights: Path, *, resolution: int | None = None) -> Found:
    """Opens what `weights` names: a folder, or a file in it. Raises `UserError` where it is nothing that we know.

    `resolution`: of an image tokenizer, where no file says it or another is wanted.
    """
    path = as_path(weights)
    folder = path if path.is_dir() else path.parent
    if (folder / "params").is_dir() and (folder / DESCRIPTION_FILE).exists():
        return _orbax(folder)
    if _model_type(folder) == "opt":
        return _opt(weights)
    return _vqgan(weights, resolution) or _clip(weights)


def _model_type(folder: pathlib.Path) -> Any:
    """What Hugging Face's `config.json` says; None where there is none that can be read."""
    try:
        return json.loads((folder / "config.json").read_text(encoding="utf-8"))["model_type"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _opt(weights: Path) -> Found:
    from cm3leon_jax.interop.opt.load import open_opt
    from cm3leon_jax.model.folder import write_decoder

    config, vocabulary, tensors = open_opt(weights)
    save = functools.partial(write_decoder, config=config, vocabulary=vocabulary, tensors=tensors)
    return Found("decoder", config, save)


def _orbax(folder: Path) -> Found:
    import jax

    from cm3leon_jax.interop.orbax_params import read_orbax
    from cm3leon_jax.model.folder import save_decoder

    config, vocabulary, params = read_orbax(folder)
    params = jax.tree.map(lambda x: x.astype("float32"), params)
    return Found(
        "decoder", config, functools.partial(save_decoder, config=config, vocabulary=vocabulary, params=params)
    )


def _vqgan(weights: Path, resolution: int | None) -> Found | None:
    from cm3leon_jax.tokenizers.image.published.load import load_published
    from cm3leon_jax.tokenizers.image.published.names import recognises
    from cm3leon_jax.tokenizers.image.published.weights import open_weights

    try:
        names = open_weights(weights).names
    except UserError:  # what is wrong is said better by what knows the other files of a CLIP
        if as_path(weights).suffix != ".ckpt":
            return None
        raise
    if not recognises(names):
        return None
    tokenizer = load_published(weights, resolution=resolution)
    return Found("image tokenizer", tokenizer.config, tokenizer.save)


def _clip(weights: Path) -> Found:
    from cm3leon_jax.retrieval.clip.published.load import load_published

    retriever = load_published(weights)
    return Found("retriever", retriever.config, retriever.save)
