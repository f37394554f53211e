"""Between the parts and the search: the thresholds of the selection, calibrated on documents of the split "train"."""

from __future__ import annotations

import dataclasses

import numpy as np

from cm3leon_jax.data.prepare.job import Job
from cm3leon_jax.data.prepare.parts import part_sizes, read_quarantined
from cm3leon_jax.data.shards import BANK_SPLIT
from cm3leon_jax.data.sources import BadExample, fit_image
from cm3leon_jax.retrieval.similarity import FEWEST, MOST, Similarity, calibrate
from cm3leon_jax.runtime.files import read_json, write_json

SIMILARITY_FILE = "similarity.json"
_SHARDS = 32  # of the source that documents are taken from


def calibrate_similarity(job: Job) -> Similarity:
    """Measures what the settings leave open, unless it was done, and says it in a line."""
    if not job.path(SIMILARITY_FILE).exists():
        found = _measured(job)
        write_json(job.path(SIMILARITY_FILE), dataclasses.asdict(found))
    return similarity_of(job)


def _measured(job: Job) -> Similarity:
    selection = job.settings.selection
    is_open = {name: getattr(selection, name) is None for name in ("threshold", "text_threshold")}
    if not any(is_open.values()):
        return Similarity(None, None)
    images, captions = _sample(job)
    found = calibrate(job.models.retriever, images, captions, job.settings.prepare.seed)
    if not is_open["threshold"]:
        found = dataclasses.replace(found, threshold=None)
    if not is_open["text_threshold"]:
        found = dataclasses.replace(found, text_threshold=None)
    if not found.documents:
        said = f"{len(images)} documents are too few to calibrate on ({FEWEST} needed): " + " and ".join(
            f"SelectionConfig.{name} stays open" for name, needed in is_open.items() if needed
        )
    else:
        numbers = {"documents": found.threshold, "a caption and its document": found.text_threshold}
        known = ", ".join(f"{value:.3f} between {what}" for what, value in numbers.items() if value is not None)
        said = f"95% of near copies of {found.documents:,} documents exceed {known}"
    print(f"similarity: {said}", flush=True)
    return found


def similarity_of(job: Job) -> Similarity:
    return Similarity(**read_json(job.path(SIMILARITY_FILE), what="similarity", make_with="cm3leon prepare"))


def _sample(job: Job) -> tuple[list[np.ndarray], list[str]]:
    """Images and captions of at most `MOST` documents, evenly from at most `_SHARDS` shards of the source."""
    sizes = {  # with the examples that cannot be used
        number: part_sizes(job, number).get(BANK_SPLIT, 0) + len(read_quarantined(job, number).get(BANK_SPLIT, ()))
        for number in range(len(job.shards))
    }
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
