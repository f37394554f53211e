"""The demo's figures: draws, captions and reconstructs held-out scenes, and scores all of it exactly.

What is returned is the schema of `results.json` (see `results.assemble_results`); the pictures and texts of a few fixed
examples are kept for the report (see `gallery`). Nothing here is tuned on: settings come from the caller.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from cm3leon_jax.evaluation.config import EvaluationConfig
from cm3leon_jax.evaluation.drawing import evaluate_drawing
from cm3leon_jax.evaluation.gallery import write_gallery
from cm3leon_jax.evaluation.gallery_items import shown_caption, shown_infills, shown_prompt
from cm3leon_jax.evaluation.held_out import HeldOutScene
from cm3leon_jax.evaluation.protocols import Generator, Tokenizer
from cm3leon_jax.evaluation.results import assemble_results
from cm3leon_jax.evaluation.scoring import evaluate_image_tokenizer, score_captions
from cm3leon_jax.runtime.files import Path
from cm3leon_jax.sampling.best_of import Encoder
from cm3leon_jax.sampling.rules import SamplingConfig

INFILLING_RULES = ("guided", "top_p", "plain")  # the first of these that is configured fills in hidden parts


def evaluate_scenes(
    generator: Generator,
    tokenizer: Tokenizer,
    examples: Sequence[HeldOutScene],
    *,
    rules: Mapping[str, SamplingConfig],
    captioning: SamplingConfig,
    directory: Path,
    encoder: Encoder | None = None,
    config: EvaluationConfig | None = None,
) -> dict:
    """Scores everything and writes the gallery to `directory` -> results with every key; others' figures are null.

    `rules`: name (of `results.RULES`) -> how it samples; rules that are absent stay unmeasured. Without an `encoder`
    the best of n is not measured. All of `examples` are scored; `config.examples` is for the caller who takes them.
    """
    config = config or EvaluationConfig()
    images = np.stack([example.image for example in examples])
    tokenizer_part, reconstructions = evaluate_image_tokenizer(tokenizer, examples)
    drawing_part, drawn, retrieved = evaluate_drawing(generator, examples, rules, encoder, config)
    captions = list(generator.image_to_text(images, sampling=captioning, label="write captions"))
    results = assemble_results(tokenizer_part, drawing_part, score_captions(captions, examples))

    shown = range(min(config.shown, len(examples)))
    infilling = next((rules[rule] for rule in INFILLING_RULES if rule in rules), None)
    gallery = {
        "reconstructions": [
            {"original": images[i], "reconstruction": reconstructions[i]}
            for i in range(min(config.reconstructions_shown, len(examples)))
        ],
        "prompts": [shown_prompt(examples[i], retrieved[i], {rule: drawn[rule][i] for rule in drawn}) for i in shown],
        "captions": [shown_caption(examples[i], captions[i]) for i in shown],
        "infills": shown_infills(generator, tokenizer, examples[: len(shown)], infilling) if infilling else [],
    }
    write_gallery(directory, gallery)
    return results
