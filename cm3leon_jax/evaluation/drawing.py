"""Scores of text to image: by sampling rule, by number of retrieved documents, and with CLIP choosing among samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cm3leon_jax.evaluation.config import EvaluationConfig
from cm3leon_jax.evaluation.held_out import HeldOutScene
from cm3leon_jax.evaluation.protocols import Generator
from cm3leon_jax.evaluation.results import RULE_NAMES, headline_rule
from cm3leon_jax.evaluation.scene_scores import check_images, fact_shares
from cm3leon_jax.sampling.best_of import Encoder, choose_best, clip_scores
from cm3leon_jax.sampling.rules import SamplingConfig


def evaluate_drawing(
    generator: Generator,
    examples: Sequence[HeldOutScene],
    rules: Mapping[str, SamplingConfig],
    encoder: Encoder | None,
    config: EvaluationConfig,
) -> tuple[dict, dict[str, np.ndarray], Sequence[Sequence[Any]]]:
    """-> (part of the results, rule -> pictures uint8 [N, R, R, 3], the documents before each caption)."""
    texts, stated = [example.caption for example in examples], [example.facts for example in examples]
    found = generator.retrieve(texts, max(config.retrieved, *config.retrieved_variants, 0))
    retrieved = [documents[: config.retrieved] for documents in found]

    def draw(label: str, sampling: SamplingConfig, documents: Sequence[Sequence[Any]], n: int = 1) -> np.ndarray:
        return generator.text_to_image(
            texts[: len(documents)], retrieved=documents, n=n, sampling=sampling, label=f"draw: {label}"
        )

    drawn = {rule: draw(RULE_NAMES[rule], sampling, retrieved)[:, 0] for rule, sampling in rules.items()}
    shares = {rule: fact_shares(stated, check_images(stated, pictures)) for rule, pictures in drawn.items()}
    figures = {rule: shares[rule]["overall"]["value"] for rule in rules}
    variants = {}
    best_rule = headline_rule({"text_to_image": {"guided": None, "cdk": None} | figures})
    if best_rule in rules:
        name, sampling = RULE_NAMES[best_rule], rules[best_rule]
        for count in sorted({config.retrieved, *config.retrieved_variants}):
            label = f"{name}, {_documents(count)}"
            if count == config.retrieved:
                variants[label] = shares[best_rule]
                continue
            pictures = draw(label, sampling, [documents[:count] for documents in found])[:, 0]
            variants[label] = fact_shares(stated, check_images(stated, pictures))
    if encoder is not None and config.best_of > 1 and config.best_of_rule in rules:
        name, sampling = RULE_NAMES[config.best_of_rule], rules[config.best_of_rule]
        some = min(config.best_of_examples, len(examples))
        samples = draw(f"{name}, {config.best_of} each", sampling, retrieved[:some], config.best_of)
        best = choose_best(samples, clip_scores(encoder, texts[:some], samples))
        for label, pictures in (
            (f"the first of {config.best_of}", samples[:, 0]),
            (f"the best of {config.best_of} by CLIP", best),
        ):
            variants[f"{name}, {label}"] = fact_shares(stated[:some], check_images(stated[:some], pictures))
    details = {"text_to_image": shares, "text_to_image_variants": variants}
    return {"text_to_image": figures, "details": details}, drawn, retrieved


def _documents(count: int) -> str:
    return f"{count} retrieved document{'' if count == 1 else 's'}"
