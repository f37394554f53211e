"""The suite `retrieval`: how well the retriever finds held-out pairs, and the memory bank what is nearest."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence

import numpy as np

from cm3leon_jax.evaluation.metrics.retrieval import rank_metrics, similarity_ranks
from cm3leon_jax.evaluation.metrics.score import Score, mean_score
from cm3leon_jax.evaluation.suites.data import UNREADABLE, DataSet, Described, Readable, by_picture, drawn
from cm3leon_jax.evaluation.suites.result import Count, Figure, Shown, SuiteResult, figures_of
from cm3leon_jax.evaluation.suites.work import Work
from cm3leon_jax.retrieval.clip.retriever import Retriever
from cm3leon_jax.retrieval.memory_bank import MemoryBank
from cm3leon_jax.retrieval.memory_bank.recall import found_of_each, worst_of_best
from cm3leon_jax.runtime.progress import progress

_NEAREST = 10  # documents whose recall is measured
_QUERIES = 2000  # that the memory bank is asked, at most: exact search compares each with all documents
_CELLS = 1 << 24  # similarities at once


def retrieval(work: Work) -> SuiteResult:
    """Recall and reciprocal ranks of pictures by text and of texts by picture, among all held-out ones; where prepared
    data is named, also the recall of its memory bank against exact search, asked with the held-out texts."""
    config, data, retriever = work.config, work.open("retrieval"), work.models.retriever
    assert retriever is not None  # the table says that it is needed
    pictures = drawn(by_picture(data.examples), config.examples, config.seed)
    images_IxD, read = _embedded(data, pictures, retriever, config.most_left_out)
    unreadable = sum(len(each) for each, is_read in zip(pictures, read, strict=True) if not is_read)
    pictures = [each for each, is_read in zip(pictures, read, strict=True) if is_read]
    texts = [example.caption for each in pictures for example in each]
    of_text = np.repeat(np.arange(len(pictures)), [len(each) for each in pictures])
    texts_TxD = retriever.embed_texts(texts)
    ranks = {
        "image to text": ranks_of(images_IxD, texts_TxD, np.arange(len(pictures)), of_text),
        "text to image": ranks_of(texts_TxD, images_IxD, of_text, np.arange(len(pictures))),
    }
    figures: list[Figure] = []
    for direction, found in ranks.items():
        scores = rank_metrics(found)
        figures += figures_of(direction, scores, seed=config.seed, percent=scores.keys() - {"median rank"})
    if work.models.prepared is not None:
        bank = MemoryBank.load(work.models.prepared.memory_bank_directory, encoder_fingerprint=retriever.fingerprint)
        score = bank_recall(bank, texts_TxD[:_QUERIES])
        figures.append(
            Figure.of_score("memory bank", f"R@{_NEAREST} of exact search", score, seed=config.seed, percent=True)
        )
    shown = [
        Shown(
            each[0].caption,
            [("", data.image(each[0].place, retriever.config.image_resolution))],
            [("rank of its first text", str(int(ranks["image to text"][number])))],
        )
        for number, each in enumerate(pictures[: config.shown])
    ]
    count = Count(data.spec, len(texts), dict(data.left_out + Counter({UNREADABLE: unreadable})), {})
    return SuiteResult(figures, {"retrieval": count}, shown)


def ranks_of(
    queries_QxD: np.ndarray, items_NxD: np.ndarray, belongs_Q: np.ndarray, belongs_N: np.ndarray
) -> np.ndarray:
    """The rank, from 1, of the first item that belongs to what each query belongs to: [Q]. Few similarities are in
    memory at once."""
    step = max(1, _CELLS // max(1, len(items_NxD)))
    found = []
    for first in range(0, len(queries_QxD), step):
        similarity_qxN = queries_QxD[first : first + step] @ items_NxD.T
        relevant_qxN = belongs_Q[first : first + step, None] == belongs_N
        found.append(similarity_ranks(similarity_qxN, relevant_qxN))
    return np.concatenate(found)


def bank_recall(bank: MemoryBank, queries_QxD: np.ndarray) -> Score:
    """Of each query the share of its nearest documents that the bank finds, as `measure_recall` counts it."""
    nearest = min(_NEAREST, bank.count)
    _, scores_Qxk = bank.search(queries_QxD, nearest)
    return mean_score(found_of_each(scores_Qxk, worst_of_best(bank.blocks(), queries_QxD, nearest)))


def _embedded(
    data: DataSet, pictures: Sequence[list[Described]], retriever: Retriever, most_left_out: float
) -> tuple[np.ndarray, list[bool]]:
    """Of each picture that can be decoded, float32 [I, D]; and of each whether it can. `UserError`: too few can."""
    readable = Readable(data, [each[0] for each in pictures], retriever.config.image_resolution)
    read: set[int] = set()
    embedded = []
    with progress(label="pictures", total=len(pictures), unit="pictures", delay=2.0) as bar:
        images = readable.pictures()
        while some := list(itertools.islice(images, retriever.batch_size)):
            embedded.append(retriever.embed_images(np.stack([image for _, image in some])))
            read |= {example.place for example, _ in some}
            bar.update(len(some))
    readable.check(len(read), most_left_out)
    return np.concatenate(embedded), [each[0].place in read for each in pictures]
