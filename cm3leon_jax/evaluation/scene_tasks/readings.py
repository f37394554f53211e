"""What a perfect model would write that sees a picture as the scene reader does: the ceilings of tasks with texts."""

from __future__ import annotations

import numpy as np

from cm3leon_jax.data.scenes.tasks.answers import answer
from cm3leon_jax.data.scenes.tasks.descriptions import write_paragraph
from cm3leon_jax.data.scenes.tasks.example import Metadata
from cm3leon_jax.data.scenes.tasks.reasoning import conclude
from cm3leon_jax.data.scenes.tasks.science import explain, option_text
from cm3leon_jax.data.scenes.world import Scene

_SEED = 0  # of wordings, which scores do not depend on


def describe(metadata: Metadata, read: Scene) -> str:
    """Everything about the scene that was read."""
    del metadata
    return write_paragraph(np.random.default_rng(_SEED), read)


def answer_question(metadata: Metadata, read: Scene) -> str:
    """The answer that is true of the scene that was read; "" where it does not allow the question."""
    return answer(metadata["query"], read)


def reason(metadata: Metadata, read: Scene) -> str:
    """Explanation and answer by the scene that was read; "" where it does not allow the question."""
    conclusion = conclude(metadata["query"], read)
    if conclusion is None:
        return ""
    explanation = explain(np.random.default_rng(_SEED), conclusion)
    return f"{explanation} {option_text(metadata['options'], conclusion.answer)}".strip()
