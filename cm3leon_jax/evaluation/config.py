"""What is measured, and how much of it is shown."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class EvaluationConfig:
    examples: int = 200  # held-out examples that are scored, the first of their split
    retrieved: int = 2  # documents before each caption, for the four rules
    retrieved_variants: tuple[int, ...] = (0, 1)  # measured besides, with the better of guidance and CD-K
    best_of: int = 8  # samples a caption from which the retriever chooses; 0: not measured
    best_of_rule: str = "top_p"  # by which they are drawn: CD-K's samples hardly differ
    best_of_examples: int = 50  # captions that are drawn `best_of` times
    shown: int = 6  # examples in the report, the first ones
    reconstructions_shown: int = 8
