"""The scores of the decoders of one variant, of all seeds, as the claims read them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from benchmarks.claims.drawing import Drawing
from cm3leon_jax.runtime.files import Path, read_json


@dataclasses.dataclass(frozen=True, eq=False)
class Scores:
    """Of S seeds, N pictures and n samples of each; groups of creatures are those of `pictures.GROUPS`."""

    right: dict[str, np.ndarray]  # group -> creatures that stand where they should, int [S, N, n]
    asked: dict[str, np.ndarray]  # group -> creatures that should, int [N]
    retrieved: dict[str, np.ndarray]  # group -> creatures that any of the retrieved documents names, int [N]
    behind_tokenizer: dict[str, np.ndarray]  # group -> creatures of true pictures known behind the tokenizer, int [N]
    clip: np.ndarray  # cosine of each picture with its caption, float [S, N, n]


Load = Callable[[str, Drawing], Scores]  # of a variant of the decoder and what it drew


def read_scores(drawing: Drawing, directories: Sequence[Path]) -> Scores:
    """What the decoders drew whose results are in `directories`, a seed each."""
    found = [
        read_json(drawing.path(str(directory)), what="scores", make_with="python -m benchmarks.claims")
        for directory in directories
    ]
    return Scores(
        right={group: np.array([one["right"][group] for one in found]) for group in found[0]["right"]},
        asked={group: np.array(counts) for group, counts in found[0]["asked"].items()},
        retrieved={group: np.array(counts) for group, counts in found[0]["retrieved"].items()},
        behind_tokenizer={group: np.array(counts) for group, counts in found[0]["behind_tokenizer"].items()},
        clip=np.array([one["clip"] for one in found]),
    )
