"""What is to be prepared, as each worker is told it: how to open the source and the models, and where the work lies."""

from __future__ import annotations

import dataclasses
import functools
import pathlib
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cm3leon_jax.data.prepare.config import Settings
from cm3leon_jax.data.sources import Source, SourceShard
from cm3leon_jax.runtime.files import Path, as_path, fingerprint

if TYPE_CHECKING:
    from cm3leon_jax.retrieval.clip.retriever import Retriever
    from cm3leon_jax.tokenizers.image.tokenizer import ImageTokenizer
    from cm3leon_jax.tokenizers.text import TextTokenizer

FORMAT = 4  # of the work: what was begun by another version is not continued


class NoRetriever:
    """Stands where there is none: nothing is embedded, and no document has neighbours."""

    dim = 0
    fingerprint = ""

    def embed_texts(self, texts: Sequence[str], *_: Any) -> np.ndarray:
        return np.zeros((len(texts), 0), np.float32)

    def embed_images(self, images: Sequence[np.ndarray], *_: Any) -> np.ndarray:
        return np.zeros((len(images), 0), np.float32)

    def combine(self, text: np.ndarray, image: np.ndarray) -> np.ndarray:
        del image
        return text


@dataclasses.dataclass(frozen=True)
class Models:
    text: TextTokenizer
    image: ImageTokenizer
    retriever: Retriever | NoRetriever

    @property
    def fingerprints(self) -> dict[str, str]:
        return {
            "text": self.text.fingerprint,
            "image": self.image.fingerprint,
            "retriever": self.retriever.fingerprint,
        }


@functools.lru_cache(maxsize=1)
def load_models(text_tokenizer: Path, image_tokenizer: Path, retriever: Path) -> Models:
    """Reads the three folders; the retriever's may be "". Raises `UserError`."""
    from cm3leon_jax.retrieval.clip.retriever import Retriever
    from cm3leon_jax.tokenizers.image.tokenizer import ImageTokenizer
    from cm3leon_jax.tokenizers.text import TextTokenizer

    found = Retriever.load(retriever) if retriever else NoRetriever()
    return Models(TextTokenizer.load(text_tokenizer), ImageTokenizer.load(image_tokenizer), found)


@dataclasses.dataclass(frozen=True)
class Job:
    """Goes to other processes and machines; what it opens stays where it was opened."""

    open_source: Callable[[], Source]
    open_models: Callable[[], Models]
    settings: Settings
    work: str  # the folder of unfinished work
    inputs: str = ""  # names source, models and settings: work that was begun with others is not continued

    @property
    def source(self) -> Source:
        return _opened(self).source

    @property
    def models(self) -> Models:
        return _opened(self).models

    @property
    def shards(self) -> Sequence[SourceShard]:
        return _opened(self).shards

    def path(self, *names: str) -> pathlib.Path:
        return as_path(self.work).joinpath(*names)

    def with_inputs(self) -> Job:
        """Opens source and models."""
        found = _Opened(self)
        shards = [(shard.name, shard.fingerprint) for shard in found.shards]
        settings = dataclasses.asdict(self.settings) | {"prepare": self.settings.prepare.of_the_result}
        inputs = fingerprint(FORMAT, shards, found.models.fingerprints, settings)
        job = dataclasses.replace(self, inputs=inputs)
        _LAST.clear()
        _LAST[job.work, inputs] = found
        return job


class _Opened:
    def __init__(self, job: Job):
        self.source = job.open_source()
        self.models = job.open_models()
        self.shards = self.source.shards(job.settings.prepare.examples_per_shard)


# Models take seconds to load and a source to list, and a worker gets the job anew with each piece of work.
_LAST: dict[tuple[str, str], _Opened] = {}
_LOCK = threading.Lock()


def _opened(job: Job) -> _Opened:
    key = job.work, job.inputs
    with _LOCK:
        if key not in _LAST:
            _LAST.clear()
            _LAST[key] = _Opened(job)
        return _LAST[key]
