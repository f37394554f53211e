"""What can be exported, and how: each exporter writes a whole new folder and reports what it mapped."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable

from cm3leon_jax.interop.folder import DESCRIPTION_FILE, PARAMS_FOLDER, description, exported_folder
from cm3leon_jax.interop.opt.export import DTYPES, write_opt
from cm3leon_jax.interop.opt.names import places
from cm3leon_jax.interop.stablehlo import PROGRAM_FILE, SamplerShape, write_sampler
from cm3leon_jax.model.config import DecoderConfig, parameter_count
from cm3leon_jax.model.folder import open_decoder
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.runtime.files import Path, write_json
from cm3leon_jax.runtime.tensor_stream import StoredTensor
from cm3leon_jax.sampling.rules import SamplingConfig
from cm3leon_jax.tokenizers import text_hugging_face
from cm3leon_jax.tokenizers.image.published import export as published_images
from cm3leon_jax.tokenizers.image.tokenizer import ImageTokenizer
from cm3leon_jax.tokenizers.text import TextTokenizer
from cm3leon_jax.vocabulary import Vocabulary

IMAGE_TOKENIZER_FOLDER = "image_tokenizer"


@dataclasses.dataclass(frozen=True)
class Parts:
    """A decoder whose parameters stay in their file, and the tokenizers that are to go with it."""

    config: DecoderConfig
    vocabulary: Vocabulary
    stored: dict[str, StoredTensor]
    text_tokenizer: TextTokenizer | None = None
    image_tokenizer: ImageTokenizer | None = None

    @classmethod
    def open(cls, decoder: Path, text_tokenizer: Path = "", image_tokenizer: Path = "") -> Parts:
        """Raises `UserError` where one is missing, or has another number of ids than the decoder knows."""
        config, vocabulary, stored = open_decoder(decoder)
        text = TextTokenizer.load(text_tokenizer) if text_tokenizer else None
        image = ImageTokenizer.load(image_tokenizer) if image_tokenizer else None
        for what, found, due in (
            ("text tokenizer", text.size if text else None, vocabulary.text_size),
            ("image tokenizer", image.num_codes if image else None, vocabulary.image_size),
        ):
            if found is not None and found != due:
                raise UserError(
                    f"the {what} has {found} ids and the decoder knows {due}; name the one that it was trained with"
                )
        return cls(config, vocabulary, stored, text, image)

    def description(self) -> dict:
        return description(self.config, self.vocabulary, self.image_tokenizer.config if self.image_tokenizer else None)


@dataclasses.dataclass(frozen=True)
class Form:
    """How the decoder is written; each exporter reads what concerns it."""

    dtype: str  # of the weights
    shard_bytes: int  # of a file of weights, at most
    sampling: SamplingConfig
    sampler: SamplerShape

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise UserError(f"weights are exported as {' or '.join(DTYPES)}, not as {self.dtype!r}")
        if self.shard_bytes <= 0:
            raise UserError("--shard_gb must be above 0")


def export_hugging_face(parts: Parts, directory: Path, form: Form) -> list[str]:
    """-> lines of a report. Raises `UserError`; then `directory` is as it was."""
    with exported_folder(directory) as folder:
        _describe(parts, folder)  # what can be refused comes first
        if parts.image_tokenizer:
            published_images.export_hugging_face(parts.image_tokenizer, folder / IMAGE_TOKENIZER_FOLDER)
        write_opt(folder, parts.config, parts.stored, dtype=form.dtype, shard_bytes=form.shard_bytes)
        lines = [f"{_summary(parts)} as OPTForCausalLM, {form.dtype}:"]
        mapped: dict[str, list[str]] = {}
        for name, place in places(parts.config).items():
            mapped.setdefault(place.parameter, []).append(name)
        width = max(map(len, mapped))
        for ours, names in mapped.items():
            theirs = names[0].replace(".0.", f".0…{len(names) - 1}.") if len(names) > 1 else names[0]
            lines.append(f"  {ours:{width}} {list(parts.stored[ours].shape)} -> {theirs}")
        if parts.image_tokenizer:
            lines.append(f"  image tokenizer -> {IMAGE_TOKENIZER_FOLDER}/ (ChameleonVQVAE, and the decoder)")
    return [*lines, *_remarks(parts), f"in {directory}"]


def export_orbax(parts: Parts, directory: Path, form: Form) -> list[str]:
    """As `export_hugging_face`; Orbax cuts its files itself."""
    from cm3leon_jax.interop.orbax_params import write_orbax

    with exported_folder(directory) as folder:
        _describe(parts, folder)
        write_orbax(folder, parts.stored, dtype=form.dtype)
    return [
        f"{_summary(parts)} as an Orbax checkpoint, {form.dtype}, in {directory}/{PARAMS_FOLDER}",
        *_remarks(parts),
    ]


def export_stablehlo(parts: Parts, directory: Path, form: Form) -> list[str]:
    """As `export_hugging_face`: the program that draws images, with float32 weights beside it."""
    if parts.image_tokenizer is None:
        raise UserError("a compiled sampler draws images of one size: give the --image_tokenizer")
    if form.dtype != "float32":
        raise UserError("a compiled sampler takes float32 weights; leave out --dtype")
    with exported_folder(directory) as folder:
        _describe(parts, folder)
        write_sampler(
            folder,
            parts.config,
            parts.vocabulary,
            parts.stored,
            image_tokens=parts.image_tokenizer.tokens_per_image,
            sampling=form.sampling,
            shape=form.sampler,
        )
    images, platform, rule = form.sampler.batch, form.sampler.platform, form.sampling.rule
    return [
        f"a program for {platform} that draws {images} images at once by {rule}, in {directory}/{PROGRAM_FILE}",
        *_remarks(parts),
    ]


def _describe(parts: Parts, folder: pathlib.Path) -> None:
    """What goes into a folder of every form."""
    if parts.text_tokenizer:
        text_hugging_face.export_hugging_face(parts.text_tokenizer, parts.vocabulary, folder)
    write_json(folder / DESCRIPTION_FILE, parts.description())


def _remarks(parts: Parts) -> list[str]:
    lines = []
    if parts.text_tokenizer:
        lines.append(f"  text tokenizer, {parts.text_tokenizer.size} pieces -> tokenizer.json (AutoTokenizer)")
    if parts.config.position_stride or parts.config.query_position:
        lines.append(
            "  positions are not counted from 0 in this decoder: give them, by the numbers in "
            f"{DESCRIPTION_FILE} (docs/checkpoints.md)"
        )
    return lines


def _summary(parts: Parts) -> str:
    return f"{parameter_count(parts.config) / 1e6:.1f}M parameters"


EXPORTERS: dict[str, Callable[[Parts, Path, Form], list[str]]] = {
    "huggingface": export_hugging_face,
    "orbax": export_orbax,
    "stablehlo": export_stablehlo,
}
