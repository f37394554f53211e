"""`cm3leon sample`."""

from __future__ import annotations

import pathlib
from typing import TYPE_CHECKING, Any

from cm3leon_jax.model.partitioning import AxisRules, MeshConfig
from cm3leon_jax.runtime.errors import UserError, check_at_least
from cm3leon_jax.sampling.rules import SamplingConfig
from cm3leon_jax.sampling.weights import PrecisionConfig

if TYPE_CHECKING:
    from cm3leon_jax.sampling.pipeline import Generator
    from cm3leon_jax.sampling.requests import RequestReader


def sample(
    decoder: str,
    text_tokenizer: str,
    image_tokenizer: str,
    sampling: SamplingConfig,
    precision: PrecisionConfig,
    mesh: MeshConfig,
    rules: AxisRules,
    retriever: str | None = None,
    prepared: str | None = None,
    prompt: list[str] | None = None,
    image: list[str] | None = None,
    mask: str | None = None,
    instruction: list[str] | None = None,
    requests: str | None = None,
    retrieved: int = 0,
    samples: int = 1,
    keep: int = 0,
    batch_size: int = 64,
    piece: int = 256,
    output: str = "samples",
) -> None:
    """--prompt TEXT draws pictures; --image FILE writes a caption; both with --mask FILE fill in what is white in it;
    --instruction TEXT with --image FILE changes the picture. Each may be repeated.

    --retrieved N puts N documents of the memory bank before each prompt (needs --prepared and --retriever).
    --samples N draws N of each; with --retriever the best, by CLIP, comes first; --keep N keeps the best N.
    Pictures are written to OUTPUT, with results.jsonl beside them.

    --requests FILE answers a file with a request in each line (docs/sampling.md), --piece of them at a time. Stopped,
    the same command continues; several processes share the work."""
    from cm3leon_jax.commands.stage import run_stage
    from cm3leon_jax.model.partitioning import local_partitioning
    from cm3leon_jax.runtime.files import fingerprint, sha256_of_file
    from cm3leon_jax.runtime.model_folder import model_fingerprint
    from cm3leon_jax.sampling import request_file
    from cm3leon_jax.sampling.pipeline import Generator
    from cm3leon_jax.sampling.requests import RequestReader
    from cm3leon_jax.tokenizers.text import TextTokenizer

    rows = _rows(prompt or [], image or [], mask, instruction or [])
    _check(rows, requests)
    check_at_least(0, retrieved=retrieved, keep=keep)
    check_at_least(1, samples=samples, batch_size=batch_size, piece=piece)
    if retrieved and not (retriever and prepared):
        raise UserError("--retrieved N needs --prepared DATA and --retriever MODEL to look in")

    def opened() -> tuple[Generator, RequestReader]:
        generator = Generator.load(
            decoder,
            text_tokenizer,
            image_tokenizer,
            retriever=retriever,
            prepared=prepared,
            partitioning=local_partitioning(mesh, rules),  # each of several processes draws on its own
            batch_size=batch_size,
            precision=precision,
        )
        beside = pathlib.Path(requests).parent if requests else pathlib.Path()
        tokenizer = generator.image_tokenizer
        return generator, RequestReader(
            lambda name: _read_image(beside / name, tokenizer.resolution),
            tokenizer.grid,
            sampling,
            retrieved=retrieved,
            samples=samples,
        )

    if not requests:
        _answer(*opened(), rows, output, keep)
        return
    asked = request_file.read_rows(requests)

    def work() -> None:
        generator, reader = opened()
        speed = request_file.answer_file(generator, reader, asked, output, piece=piece, keep=keep)
        request_file.tell_of(output, speed)

    settings = {"requests": sha256_of_file(requests), "retrieved": retrieved, "samples": samples, "keep": keep}
    models = [TextTokenizer.load(text_tokenizer).fingerprint]
    models += [model_fingerprint(folder) for folder in (decoder, image_tokenizer, retriever) if folder]
    settings |= {"models": fingerprint(*models, prepared), "sampling": sampling, "precision": precision, "piece": piece}
    run_stage(output, "sample", settings=settings, extendable={}, work=work)


def _rows(prompts: list[str], images: list[str], mask: str | None, instructions: list[str]) -> list[dict[str, Any]]:
    """The options as requests."""
    if instructions:
        if len(instructions) != len(images) or prompts or mask:
            raise UserError("--instruction TEXT changes an --image FILE: one for each, without --prompt and --mask")
        return [{"instruction": text, "image": file} for text, file in zip(instructions, images, strict=True)]
    if mask is not None:
        if len(prompts) != len(images) or not prompts:
            raise UserError(f"filling in needs a --prompt for each --image; there are {len(prompts)} and {len(images)}")
        return [{"prompt": text, "image": file, "mask": mask} for text, file in zip(prompts, images, strict=True)]
    return [{"prompt": text} for text in prompts] + [{"image": file} for file in images]


def _check(rows: list, requests: str | None) -> None:
    from cm3leon_jax.runtime import hosts

    if bool(rows) == bool(requests):
        raise UserError(
            "what is to be sampled? give --prompt TEXT, --image FILE, both with --mask FILE, --instruction TEXT with "
            "--image FILE, or --requests FILE alone"
        )
    if rows and hosts.count() > 1:
        raise UserError("several processes share a file of requests; give --requests FILE, or start one process")


def _answer(generator: Generator, reader: RequestReader, rows: list[dict[str, Any]], output: str, keep: int) -> None:
    """Answers the few requests of the command line, and prints what was drawn."""
    from cm3leon_jax.commands.stage import write_operative_gin
    from cm3leon_jax.runtime.files import local_path, write_json_lines
    from cm3leon_jax.sampling.request_file import RESULTS_FILE, answer_rows

    out = local_path(output)
    results = answer_rows(generator, reader, list(enumerate(rows)), out, keep=keep, label="drawing")
    write_operative_gin(out)
    write_json_lines(out / RESULTS_FILE, results)
    for result in results:
        for answer in result.get("answers", ()):
            score = f"  {answer['clip_score']:.3f}" if "clip_score" in answer else ""
            print(f"{'  '.join(answer['images'])}{score}  {' | '.join(answer['texts'])}")
    print(f"in {out}")
    wrong = next((result for result in results if "error" in result), None)
    if wrong is not None:
        raise UserError(wrong["error"])


def _read_image(path: pathlib.Path, resolution: int) -> Any:
    """An image file at the image tokenizer's resolution, uint8 [R, R, 3]."""
    from cm3leon_jax.data.sources.images import UnreadableImage, decode_image, fit_image

    try:
        return fit_image(decode_image(path.read_bytes()), resolution)
    except (OSError, UnreadableImage) as error:
        raise UserError(f"the image {path} cannot be used: {error}; name a readable PNG or JPEG file") from None
