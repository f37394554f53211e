"""The picture at the top of the page: test captions, what was retrieved for them, and what was drawn."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.claims.drawing import Drawing, kept_pictures
from benchmarks.claims.page import PICTURE
from benchmarks.claims.pictures import wanted_pictures
from benchmarks.claims.study import Study
from cm3leon_jax.sampling.pictures import write_picture_grid

ROWS = 4  # of each group of creatures


def write_picture(study: Study, docs: pathlib.Path, drawings: Sequence[Drawing], results: str) -> None:
    """`drawings` of one decoder with 0, 1, 2 … documents, whose results are in the folder `results`."""
    from cm3leon_jax.data.sources import open_source

    source: Any = open_source(study.source("bank"))
    wanted = wanted_pictures(source, "test", study.known, study.bank_only)
    kept = kept_pictures(study.known, len(wanted))
    files = [np.load(drawing.path(results).with_suffix(".npz")) for drawing in drawings]
    firsts = [place for place, index in enumerate(kept) if index < ROWS or 0 <= index - study.known < ROWS]
    rows = [
        [wanted[kept[place]].image, files[-1]["documents"][place], *(file["drawn"][place] for file in files)]
        for place in firsts
    ]
    write_picture_grid(
        docs / PICTURE,
        rows,
        captions=[wanted[kept[place]].caption for place in firsts],
        headings=["true", "retrieved", *(f"{drawing.retrieved} documents" for drawing in drawings)],
        cell=96,
    )
