"""The options of `cm3leon sample` that say what is asked for -> requests (`sampling/requests.py`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cm3leon_jax.instructions.asking import unanswered
from cm3leon_jax.runtime.errors import UserError

_EVERYWHERE = ("prompt", "image", "instruction")  # are options without a task, too


def requests_of(
    texts: Mapping[str, Sequence[str] | None], mask: str | None, task: str | None, wording: int | None
) -> list[dict[str, Any]]:
    """`texts`: the options that may be repeated, images among them, by their names. With a task the first of each make
    the first request, and so on. Raises `UserError` where the options do not belong together."""
    given = {name: list(values) for name, values in texts.items() if values}
    if task is not None:
        if mask is not None:
            raise UserError("a task takes no --mask; leave out --task to fill in a part of a picture")
        return _of_task(task, given, wording)
    others = [f"--{name}" for name in given if name not in _EVERYWHERE] + ["--wording"] * (wording is not None)
    if others:
        raise UserError(f"{others[0]} belongs to a task; name it, such as --task vqa")
    prompts, images, instructions = (given.get(name, []) for name in _EVERYWHERE)
    return _without_task(prompts, images, instructions, mask)


def _of_task(task: str, given: Mapping[str, Sequence[str]], wording: int | None) -> list[dict[str, Any]]:
    counts = {name: len(values) for name, values in given.items()}
    if len(set(counts.values())) > 1:
        said = ", ".join(f"{count} --{name}" for name, count in counts.items())
        raise UserError(f"each request has one of every option; there are {said}")
    rows = [dict(zip(given, values, strict=True)) for values in zip(*given.values(), strict=True)] or [{}]
    for row in rows:  # before a model is read
        fields = {name: text for name, text in row.items() if name != "image"}
        unanswered(task, fields, "image" in row, wording)
    more = {} if wording is None else {"wording": wording}
    return [{"task": task} | row | more for row in rows]


def _without_task(
    prompts: Sequence[str], images: Sequence[str], instructions: Sequence[str], mask: str | None
) -> list[dict[str, Any]]:
    if instructions:
        if len(instructions) != len(images) or prompts or mask:
            raise UserError("--instruction TEXT changes an --image FILE: one for each, without --prompt and --mask")
        return [{"instruction": text, "image": file} for text, file in zip(instructions, images, strict=True)]
    if mask is not None:
        if len(prompts) != len(images) or not prompts:
            raise UserError(f"filling in needs a --prompt for each --image; there are {len(prompts)} and {len(images)}")
        return [{"prompt": text, "image": file, "mask": mask} for text, file in zip(prompts, images, strict=True)]
    return [{"prompt": text} for text in prompts] + [{"image": file} for file in images]
