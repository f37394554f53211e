"""What a task is asked with: the fields that are given -> an instruction whose answers are to be found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping

from cm3leon_jax.instructions.instruction import Instruction
from cm3leon_jax.instructions.tasks import find_task
from cm3leon_jax.instructions.template import Template, is_image
from cm3leon_jax.runtime.errors import UserError

_OTHER_NAMES = {"prompt": "caption"}  # a picture is asked for by a prompt, which in training is its caption


def unanswered(task: str, fields: Mapping[str, str], images: int = 0, wording: int | None = None) -> Instruction:
    """The instruction of `task` (a key of `tasks.TASKS`) with these texts and so many given pictures; its answers are
    there as empty texts, and as pictures, that are marked.

    `prompt` may stand for `caption`. Of the task's wordings it is number `wording`, or the first that has these fields.
    Raises `UserError`: there is no such task or wording, a field is missing, empty, or none of the task's.
    """
    found = find_task(task)
    given = _by_name(fields)
    templates = found.templates
    if wording is not None:
        if not 0 <= wording < len(templates):
            raise UserError(f"task {task!r} has {len(templates)} wordings, counted from 0; {wording} is none of them")
        templates = templates[wording : wording + 1]
    names = Counter(given.keys()) + Counter(image=images)
    wrong = [_misfit(template, names, found.optional) for template in templates]
    if "" not in wrong:
        takes = _described(_takes(templates[0]), found.optional)
        raise UserError(f"task {task!r} takes {takes}; {wrong[0]}")
    for name, text in given.items():
        if not text.strip() and name not in found.optional:
            raise UserError(f"{name} is empty, and task {task!r} needs it; write something there")
    template = templates[wrong.index("")]
    return template.fill(dict.fromkeys([*found.optional, *template.answers], "") | given)


def _by_name(fields: Mapping[str, str]) -> dict[str, str]:
    given = {_OTHER_NAMES.get(name, name): text for name, text in fields.items()}
    if len(given) < len(fields):
        raise UserError(f"two of {', '.join(fields)} are names of one field; give it once")
    pictures = [name for name in given if is_image(name)]
    if pictures:
        raise UserError(f"{pictures[0]} is a picture and no text; give it as an image")
    return given


def _takes(template: Template) -> Counter[str]:
    """Names of what is to be given, all pictures by one name, with how often it is."""
    return Counter(image=len(template.given_images)) + Counter(template.given_texts)


def _misfit(template: Template, given: Counter[str], optional: Collection[str]) -> str:
    """What of the template is not given, and the other way round."""
    takes = _takes(template)
    missing = [f"{name} is missing" for name in takes - given if name not in optional]
    too_much = [f"{'another ' * (name in takes)}{name} does not belong there" for name in given - takes]
    return ", ".join([*missing, *too_much])


def _described(takes: Counter[str], optional: Collection[str]) -> str:
    notes = {meant: f" (or {other})" for other, meant in _OTHER_NAMES.items()}
    notes |= dict.fromkeys(optional, " (may be left out)")
    return ", ".join(name + notes.get(name, "") for name in takes)
