"""What is measured, and how much of it is shown."""

from __future__ import annotations

import dataclasses

from cm3leon_jax.evaluation.results import RULES
from cm3leon_jax.runtime.errors import UserError


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

    def __post_init__(self) -> None:
        least = {"examples": 1, "retrieved": 0, "best_of": 0, "best_of_examples": 1, "shown": 0}
        for name, value in (least | {"reconstructions_shown": 0}).items():
            if getattr(self, name) < value:
                raise UserError(f"EvaluationConfig.{name} is {getattr(self, name)}; it must be {value} or more")
        if min(self.retrieved_variants, default=0) < 0:
            raise UserError(
                f"EvaluationConfig.retrieved_variants is {self.retrieved_variants}; name numbers of documents"
            )
        if self.best_of_rule not in RULES:
            raise UserError(f"EvaluationConfig.best_of_rule is {self.best_of_rule!r}; choose one of {', '.join(RULES)}")
