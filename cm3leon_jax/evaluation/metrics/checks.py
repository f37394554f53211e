"""What every metric refuses: lists that do not belong together."""

from __future__ import annotations

from collections.abc import Sequence

from cm3leon_jax.runtime.errors import UserError

Tokens = Sequence[str]


def check_lengths(**lists: Sequence) -> None:
    """`UserError` unless all lists have as many entries, one for each example."""
    lengths = {name: len(values) for name, values in lists.items()}
    if len(set(lengths.values())) > 1:
        found = ", ".join(f"{length} {name}" for name, length in lengths.items())
        raise UserError(f"there are {found}; give one entry of each for every example, in the same order")


def check_captions(candidates: Sequence[Tokens], references: Sequence[Sequence[Tokens]]) -> None:
    """`UserError` unless each candidate [tokens] has one or more references, all split into tokens."""
    check_lengths(candidates=candidates, references=references)
    for number, (candidate, of_candidate) in enumerate(zip(candidates, references, strict=True)):
        if isinstance(of_candidate, str) or not len(of_candidate):
            raise UserError(f"example {number} has no list of references; give each example one or more")
        if any(isinstance(caption, str) for caption in (candidate, *of_candidate)):
            raise UserError(f"example {number} has a caption that is not split into tokens; call tokenize() on it")
