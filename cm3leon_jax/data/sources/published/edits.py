"""InstructPix2Pix: a picture, what is to be changed, and the changed picture. Two forms are published.

parquet, on the Hugging Face Hub: original_image, edit_prompt, edited_image, and the prompts that they were drawn for
a folder: seeds.json: [["0000000", ["1035", …]], …]; 0000000/prompt.json: {"edit", "input", "output"};
    0000000/1035_0.jpg before and 0000000/1035_1.jpg after
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from typing import Any

from cm3leon_jax.data.sources.entries import Entry, EntrySource, printable
from cm3leon_jax.data.sources.files import FileSource
from cm3leon_jax.data.sources.instructions import instruction, instruction_entry
from cm3leon_jax.data.sources.published.fields import kept, parse_json, read_list, text
from cm3leon_jax.data.sources.published.pictures import Pictures, check_inside
from cm3leon_jax.data.sources.published.request import Request
from cm3leon_jax.data.sources.published.tables import Place, table_source
from cm3leon_jax.runtime.files import as_path
from cm3leon_jax.runtime.progress import progress

_SUFFIXES = (".jpg", ".png")


def instructpix2pix_source(request: Request) -> EntrySource | FileSource:
    """`instructpix2pix:FOLDER` with seeds.json, or `instructpix2pix:PATTERN` of parquet files. An id is the folder and
    the seed, or the file and the row; all seeds of a folder, and rows of the same prompts, are held out together."""
    seeds = as_path(request.where) / "seeds.json"
    if not seeds.exists():
        return _of_tables(request)
    request.refuse_split("folders with seeds.json")
    pictures = request.pictures()
    listed = progress(read_list(str(seeds), hint=request.hint), label="reading prompts", unit="folders", delay=2.0)
    return request.source((entry for row in listed for entry in _of_folder(row, request.root, pictures)), pictures)


def _of_tables(request: Request) -> FileSource:
    def make(row: dict[str, Any], id: str, places: list[Place]) -> Entry:
        metadata, edit = kept(row, "original_prompt", "edited_prompt"), text(row, "edit_prompt")
        group = f"{metadata.get('original_prompt', id)}\n{edit}"  # up to four rows were drawn for the same two
        return instruction_entry(id, instruction("edit", instruction=edit), places, metadata, group=group)

    return table_source(request, ("original_image", "edited_image"), ("edit_prompt",), make)


def _of_folder(row: Any, root: str, pictures: Pictures) -> Iterator[Entry]:
    """The examples of one row of seeds.json."""
    folder, seeds = row if isinstance(row, list) and len(row) == 2 else (None, None)
    if not isinstance(folder, str) or not isinstance(seeds, list) or not folder:
        yield Entry(f"seeds.json: {printable(str(row))[:80]}", reason="not [FOLDER, [SEED, …]]")
        return
    name = printable(folder)
    try:
        prompt = _prompt(root, folder)
        said = instruction("edit", instruction=text(prompt, "edit"))
    except ValueError as error:
        yield Entry(name, reason=f"prompt.json: {error}")
        return
    metadata = kept(prompt, "input", "output")
    for seed in map(str, seeds):
        id = printable(f"{folder}/{seed}")
        try:
            places = [
                pictures.at(*(posixpath.join(folder, f"{seed}_{number}{suffix}") for suffix in _SUFFIXES))
                for number in (0, 1)
            ]
        except ValueError as error:
            yield Entry(id, reason=str(error), group=name)
            continue
        yield instruction_entry(id, said, places, metadata, group=name)


def _prompt(root: str, folder: str) -> dict[str, Any]:
    """`ValueError` where there is none that can be read."""
    check_inside(folder)
    try:
        prompt = parse_json((as_path(root) / folder / "prompt.json").read_bytes())
    except OSError as error:
        raise ValueError(f"it cannot be read ({error.strerror or error})") from None
    if not isinstance(prompt, dict):
        raise ValueError("not a JSON object")
    return prompt
