"""A process that draws with one decoder and scores what it drew: `python -m benchmarks.claims.drawing REQUEST.json`.

Each drawing is a file of its own, so that what is there is not drawn again: for every picture and sample, how many of
the creatures asked for are right, and how close CLIP finds it to its caption. The pictures of the first few are kept.
"""

from __future__ import annotations

import dataclasses
import pathlib
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from cm3leon_jax.cli import exit_status
from cm3leon_jax.runtime.files import fingerprint, read_json, write_json
from cm3leon_jax.runtime.platform import prepare_process

if TYPE_CHECKING:  # the process is prepared before anything heavy is imported
    from cm3leon_jax.data.sources.creatures import CreaturesSource
    from cm3leon_jax.sampling.pipeline import Generator

KEPT = 8  # pictures of each group that are kept for the page


@dataclasses.dataclass(frozen=True)
class Drawing:
    """What is drawn, in full: equal drawings of equal decoders are equal."""

    split: str
    known: int  # pictures
    bank_only: int
    retrieved: int  # documents
    samples: int
    sampling: dict[str, Any]  # fields of SamplingConfig

    @property
    def name(self) -> str:
        rule = "_".join(str(value) for value in self.sampling.values())
        return f"{self.split}_{self.retrieved}_{self.samples}_{rule}_{fingerprint(dataclasses.asdict(self))[:8]}"

    def path(self, directory: str) -> pathlib.Path:
        return pathlib.Path(directory) / f"{self.name}.json"


def missing(drawings: Sequence[Drawing], directory: str) -> list[Drawing]:
    """Those of which there is no result in `directory` yet, each once."""
    once = {drawing.name: drawing for drawing in drawings}
    return [drawing for drawing in once.values() if not drawing.path(directory).exists()]


def work(request: dict[str, Any]) -> None:
    from cm3leon_jax.data.sources import open_source
    from cm3leon_jax.sampling.pipeline import Generator

    source: Any = open_source(request["source"])
    generator = Generator.load(request["decoder"], **request["models"], prepared=request["prepared"])
    for drawing in (Drawing(**each) for each in request["drawings"]):
        draw(drawing, generator, source, drawing.path(request["directory"]))


def draw(drawing: Drawing, generator: Generator, source: CreaturesSource, path: pathlib.Path) -> None:
    """Writes the scores to `path`, and the first pictures beside them."""
    import numpy as np

    from benchmarks.claims.pictures import asked, found_by_name, right, wanted_pictures
    from cm3leon_jax.sampling.best_of import clip_scores
    from cm3leon_jax.sampling.rules import SamplingConfig

    started = time.perf_counter()
    encoder, tokenizer = generator.retriever, generator.image_tokenizer
    assert encoder is not None
    wanted = wanted_pictures(source, drawing.split, drawing.known, drawing.bank_only)
    texts = [want.caption for want in wanted]
    documents = generator.retrieve(texts, drawing.retrieved)
    drawn = generator.text_to_image(
        texts,
        retrieved=documents,
        n=drawing.samples,
        sampling=SamplingConfig(**drawing.sampling),
        label=drawing.name,
    )
    captions = [[document.caption for document in row] for row in documents]
    behind = tokenizer.decode(tokenizer.encode(np.stack([want.image for want in wanted])))
    result = {
        "drawing": dataclasses.asdict(drawing),
        "asked": asked(wanted, source.world),
        "right": right(wanted, drawn, source.world),
        "retrieved": found_by_name(wanted, captions, source.world),
        "behind_tokenizer": {group: hits[:, 0] for group, hits in right(wanted, behind[:, None], source.world).items()},
        "clip": clip_scores(encoder, texts, drawn).round(5),
        "seconds": time.perf_counter() - started,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = kept_pictures(drawing.known, len(wanted))
    blank = np.full_like(wanted[0].image, 255)
    firsts = [documents[place][0].image if documents[place] else blank for place in kept]
    np.savez_compressed(path.with_suffix(".npz"), drawn=drawn[kept, 0], documents=np.stack(firsts))
    write_json(path, _as_lists(result))


def kept_pictures(known: int, count: int) -> list[int]:
    """The numbers of the pictures that are kept, of `count`, the first `known` being those of known creatures."""
    return [*range(min(KEPT, known)), *range(known, min(known + KEPT, count))]


def _as_lists(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _as_lists(item) for key, item in value.items()}
    return value.tolist() if hasattr(value, "tolist") else value


def main() -> int:
    (file,) = sys.argv[1:]
    prepare_process([file], program=("-m", "benchmarks.claims.drawing"))
    request = read_json(file, what="request to draw", make_with="python -m benchmarks.claims")
    return exit_status(lambda: work(request))


if __name__ == "__main__":
    sys.exit(main())
