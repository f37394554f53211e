"""The third claim: guidance has a best weight, and needs hidden captions in training (CM3Leon §3.1)."""

from __future__ import annotations

from benchmarks.claims.bootstrap import Resamples, estimate
from benchmarks.claims.drawing import Drawing
from benchmarks.claims.scores import Load
from benchmarks.claims.section import Chart, Line, Section, verdict
from benchmarks.claims.settings import DOCUMENTS, WEIGHTS, Sampling, guided
from benchmarks.claims.study import Study

LABELS = {"retrieval": "whole captions hidden in training", "no_hidden_captions": "random spans alone"}
NO_GUIDANCE = 1.0


def drawings(study: Study) -> dict[float, Drawing]:
    """By weight."""
    return {weight: Drawing("test", study.known, 0, DOCUMENTS, 1, guided(weight)) for weight in WEIGHTS}


def conclude(study: Study, weights: dict[str, Sampling], load: Load) -> Section:
    """`weights`: what was chosen for each variant on validation pictures."""
    resamples = Resamples(study.seeds, study.known)
    shares = {}
    for variant in LABELS:
        for weight, drawing in drawings(study).items():
            scores = load(variant, drawing)
            shares[variant, weight] = resamples.share(scores.right["known"][..., 0], scores.asked["known"])
    best = {variant: weights[variant]["guidance_scale"] for variant in LABELS}
    gains = {variant: shares[variant, best[variant]] - shares[variant, NO_GUIDANCE] for variant in LABELS}
    top = shares["retrieval", best["retrieval"]]
    tests = {
        f"weight {best['retrieval']:g}, chosen on validation, over none": estimate(gains["retrieval"]),
        f"that weight over {WEIGHTS[-1]:g}": estimate(top - shares["retrieval", WEIGHTS[-1]]),
        "what guidance gains with hidden captions in training over what it gains without": estimate(
            gains["retrieval"] - gains["no_hidden_captions"]
        ),
        f"weight {WEIGHTS[-1]:g}: with hidden captions in training over without": estimate(
            shares["retrieval", WEIGHTS[-1]] - shares["no_hidden_captions", WEIGHTS[-1]]
        ),
    }
    return Section(
        name="guidance",
        title="Guidance has a best weight, and needs hidden captions in training",
        claim="Classifier-free guidance improves pictures up to some weight and harms them beyond. The stream without "
        "the caption comes for free from the CM3 objective.",
        verdict=verdict(tests),
        tests=tests,
        how=f"{study.known} captions of known creatures, one retrieved document, one sample each; weight 1 is no "
        "guidance, 0 does not read the caption. One decoder hides a whole caption in most of its masks "
        "(`ObjectiveConfig.whole_segment_probability`), the other as many random spans (0).",
        head=["masks in training", *(f"weight {weight:g}" for weight in WEIGHTS)],
        rows=[[LABELS[v], *(str(estimate(shares[v, weight])) for weight in WEIGHTS)] for v in LABELS],
        charts=[
            Chart(
                "claims_guidance",
                "Right creatures by the weight of guidance",
                "weight",
                [Line(LABELS[v], {weight: estimate(shares[v, weight]) for weight in WEIGHTS}) for v in LABELS],
            )
        ],
    )
