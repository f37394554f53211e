"""What other software saved: recognised by its files, and made a model of this package."""

from __future__ import annotations

import dataclasses
import functools
import json
import pathlib
from collections.abc import Callable
from typing import Any

from cm3leon_jax.interop.folder import DESCRIPTION_FILE, PARAMS_FOLDER, Opened
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.runtime.files import Path, local_path
from cm3leon_jax.runtime.model_folder import CONFIG_FILE
from cm3leon_jax.runtime.torch_files import SUFFIXES


@dataclasses.dataclass(frozen=True)
class Found:
    """A model that can be saved in a folder of ours."""

    kind: str  # as people call it
    config: Any  # a dataclass
    save: Callable[[Path], Any]
    made_with: dict[str, str] = dataclasses.field(default_factory=dict)  # what it depends on besides the weights


def recognise(weights: Path, *, resolution: int | None = None, prepared: Path = "", text_tokenizer: Path = "") -> Found:
    """Opens what `weights` names: a folder, or a file in it. Raises `UserError` where it is nothing that we know.

    `resolution`: of an image tokenizer, where no file says it or another is wanted. `prepared`, `text_tokenizer`: whose
    vocabulary a decoder gets that was pretrained with another.
    """
    path = local_path(weights)
    if not path.exists():
        raise UserError(f"there is nothing at {path}; name a folder of weights, or a file in it")
    folder = path if path.is_dir() else path.parent
    whole = path.parent if path.name == PARAMS_FOLDER else path
    if (whole / PARAMS_FOLDER).is_dir() and (whole / DESCRIPTION_FILE).exists():
        return _orbax(whole)
    about = _config(folder)
    if "kind" in about:
        raise UserError(f"{folder} is a {about['kind']} of this package already; name it where one is asked for")
    if about.get("model_type") == "opt":
        if (folder / DESCRIPTION_FILE).exists():
            return _opt(weights)
        return _pretrained_opt(weights, prepared, text_tokenizer)
    return _vqgan(weights, resolution) or _clip(weights)


def _config(folder: pathlib.Path) -> dict[str, Any]:
    """What `config.json` says; nothing where there is none that can be read."""
    try:
        found = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _opt(weights: Path) -> Found:
    from cm3leon_jax.interop.opt.load import open_opt

    return _decoder(open_opt(weights), {})


def _pretrained_opt(weights: Path, prepared: Path, text_tokenizer: Path) -> Found:
    from cm3leon_jax.data.shards import PreparedData
    from cm3leon_jax.interop.opt.load import open_pretrained_opt
    from cm3leon_jax.tokenizers.text import TextTokenizer

    if not prepared or not text_tokenizer:
        raise UserError(
            f"{weights} has no {DESCRIPTION_FILE}, so its ids mean something else: copy that file from the export that "
            "it comes from, or give the --prepared data and the --text_tokenizer that it is to be trained on"
        )
    data, texts = PreparedData(prepared), TextTokenizer.load(text_tokenizer)
    data.check(text=texts.fingerprint)
    opened = open_pretrained_opt(weights, data.vocabulary, texts.pieces(range(texts.size)))
    print(f"{opened.kept} of the {texts.size} text ids have rows in {weights}; the others begin at random")
    return _decoder(opened, {"text_tokenizer": texts.fingerprint, "prepared": data.fingerprint})


def _decoder(opened: Opened, made_with: dict[str, str]) -> Found:
    from cm3leon_jax.model.folder import write_decoder

    save = functools.partial(write_decoder, config=opened.config, vocabulary=opened.vocabulary, tensors=opened.tensors)
    return Found("decoder", opened.config, save, made_with)


def _orbax(folder: Path) -> Found:
    from cm3leon_jax.interop.orbax_params import open_orbax

    return _decoder(open_orbax(folder), {})


def _vqgan(weights: Path, resolution: int | None) -> Found | None:
    from cm3leon_jax.tokenizers.image.published.load import load_published
    from cm3leon_jax.tokenizers.image.published.names import recognises
    from cm3leon_jax.tokenizers.image.published.weights import open_weights

    path = local_path(weights)
    files = [path] if path.is_file() else list(path.iterdir())
    if any(file.name.endswith((".safetensors", ".safetensors.index.json")) for file in files):
        try:
            names = open_weights(path).names
        except UserError:  # what is wrong is said better by what knows the other files of a CLIP
            return None
    elif any(file.suffix in SUFFIXES for file in files):
        names = open_weights(path).names
    else:
        return None
    if not recognises(names):
        return None
    tokenizer = load_published(weights, resolution=resolution)
    return Found("image tokenizer", tokenizer.config, tokenizer.save)


def _clip(weights: Path) -> Found:
    from cm3leon_jax.retrieval.clip.published.load import load_published

    retriever = load_published(weights)
    return Found("retriever", retriever.config, retriever.save)
