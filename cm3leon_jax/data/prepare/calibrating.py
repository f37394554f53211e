"""Between the parts and the search: the thresholds of the selection, calibrated on documents of the split "train"."""

from __future__ import annotations

import dataclasses

import numpy as np

from cm3leon_jax.data.prepare.job import Job
from cm3leon_jax.data.prepare.parts import part_sizes
from cm3leon_jax.data.shards import BANK_SPLIT
from cm3leon_jax.data.sources import BadExample, fit_image
from cm3leon_jax.retrieval.similarity import FEWEST, MOST, Similarity, calibrate
from cm3leon_jax.runtime.files import read_json, write_json

SIMILARITY_FILE = "similarity.json"
_SHARDS = 32  # of the source that documents are taken from


def calibrate_similarity(job: Job) -> Similarity:
    """Measures what the settings leave open, unless it was done, and says it in a line."""
    selection = job.settings.selection
    if selection.threshold is not None and selection.text_threshold is not None:
        write_json(job.path(SIMILARITY_FILE), dataclasses.asdict(Similarity(None, None)))
    elif not job.path(SIMILARITY_FILE).exists():
        images, captions = _sample(job)
        found = calibrate(job.models.retriever, images, captions, job.settings.prepare.seed)
        if found.documents:
            said = f"{found.threshold:.3f} is what 95% of near copies of {found.documents:,} documents exceed"
        else:
            said = f"{len(images)} documents are too few to calibrate on ({FEWEST} needed); searches pass over nothing "
            said += "but copies with the same embedding"
        print(f"similarity: {said}", flush=True)
        write_json(job.path(SIMILARITY_FILE), dataclasses.asdict(found))
    return similarity_of(job)


def similarity_of(job: Job) -> Similarity:
    return Similarity(**read_json(job.path(SIMILARITY_FILE), what="similarity", make_with="cm3leon prepare"))


def _sample(job: Job) -> tuple[list[np.ndarray], list[str]]:
    """Images and captions of at most `MOST` documents, evenly from at most `_SHARDS` shards of the source."""
    sizes = {number: part_sizes(job, number).get(BANK_SPLIT, 0) for number in range(len(job.shards))}
    filled = [number for number, size in sizes.items() if size]
    chosen = (
        [filled[place] for place in np.unique(np.linspace(0, len(filled) - 1, _SHARDS).astype(int))] if filled else []
    )
    resolution, fit = job.models.image.resolution, job.settings.prepare.fit
    images: list[np.ndarray] = []
    captions: list[str] = []
    for turn, number in enumerate(chosen):
        wanted = (MOST - len(images)) // (len(chosen) - turn)
        places = set(np.unique(np.linspace(0, sizes[number] - 1, min(wanted, sizes[number])).astype(int)).tolist())
        place = -1
        for split, read in job.shards[number].examples():
            if split != BANK_SPLIT:
                continue
            place += 1
            if place not in places:
                continue
            try:
                example = read()
            except BadExample:
                continue
            (text, image), *others = example.pairs
            if text and image.size and not others:
                images.append(fit_image(image, resolution, fit))
                captions.append(text)
    return images, captions
