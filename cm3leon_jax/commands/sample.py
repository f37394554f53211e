"""`cm3leon sample`."""

from __future__ import annotations

import pathlib
from typing import TYPE_CHECKING, Any

import numpy as np

from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.sampling.rules import SamplingConfig

if TYPE_CHECKING:
    from cm3leon_jax.sampling.pipeline import Generator


def sample(
    decoder: str,
    text_tokenizer: str,
    image_tokenizer: str,
    sampling: SamplingConfig,
    retriever: str | None = None,
    prepared: str | None = None,
    prompt: list[str] | None = None,
    image: list[str] | None = None,
    mask: str | None = None,
    retrieved: int = 0,
    samples: int = 1,
    output: str = "samples",
) -> None:
    """--prompt TEXT draws pictures; --image FILE writes a caption; both with --mask FILE fill in what is white in it.

    --retrieved N puts N documents of the memory bank before each prompt (needs --prepared and --retriever).
    --samples N draws N pictures a prompt; with --retriever the best of them, by CLIP, comes first.
    Pictures are written to OUTPUT, with samples.json beside them."""
    from cm3leon_jax.commands.stage import write_operative_gin
    from cm3leon_jax.runtime.files import write_json
    from cm3leon_jax.sampling.pipeline import Generator

    prompts, files = prompt or [], image or []
    _check(prompts, files, mask, retrieved, retriever, prepared)
    generator = Generator.load(
        decoder, text_tokenizer, image_tokenizer, retriever=retriever, prepared=prepared if retrieved else None
    )
    out = pathlib.Path(output)
    pictures = [_read(file, generator) for file in files]
    if mask is not None:
        rows = _fill(generator, prompts, pictures, _read(mask, generator), retrieved, sampling, out)
    else:
        rows = _draw(generator, prompts, retrieved, samples, sampling, out) if prompts else []
        captions = generator.image_to_text(np.stack(pictures), sampling=sampling, label="captioning") if files else []
        rows += [{"image": file, "caption": text} for file, text in zip(files, captions, strict=True)]
    write_operative_gin(out)
    write_json(out / "samples.json", rows)
    for row in rows:
        print("  ".join(str(value) for value in row.values()))
    print(f"in {out}")


def _check(
    prompts: list[str], files: list[str], mask: str | None, retrieved: int, retriever: str | None, prepared: str | None
) -> None:
    if not prompts and not files:
        raise UserError("nothing to sample; give --prompt TEXT, --image FILE, or both with --mask FILE")
    if mask is not None and len(prompts) != len(files):
        raise UserError(f"filling in needs a --prompt for each --image; there are {len(prompts)} and {len(files)}")
    if retrieved < 0 or (retrieved and not (retriever and prepared)):
        raise UserError("--retrieved N takes a number from 0 up, and --prepared DATA and --retriever MODEL to look in")


def _draw(
    generator: Generator, prompts: list[str], retrieved: int, samples: int, sampling: SamplingConfig, out: pathlib.Path
) -> list[dict[str, Any]]:
    """Pictures of each prompt; with a retriever in the order of their CLIP scores."""
    from cm3leon_jax.sampling.best_of import clip_scores

    drawn = generator.text_to_image(prompts, retrieved=retrieved, n=samples, sampling=sampling, label="drawing")
    scores = clip_scores(generator.retriever, prompts, drawn) if generator.retriever else None
    rows = []
    for index, text in enumerate(prompts):
        order = range(samples) if scores is None else np.argsort(-scores[index], kind="stable").tolist()
        for rank, number in enumerate(order):
            row = {"file": _save(drawn[index, number], out / f"picture_{index}_{rank}.png"), "prompt": text}
            rows.append(row if scores is None else row | {"clip_score": round(float(scores[index, number]), 4)})
    return rows


def _fill(
    generator: Generator,
    prompts: list[str],
    pictures: list[np.ndarray],
    mask: np.ndarray,
    retrieved: int,
    sampling: SamplingConfig,
    out: pathlib.Path,
) -> list[dict[str, Any]]:
    """Draws anew, in each picture, what is white in the mask."""
    from cm3leon_jax.sampling.pipeline import hidden_cells

    cells = hidden_cells(mask.mean(axis=-1) > 127, generator.image_tokenizer.grid)
    hidden = np.repeat(cells[None], len(pictures), axis=0)
    filled = generator.fill_image(
        prompts, np.stack(pictures), hidden, retrieved=retrieved, sampling=sampling, label="filling in"
    )
    return [
        {"file": _save(picture, out / f"filled_{index}.png"), "prompt": prompts[index]}
        for index, picture in enumerate(filled)
    ]


def _read(file: str, generator: Generator) -> np.ndarray:
    """An image file at the image tokenizer's resolution, uint8 [R, R, 3]."""
    from cm3leon_jax.data.sources.images import UnreadableImage, decode_image, fit_image

    try:
        return fit_image(decode_image(pathlib.Path(file).read_bytes()), generator.image_tokenizer.resolution)
    except (OSError, UnreadableImage) as error:
        raise UserError(f"the image {file} cannot be used: {error}; name a readable PNG or JPEG file") from None


def _save(picture: np.ndarray, path: pathlib.Path) -> str:
    from PIL import Image

    from cm3leon_jax.runtime.files import written_aside

    with written_aside(path) as aside:
        Image.fromarray(picture).save(aside, "PNG")
    return str(path)
