"""How long the rest of the demo takes: the times that its stages took elsewhere, scaled to this machine."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from cm3leon_jax.runtime.compute_dtype import COMPUTE_DTYPES

# Seconds where the decoder trains in bfloat16, and where in float32: the order of `COMPUTE_DTYPES`.
Seconds = tuple[float, float]


@dataclasses.dataclass(frozen=True)
class DemoConfig:
    """What each stage of the demo takes, measured (CONTRIBUTING.md); `step` is a training step of the decoder."""

    quick: bool = False  # less data and training than the demo: the report says so
    step: Seconds = (0.0, 0.0)
    speed: Seconds = (0.0, 0.0)
    scenes: Seconds = (0.0, 0.0)
    train_text_tokenizer: Seconds = (0.0, 0.0)
    train_image_tokenizer: Seconds = (0.0, 0.0)
    train_retriever: Seconds = (0.0, 0.0)
    prepare: Seconds = (0.0, 0.0)
    train: Seconds = (0.0, 0.0)
    evaluate: Seconds = (0.0, 0.0)


class Clock:
    """Expects each stage to take its budget, times what a step of the decoder takes here over what it took there; and
    all but the decoder's training as much longer as the finished stages took."""

    def __init__(self, budget: DemoConfig, compute_dtype: str, step_seconds: float):
        number = COMPUTE_DTYPES.index(compute_dtype)
        scale = step_seconds / budget.step[number] if budget.step[number] else 1.0
        self._expected = {
            field.name.replace("_", "-"): scale * getattr(budget, field.name)[number]
            for field in dataclasses.fields(budget)
            if field.name != "quick"
        }

    def seconds(self, command: str, finished: Mapping[str, float]) -> float:
        """Expected of a command, where the commands `finished` took so long. 0 where it has no budget."""
        expected = self._expected.get(command, 0.0)
        known = {name: seconds for name, seconds in finished.items() if self._expected.get(name) and name != "train"}
        if command == "train" or not known:
            return expected
        return expected * sum(known.values()) / sum(self._expected[name] for name in known)

    def seconds_left(self, commands: Sequence[str], finished: Mapping[str, float]) -> float:
        """Expected of those of the commands that are not finished."""
        return sum(self.seconds(command, finished) for command in commands if command not in finished)
