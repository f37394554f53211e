"""How to sample: chosen for each purpose among a few candidates, by the first seed's decoder on validation pictures."""

from __future__ import annotations

from typing import Any

Sampling = dict[str, Any]  # fields of SamplingConfig

WEIGHTS = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)  # of guidance, for the third claim
TOP_P = 0.9
DOCUMENTS = 1  # before a caption, where their number is not what is asked about
BEST_OF = 4  # candidates for the second claim are judged by CLIP's choice among so many


def guided(weight: float, top_p: float = TOP_P) -> Sampling:
    return {"rule": "guided", "guidance_scale": weight, "top_p": top_p}


def cdk(k: int, alpha: float, expert: float, amateur: float) -> Sampling:
    return {
        "rule": "cdk",
        "cdk_k": k,
        "cdk_alpha": alpha,
        "expert_temperature": expert,
        "amateur_temperature": amateur,
    }


CANDIDATES: dict[str, tuple[Sampling, ...]] = {
    # Claims 1 and 3: a weight, for each variant of the decoder.
    "weight": tuple(guided(weight) for weight in WEIGHTS),
    # Claim 2: each rule with its own best settings.
    "top_p": tuple(guided(weight, top_p) for weight in (1.0, 1.5, 2.0) for top_p in (0.8, 0.95)),
    "cdk": tuple(
        cdk(k, alpha, *temperatures)
        for k, alpha in ((2, 1.0), (2, 0.5), (8, 0.5))
        for temperatures in ((0.2, 4.0), (0.8, 1.0))
    ),
}
