"""Scores of answers with explanations."""

from __future__ import annotations

import re
from collections.abc import Sequence

from cm3leon_jax.data.scenes.caption_parser import parse_caption
from cm3leon_jax.data.scenes.facts import fact_from_dict, score
from cm3leon_jax.data.scenes.tasks.example import Metadata
from cm3leon_jax.data.scenes.tasks.pictures import target_scene
from cm3leon_jax.evaluation.scene_tasks.counts import Scores, Tally
from cm3leon_jax.evaluation.scene_tasks.vqa import most_frequent

_OPTION = re.compile(r"\(\s*([a-c])\s*\)", re.IGNORECASE)


def score_reasoning(examples: Sequence[Metadata], texts: Sequence[str]) -> Scores:
    """A text is an explanation, where one was asked for, and behind it the answer: "… (B) red". ->

    - "answer": the letter of its last option is the right one; the same for each kind of question under its name
    - "words": what it says behind that letter is the right option, whatever the letter
    - of texts with an explanation, "true": of the facts that it states, and "covered": of the facts that the question
      is answered by, those that it states
    """
    tally = Tally(len(examples))
    for index, (metadata, text) in enumerate(zip(examples, texts, strict=True)):
        explanation, letter, words = split_answer(text)
        _, right_letter, right_words = split_answer(metadata["answer"])
        right = letter == right_letter
        tally.add("answer", index, right)
        tally.add("words", index, words == right_words)
        tally.add(metadata["kind"], index, right)
        if explanation:
            stated = parse_caption(explanation).facts
            needed = {fact_from_dict(fact) for fact in metadata["facts"]}
            tally.add("true", index, *score(stated, target_scene(metadata)))
            tally.add("covered", index, len(needed & set(stated)), len(needed))
    return tally.scores


def split_answer(text: str) -> tuple[str, str, str]:
    """What stands before the last option, its letter, and its words without the full stop; "" where there is none."""
    options = list(_OPTION.finditer(text))
    if not options:
        return text.strip(), "", ""
    last = options[-1]
    return text[: last.start()].strip(), last[1].upper(), text[last.end() :].strip().rstrip(".").lower()


def most_frequent_option(training: Sequence[Metadata], examples: Sequence[Metadata]) -> list[str]:
    """For each example the option that training has most often for its kind of question; "" where it has none."""
    options = [{"kind": one["kind"], "answer": f"({split_answer(one['answer'])[1]})"} for one in training]
    return most_frequent(options, examples)
