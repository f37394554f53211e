"""Whether the calibrated similarity tells near copies from relatives: one line of JSON.

    python benchmarks/similarity.py --source folder:IMAGES --retriever MODEL [--resolution 64]

Calibrates on images of one half of the captions as `cm3leon prepare` does, and measures on the other half, with edits
that calibration did not use: JPEG of quality 30, resized to 60%, cropped by 8%, one word exchanged, and all at once
(which `copies_struck` does not count). Relatives are images of one caption that are no copies of each other, such as
those of two artists. `shares` are those over other thresholds, as [threshold, copies struck, relatives kept].
"""

from __future__ import annotations

import argparse
import collections
import itertools
import json
import os

import numpy as np

THRESHOLDS = (0.8, 0.85, 0.9, 0.92, 0.94, 0.95, 0.96, 0.97, 0.98, 0.985, 0.99, 0.995)
GOAL = 0.9  # of copies struck, and of relatives kept


def main() -> None:
    os.environ["JAX_PLATFORMS"] = "cpu"
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", required=True, help="with several images of a caption; its split train is read")
    parser.add_argument("--retriever", required=True)
    parser.add_argument("--resolution", type=int, default=64, help="of the squares that images are made first")
    parser.add_argument("--seed", type=int, default=0, help="of the halves")
    arguments = parser.parse_args()

    from cm3leon_jax.data.sources import fit_image, open_source
    from cm3leon_jax.retrieval.clip.retriever import Retriever
    from cm3leon_jax.retrieval.near_copies import compressed, cropped, scaled
    from cm3leon_jax.retrieval.similarity import MOST, calibrate

    retriever = Retriever.load(arguments.retriever)
    split = open_source(arguments.source, validation_share=0, test_share=0).split("train")
    by_caption = collections.defaultdict(list)
    for index in range(len(split)):
        example = split[index]
        by_caption[example.caption].append(fit_image(example.pairs[0][1], arguments.resolution, "crop"))
    captions = sorted(by_caption)
    rng = np.random.default_rng(arguments.seed)
    first, second = np.array_split(rng.permutation(len(captions)), 2)
    known = [(image, captions[number]) for number in first for image in by_caption[captions[number]]]
    known = [known[index] for index in rng.permutation(len(known))[:MOST]]
    similarity = calibrate(retriever, *map(list, zip(*known, strict=True)))

    own = [(image, captions[number]) for number in second for image in by_caption[captions[number]]]
    images, said = map(list, zip(*own, strict=True))
    words = sorted({word for caption in captions for word in caption.split()})
    exchanged = [exchange_word(caption, words, rng) for caption in said]
    edits = {
        "jpeg_30": ([compressed(image, 30) for image in images], said),
        "resized_60": ([scaled(image, 0.6) for image in images], said),
        "cropped_8": ([cropped(image, 0.08) for image in images], said),
        "word_exchanged": (images, exchanged),
        "all": ([compressed(scaled(cropped(image, 0.08), 0.6), 30) for image in images], exchanged),
    }
    documents = documents_of(retriever, images, said)
    scores = {name: np.sum(documents * documents_of(retriever, *edited), axis=1) for name, edited in edits.items()}
    ends = np.cumsum([0, *(len(by_caption[captions[number]]) for number in second)])
    pairs = np.array([
        pair
        for start, stop in itertools.pairwise(ends.tolist())
        for pair in itertools.combinations(range(start, stop), 2)
    ])  # fmt: skip
    of_relatives = np.sum(documents[pairs[:, 0]] * documents[pairs[:, 1]], axis=1)
    single = np.concatenate([scores[name] for name in scores if name != "all"])

    def shares(threshold: float) -> tuple[float, float]:
        return round(float((single > threshold).mean()), 4), round(float((of_relatives <= threshold).mean()), 4)

    struck, kept = shares(similarity.threshold)
    result = {
        "benchmark": "similarity",
        "calibrated_on": similarity.documents,
        "threshold": similarity.threshold,
        "text_threshold": similarity.text_threshold,
        "copies_struck": struck,
        "copies_struck_by_edit": {
            name: round(float((values > similarity.threshold).mean()), 4) for name, values in scores.items()
        },
        "relatives": len(pairs),
        "relatives_kept": kept,
        "goal": GOAL,
        "reached": struck >= GOAL and kept >= GOAL,
        "shares": [[threshold, *shares(threshold)] for threshold in THRESHOLDS],
    }
    print(json.dumps(result))


def documents_of(retriever, images: list[np.ndarray], captions: list[str]) -> np.ndarray:
    return retriever.combine(retriever.embed_texts(captions), retriever.embed_images(images))


def exchange_word(caption: str, words: list[str], rng: np.random.Generator) -> str:
    """The caption with one of its words another one of all captions."""
    parts = caption.split()
    parts[int(rng.random() * len(parts))] = words[int(rng.random() * len(words))]
    return " ".join(parts)


if __name__ == "__main__":
    main()
