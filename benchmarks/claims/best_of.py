"""The second claim: CD-K complements top-p (CM3Leon §3.1)."""

from __future__ import annotations

import numpy as np

from benchmarks.claims.bootstrap import Resamples, estimate
from benchmarks.claims.drawing import Drawing
from benchmarks.claims.scores import Load, Scores
from benchmarks.claims.section import Chart, Line, Section, verdict
from benchmarks.claims.settings import DOCUMENTS, Sampling
from benchmarks.claims.study import Study

RULES = {"top_p": "top-p", "cdk": "CD-K", "mixed": "half of each"}
CHOICES = {"clip": "CLIP chooses", "oracle": "the best there is"}


def drawings(study: Study, chosen: dict[str, Sampling]) -> dict[str, Drawing]:
    """By the rule."""
    return {rule: Drawing("test", study.many, 0, DOCUMENTS, study.samples, chosen[rule]) for rule in ("top_p", "cdk")}


def numbers(samples: int) -> list[int]:
    """1, 2, 4, … up to the number of samples."""
    return [2**power for power in range(samples.bit_length()) if 2**power <= samples]


def best_of(values: np.ndarray, ranks: np.ndarray, n: int) -> np.ndarray:
    """Samples [..., m], with the ranks by which the best is chosen -> the values of the best of n [...], averaged over
    the m / n blocks of consecutive samples. The first of equals is chosen."""
    blocks = (*values.shape[:-1], values.shape[-1] // n, n)
    values, ranks = values[..., : blocks[-2] * n].reshape(blocks), ranks[..., : blocks[-2] * n].reshape(blocks)
    return np.take_along_axis(values, ranks.argmax(-1)[..., None], axis=-1)[..., 0].mean(axis=-1)


def interleaved(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Samples [..., m] of two rules -> [..., 2 m], by turns: what the rule "mixed" draws."""
    return np.stack([one, other], axis=-1).reshape(*one.shape[:-1], -1)


def conclude(study: Study, chosen: dict[str, Sampling], load: Load) -> Section:
    """`chosen`: how "top_p" and "cdk" sample."""
    scores = {rule: load("retrieval", drawing) for rule, drawing in drawings(study, chosen).items()}
    asked = scores["top_p"].asked["known"]
    resamples, most = Resamples(study.seeds, study.many), numbers(study.samples)[-1]
    shares = {
        (rule, choice, n): resamples.share(_best(scores, rule, choice, n), asked)
        for rule in RULES
        for choice in CHOICES
        for n in numbers(study.samples)
    }
    tests = {
        f"{words}: half of each over {RULES[rule]} alone, best of {most}": estimate(
            shares["mixed", choice, most] - shares[rule, choice, most]
        )
        for choice, words in CHOICES.items()
        for rule in ("top_p", "cdk")
    }
    return Section(
        name="best_of",
        title="CD-K complements top-p",
        claim="CD-K draws as well as top-p with guidance, and differently: of many samples, half of each have a better "
        "best than all of either.",
        verdict=verdict(tests),
        tests=tests,
        how=f"{study.many} captions of known creatures, {study.samples} samples of each by either rule, without "
        "retrieved documents; the score is that of the best of n, as the retriever's CLIP or the score itself chooses "
        f"it. Sampled with {_words(chosen['top_p'])} and {_words(chosen['cdk'])}.",
        head=["rule", "chosen by", *(f"best of {n}" for n in numbers(study.samples))],
        rows=[
            [RULES[rule], CHOICES[choice], *(str(estimate(shares[rule, choice, n])) for n in numbers(study.samples))]
            for choice in CHOICES
            for rule in RULES
        ],
        charts=[
            Chart(
                f"claims_best_of_{choice}",
                f"Right creatures, best of n: {words}",
                "samples",
                [
                    Line(name, {n: estimate(shares[rule, choice, n]) for n in numbers(study.samples)})
                    for rule, name in RULES.items()
                ],
                logarithmic=True,
            )
            for choice, words in CHOICES.items()
        ],
    )


def _best(scores: dict[str, Scores], rule: str, choice: str, n: int) -> np.ndarray:
    """Right creatures in the best of n, float [S, N]."""
    names = ("top_p", "cdk") if rule == "mixed" else (rule,)
    values = [scores[name].right["known"].astype(float) for name in names]
    ranks = [scores[name].clip for name in names] if choice == "clip" else values
    if len(names) == 1:
        return best_of(values[0], ranks[0], n)
    return best_of(interleaved(*values), interleaved(*ranks), n)


def _words(sampling: Sampling) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in sampling.items())
