"""What the report shows of a few held-out scenes: the entries of a gallery (see `gallery`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from cm3leon_jax.data.scenes.caption_parser import parse_caption
from cm3leon_jax.evaluation.held_out import HeldOutScene
from cm3leon_jax.evaluation.protocols import Generator, RetrievedDocument, Tokenizer
from cm3leon_jax.evaluation.scene_scores import check_images, check_scenes, judged
from cm3leon_jax.sampling.rules import SamplingConfig


def shown_prompt(
    example: HeldOutScene, retrieved: Sequence[RetrievedDocument], drawn: Mapping[str, np.ndarray]
) -> dict:
    return {
        "caption": example.caption,
        "original": example.image,
        "retrieved": [{"image": document.image, "caption": document.caption} for document in retrieved],
        "images": {
            rule: {"image": image, "facts": judged(example.facts, check_images([example.facts], [image])[0])}
            for rule, image in drawn.items()
        },
    }


def shown_caption(example: HeldOutScene, generated: str) -> dict:
    facts = parse_caption(generated).facts
    verdicts = check_scenes([facts], [example.scene])[0]
    return {
        "image": example.image,
        "caption": example.caption,
        "generated": generated,
        "facts": judged(facts, verdicts),
    }


def shown_infills(
    generator: Generator, tokenizer: Tokenizer, examples: Sequence[HeldOutScene], sampling: SamplingConfig
) -> list[dict]:
    """Hides the part of each picture around its first object and has it filled in."""
    images = np.stack([example.image for example in examples])
    hidden = np.stack([_around_first_object(example, tokenizer.grid) for example in examples])
    filled = generator.fill_image(
        [example.caption for example in examples], images, hidden, sampling=sampling, label="fill in"
    )
    scale = images.shape[1] // tokenizer.grid[0], images.shape[2] // tokenizer.grid[1]
    covered = np.where(np.kron(hidden, np.ones((1, *scale), bool))[..., None], np.uint8(128), images)
    return [
        {"caption": example.caption, "hidden": covered[i], "filled": filled[i], "original": images[i]}
        for i, example in enumerate(examples)
    ]


def _around_first_object(example: HeldOutScene, grid: tuple[int, int]) -> np.ndarray:
    """bool [rows, columns]: half the picture's height and width, with the first object in its middle where it fits."""
    hidden = np.zeros(grid, bool)
    item = example.scene.objects[0]
    starts = [
        int(np.clip(round(at * size - size / 4), 0, size - size // 2))
        for at, size in zip((item.y, item.x), grid, strict=True)
    ]
    hidden[starts[0] : starts[0] + grid[0] // 2, starts[1] : starts[1] + grid[1] // 2] = True
    return hidden
