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
    task: str | None = None,
    question: list[str] | None = None,
    context: list[str] | None = None,
    choices: list[str] | None = None,
    text: list[str] | None = None,
    objects: list[str] | None = None,
    wording: int | None = None,
    requests: str | None = None,
    retrieved: int = 0,
    samples: int = 1,
    keep: int = 0,
    max_tokens: int = 64,
    batch_size: int = 64,
    piece: int = 256,
    output: str = "samples",
) -> None:
    """--prompt TEXT draws pictures; --image FILE writes a caption; both with --mask FILE fill in what is white in it;
    --instruction TEXT with --image FILE changes the picture. Each may be repeated.

    --task NAME asks a decoder that was fine-tuned on that task, in the words of training (docs/sampling.md): vqa with
    --image and --question, science with --context and --choices too, caption, paragraph and narrative with --image,
    edit with --image and --instruction, ground with --prompt and --objects, text_rendering with --text, and canny,
    segmentation, hed, pose, depth, normal and scribble with --image and --prompt. Of its wordings it takes number
    --wording N. Texts that are written have --max_tokens N at most.

    --retrieved N puts N documents of the memory bank before each prompt (needs --prepared and --retriever).
    --samples N draws N of each; with --retriever the best, by CLIP, comes first; --keep N keeps the best N.
    Pictures are written to OUTPUT, with results.jsonl beside them.

    --requests FILE answers a file with a request in each line (docs/sampling.md), --piece of them at a time. Stopped,
    the same command continues; several processes share the work."""
    from cm3leon_jax.commands.sample_options import requests_of
    from cm3leon_jax.commands.stage import run_stage
    from cm3leon_jax.model.partitioning import local_partitioning
    from cm3leon_jax.runtime.files import fingerprint, sha256_of_file
    from cm3leon_jax.runtime.model_folder import model_fingerprint
    from cm3leon_jax.sampling import request_file
    from cm3leon_jax.sampling.pipeline import Generator
    from cm3leon_jax.sampling.requests import RequestReader
    from cm3leon_jax.tokenizers.text import TextTokenizer

    repeated = {"image": image, "prompt": prompt, "instruction": instruction, "question": question}
    repeated |= {"context": context, "choices": choices, "text": text, "objects": objects}
    rows = requests_of(repeated, mask, task, wording)
    _check(rows, requests)
    check_at_least(0, retrieved=retrieved, keep=keep)
    check_at_least(1, samples=samples, batch_size=batch_size, piece=piece, max_tokens=max_tokens)
    if retrieved and task:
        raise UserError("a task is asked for without retrieved documents; leave out --retrieved")
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
            max_tokens=max_tokens,
        )

    if not requests:
        _answer(*opened(), rows, output, keep)
        return
    asked = request_file.read_rows(requests)

    def work() -> None:
        generator, reader = opened()
        speed = request_file.answer_file(generator, reader, asked, output, piece=piece, keep=keep)
        request_file.tell_of(output, speed)

    settings: dict[str, Any] = {"requests": sha256_of_file(requests), "retrieved": retrieved, "samples": samples}
    models = [TextTokenizer.load(text_tokenizer).fingerprint]
    models += [model_fingerprint(folder) for folder in (decoder, image_tokenizer, retriever) if folder]
    settings |= {"models": fingerprint(*models, prepared), "sampling": sampling, "precision": precision, "piece": piece}
    settings |= {"keep": keep, "max_tokens": max_tokens}
    run_stage(output, "sample", settings=settings, extendable={}, work=work)


def _check(rows: list, requests: str | None) -> None:
    from cm3leon_jax.runtime import hosts

    if bool(rows) == bool(requests):
        raise UserError(
            "what is to be sampled? give --prompt TEXT, --image FILE, both with --mask FILE, --instruction TEXT with "
            "--image FILE, --task NAME with its fields, or --requests FILE alone"
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
            print(f"{'  '.join(answer['images'])}{score}  {' | '.join(answer['answer'] or answer['texts'])}")
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
