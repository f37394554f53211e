"""An exported folder: it is new, it is whole or absent, and it describes what the weights alone do not say."""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
from collections.abc import Iterator
from typing import Any

from cm3leon_jax.model.config import DecoderConfig
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.runtime.files import Path, as_path, new_directory, read_json
from cm3leon_jax.runtime.tensor_stream import NewTensor
from cm3leon_jax.vocabulary import EOS_ID, PAD_ID, UNK_ID, Vocabulary

DESCRIPTION_FILE = "cm3leon.json"
PARAMS_FOLDER = "params"  # of an Orbax checkpoint


@dataclasses.dataclass(frozen=True)
class Opened:
    """A decoder that is not yet read. `kept`: how many ids of a new vocabulary have the rows of ids of an old one."""

    config: DecoderConfig
    vocabulary: Vocabulary
    tensors: dict[str, NewTensor]  # our parameters by their paths
    kept: int | None = None


@contextlib.contextmanager
def exported_folder(directory: Path) -> Iterator[pathlib.Path]:
    """`files.new_directory`, for a folder that holds nothing yet. Raises `UserError` for one that does."""
    path = as_path(directory)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise UserError(f"{directory} holds something already; name a new folder, or remove it first")
    with new_directory(directory) as aside:
        yield aside


def description(config: DecoderConfig, vocabulary: Vocabulary, image_tokenizer: Any = None) -> dict[str, Any]:
    """What `cm3leon.json` says: the settings, for a return; ids, layouts and positions, for use by other software.

    `image_tokenizer`: its config, where it is known.
    """
    image = {}
    if image_tokenizer:
        image = {"image": {"tokens": image_tokenizer.tokens_per_image, "resolution": image_tokenizer.resolution}}
    return {
        "decoder": dataclasses.asdict(config),
        "vocabulary": dataclasses.asdict(vocabulary),
        "ids": {
            "pad": PAD_ID,
            "eos": EOS_ID,
            "unk": UNK_ID,
            "break": vocabulary.break_id,
            "eoss": vocabulary.eoss_id,
            "first_image_code": vocabulary.image_offset,
            "image_codes": vocabulary.image_size,
            "first_sentinel": vocabulary.sentinel_offset,
            "sentinels": vocabulary.num_sentinels,
        },
        **image,
        # A retrieved document stands before the query as `text <break> image <break>`.
        "sequences": {
            "text_to_image": "</s> text <break> image",
            "text_to_image_unconditional": "</s> <sentinel:0> <break> image",
            "image_to_text": "</s> <sentinel:0> <break> image <sentinel:0> text <eoss>",
        },
        # A token's position is its index where both are 0 (`documents.PositionRule`).
        "positions": {"stride": config.position_stride, "query_at": config.query_position},
    }


def read_description(folder: Path) -> tuple[DecoderConfig, Vocabulary]:
    """The decoder's config and vocabulary, as `cm3leon.json` in an exported folder says. Raises `UserError`."""
    where = as_path(folder) / DESCRIPTION_FILE
    values = read_json(where, what="description", make_with="cm3leon export")
    try:
        return DecoderConfig(**values["decoder"]), Vocabulary(**values["vocabulary"])
    except (TypeError, KeyError, ValueError) as error:
        raise UserError(f"{where} is not what `cm3leon export` wrote ({error}); copy it again, or remove it") from None
