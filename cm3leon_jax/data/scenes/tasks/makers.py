"""All tasks by their names in `instructions.tasks.TASKS`: how their examples are made, and their pictures drawn."""

from __future__ import annotations

from cm3leon_jax.data.scenes.tasks import pictures
from cm3leon_jax.data.scenes.tasks.conditions import make_condition
from cm3leon_jax.data.scenes.tasks.descriptions import make_caption, make_paragraph
from cm3leon_jax.data.scenes.tasks.edit import make_edit
from cm3leon_jax.data.scenes.tasks.example import Made, Maker, Situation, example_rng
from cm3leon_jax.data.scenes.tasks.ground import make_ground
from cm3leon_jax.data.scenes.tasks.science import make_science
from cm3leon_jax.data.scenes.tasks.text_rendering import make_text_rendering, text_picture
from cm3leon_jax.data.scenes.tasks.vqa import make_vqa
from cm3leon_jax.runtime.errors import UserError

VERSION = 1  # raised when the same scenes give other examples

MAKERS: dict[str, Maker] = {
    "edit": Maker(make_edit, pictures.before_and_after),
    "ground": Maker(make_ground, pictures.scene_picture),
    "segmentation": Maker(make_condition, pictures.map_and_scene),
    "canny": Maker(make_condition, pictures.edges_and_scene),
    "caption": Maker(make_caption, pictures.scene_picture),
    "paragraph": Maker(make_paragraph, pictures.scene_picture),
    "vqa": Maker(make_vqa, pictures.scene_picture),
    "text_rendering": Maker(make_text_rendering, text_picture, needs_scene=False),
    "science": Maker(make_science, pictures.scene_picture),
}


def find_maker(task: str) -> Maker:
    """`UserError` where the scenes have no such task."""
    if task not in MAKERS:
        raise UserError(f"the scenes have no task {task!r}; they have {', '.join(MAKERS)}")
    return MAKERS[task]


def make(task: str, situation: Situation) -> Made:
    """The example of a task: a pure function of the two. Its metadata says the task, too."""
    made = find_maker(task).make(example_rng(task, situation.id, situation.config.seed), situation)
    return Made(made.fields, {"task": task, **made.metadata})
