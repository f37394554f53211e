"""The third claim: guidance has a best weight, and needs hidden captions in training (CM3Leon §3.1)."""

from __future__ import annotations

from benchmarks.claims.bootstrap import Resamples, estimate
from benchmarks.claims.drawing import Drawing
from benchmarks.claims.scores import Load
from benchmarks.claims.section import Chart, Line, Section, verdict
from benchmarks.claims.settings import DOCUMENTS, WEIGHTS, Sampling, guided
from benchmarks.claims.study import Study

LABELS = {"retrieval": "whole captions hidden in training", "no_hidden_captions": "random spans alone"}
COUNTS = (DOCUMENTS, 1)  # of retrieved documents; the verdict follows from the first
NO_GUIDANCE = 1.0


def drawings(study: Study) -> dict[tuple[int, float], Drawing]:
    """By the number of documents and the weight."""
    return {
        (count, weight): Drawing("test", study.known, 0, count, 1, guided(weight))
        for count in COUNTS
        for weight in WEIGHTS
    }


def conclude(study: Study, chosen: dict[str, Sampling], load: Load) -> Section:
    """`chosen`: how "hidden_captions" and "no_hidden_captions" sample by validation pictures."""
    resamples = Resamples(study.seeds, study.known)
    shares = {}
    for variant in LABELS:
        for (count, weight), drawing in drawings(study).items():
            scores = load(variant, drawing)
            shares[variant, count, weight] = resamples.share(scores.right["known"][..., 0], scores.asked["known"])
    best = {
        variant: chosen[name]["guidance_scale"]
        for variant, name in zip(LABELS, ("hidden_captions", "no_hidden_captions"), strict=True)
    }
    at = {variant: {weight: shares[variant, DOCUMENTS, weight] for weight in WEIGHTS} for variant in LABELS}
    gains = {variant: at[variant][best[variant]] - at[variant][NO_GUIDANCE] for variant in LABELS}
    ours, other, most = at["retrieval"], at["no_hidden_captions"], WEIGHTS[-1]
    tests = {
        f"weight {best['retrieval']:g}, chosen on validation, over none": estimate(gains["retrieval"]),
        f"that weight over {most:g}": estimate(ours[best["retrieval"]] - ours[most]),
        "what guidance gains with hidden captions in training over what it gains without, each at its weight "
        f"({best['retrieval']:g} and {best['no_hidden_captions']:g})": estimate(
            gains["retrieval"] - gains["no_hidden_captions"]
        ),
    }
    how = (
        f"{study.known} captions of known creatures, one sample each, without retrieved documents (and with one, of "
        "which the verdict takes no account); weight 1 is no guidance, 0 does not read the caption. One decoder hides "
        "a whole caption in most of its masks (`ObjectiveConfig.whole_segment_probability = 0.6`), the other as many "
        f"random spans (0). Without guidance the former has {estimate(ours[NO_GUIDANCE])}, the latter "
        f"{estimate(other[NO_GUIDANCE])}."
    )
    return Section(
        name="guidance",
        title="Guidance has a best weight, and needs hidden captions in training",
        claim="Classifier-free guidance improves pictures up to some weight and harms them beyond. The stream without "
        "the caption comes for free from the CM3 objective.",
        verdict=verdict(tests),
        tests=tests,
        how=how,
        head=["masks in training", "documents", *(f"weight {weight:g}" for weight in WEIGHTS)],
        rows=[
            [LABELS[v], str(count), *(str(estimate(shares[v, count, weight])) for weight in WEIGHTS)]
            for count in COUNTS
            for v in LABELS
        ],
        charts=[
            Chart(
                f"claims_guidance_{count}",
                f"Right creatures by guidance, {_documents(count)}",
                "weight",
                [Line(LABELS[v], {weight: estimate(shares[v, count, weight]) for weight in WEIGHTS}) for v in LABELS],
            )
            for count in COUNTS
        ],
    )


def _documents(count: int) -> str:
    return f"{count} document{'' if count == 1 else 's'}"
