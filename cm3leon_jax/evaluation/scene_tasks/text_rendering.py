"""Scores of drawn words, as the reader of letters reads them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cm3leon_jax.data.scenes.tasks.example import Metadata
from cm3leon_jax.data.scenes.tasks.text_reader import read_text
from cm3leon_jax.evaluation.scene_tasks.counts import Scores, Tally


def score_lettering(examples: Sequence[Metadata], pictures: Sequence[np.ndarray]) -> Scores:
    """ "text": all words are right and there are no others; "word": of the words, those that are right and in their
    order; "letter": of their letters, those that stand at their place in a word that has its place."""
    tally = Tally(len(examples))
    for index, (metadata, picture) in enumerate(zip(examples, pictures, strict=True)):
        wanted, read = metadata["text"].split(), read_text(picture).split()
        tally.add("text", index, read == wanted)
        for place, word in enumerate(wanted):
            found = read[place] if place < len(read) else ""
            tally.add("word", index, found == word)
            tally.add("letter", index, sum(one == other for one, other in zip(found, word, strict=False)), len(word))
    return tally.scores
