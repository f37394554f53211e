"""How to sample: for each purpose a few candidates, of which one is chosen by validation pictures."""

from __future__ import annotations

import dataclasses
from typing import Any

Sampling = dict[str, Any]  # fields of SamplingConfig

WEIGHTS = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)  # of guidance
TOP_P = 0.9
# Before a caption in the second and third claim: behind a document that shows the creature, almost every picture is
# right by any rule and with any weight near 1, as pilots on validation pictures showed.
DOCUMENTS = 0
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


@dataclasses.dataclass(frozen=True)
class Choice:
    """One of `candidates`, by the score of what the first seed's decoder of a variant draws with them."""

    variant: str
    retrieved: int  # documents
    samples: int  # of each caption, of which CLIP chooses
    candidates: tuple[Sampling, ...]


_BY_WEIGHT = tuple(guided(weight) for weight in WEIGHTS)
_TOP_P = tuple(guided(weight, top_p) for weight in (1.0, 1.5, 2.0) for top_p in (0.5, 0.8, 0.95))
_CDK = tuple(
    cdk(k, alpha, *temperatures)
    for k, alpha in ((2, 1.0), (2, 0.5), (8, 0.5))
    for temperatures in ((0.2, 4.0), (0.4, 2.0), (0.8, 1.0))
)
CHOICES = {
    "retrieval": Choice("retrieval", 1, 1, _BY_WEIGHT),
    "no_retrieval": Choice("no_retrieval", 0, 1, _BY_WEIGHT),
    "hidden_captions": Choice("retrieval", DOCUMENTS, 1, _BY_WEIGHT),
    "no_hidden_captions": Choice("no_hidden_captions", DOCUMENTS, 1, _BY_WEIGHT),
    "top_p": Choice("retrieval", DOCUMENTS, BEST_OF, _TOP_P),
    "cdk": Choice("retrieval", DOCUMENTS, BEST_OF, _CDK),
}
