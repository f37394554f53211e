"""The suite `perplexity`: held-out documents by modality and by the number of retrieved ones before them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from cm3leon_jax.data.held_out import Batching, evaluation_batches
from cm3leon_jax.data.packing import Row
from cm3leon_jax.data.shards import PreparedData
from cm3leon_jax.evaluation.metrics.score import Score
from cm3leon_jax.evaluation.suites.result import Count, Figure, SuiteResult, figures_of
from cm3leon_jax.evaluation.suites.text_to_image import documents
from cm3leon_jax.evaluation.suites.work import Work
from cm3leon_jax.model.config import DecoderConfig
from cm3leon_jax.model.folder import load_decoder
from cm3leon_jax.runtime import hosts
from cm3leon_jax.runtime.compute_dtype import Use
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.runtime.files import read_json_lines
from cm3leon_jax.runtime.progress import progress
from cm3leon_jax.sampling.pieces import RESULTS_FILE, Pieces
from cm3leon_jax.tokenizers.image.tokenizer import ImageTokenizer
from cm3leon_jax.tokenizers.text import TextTokenizer
from cm3leon_jax.training.evaluate import make_token_losses
from cm3leon_jax.training.step import StepConfig
from cm3leon_jax.vocabulary import UNK_ID, Vocabulary

_PIECE = 64  # rows that are finished at once
_KINDS = ("text", "images", "all tokens")


def perplexity(work: Work) -> SuiteResult:
    """exp of the mean loss of the documents' own tokens, teacher-forced, for each number of documents in
    `SuitesConfig.retrieved`. Intervals are over documents. Retrieved ones that leave no room are left out."""
    config, vocabulary, params = load_decoder(work.models.options["decoder"])
    data = work.models.prepared
    assert data is not None  # the table says that it is needed
    options = work.models.options
    data.check(
        text=TextTokenizer.load(options["text_tokenizer"]).fingerprint,
        image=ImageTokenizer.load(options["image_tokenizer"]).fingerprint,
    )
    if data.vocabulary != vocabulary:
        raise UserError(f"{data.directory} was prepared for another vocabulary than the decoder's; name its own data")
    # As it is sampled from: in one dtype on all machines that share the work.
    config = config.computing_in(Use.SAMPLING, work.models.partitioning.platform)
    losses_of = make_token_losses(config, params, work.models.partitioning, StepConfig())
    figures: list[Figure] = []
    scored = 0
    for count in work.config.retrieved:
        sums_Nx3x2 = _measured(work, data, count, config, losses_of)
        scored = len(sums_Nx3x2)
        figures += figures_of(documents(count), perplexities(sums_Nx3x2), seed=work.config.seed)
    return SuiteResult(figures, {"prepared": Count(f"{data.directory}, {work.split}", scored, {}, {})})


def perplexities(sums_Nx3x2: np.ndarray) -> dict[str, Score]:
    """Of each document the summed losses (nats) and numbers of tokens, of text, of images and of all -> perplexities.
    A document counts by its tokens; one without text says nothing about text."""

    def of_sums(sums: np.ndarray) -> np.ndarray:
        return np.exp(sums[..., 0] / np.maximum(sums[..., 1], 1))

    return {
        f"perplexity, {kind}": Score(sums_Nx3x2[sums_Nx3x2[:, number, 1] > 0, number], of_sums=of_sums)
        for number, kind in enumerate(_KINDS)
    }


def document_sums(losses_BxL: np.ndarray, batch: Row, vocabulary: Vocabulary) -> list[np.ndarray]:
    """Losses of the targets of a batch -> for each row float64 [documents, 3, 2] as `perplexities` takes them. A
    document is a segment of a row."""
    targets, counts = batch["targets"], batch["weights"] > 0
    is_text = (targets >= UNK_ID) & (targets < vocabulary.text_size)
    is_image = (targets >= vocabulary.image_offset) & (targets < vocabulary.break_id)
    found = []
    for row, segments in enumerate(batch["segments"]):
        documents_of_row = []
        for segment in range(1, int(segments.max()) + 1):
            own = (segments == segment) & counts[row]
            chosen = [own & is_text[row], own & is_image[row], own]
            documents_of_row.append([(float(losses_BxL[row][each].sum()), int(each.sum())) for each in chosen])
        found.append(np.array(documents_of_row, np.float64).reshape(-1, 3, 2))
    return found


def _measured(
    work: Work, data: PreparedData, count: int, config: DecoderConfig, losses_of: Callable[[Row], np.ndarray]
) -> np.ndarray:
    """The sums of all documents with so many retrieved ones: piece by piece, shared by all processes."""
    vocabulary = data.vocabulary
    out = work.directory / f"losses_{count}"
    batching = Batching(
        length=config.max_length,
        batch_size=1,
        limit=work.config.examples or work.config.documents or None,
        position_rule=config.position_rule,
    )
    rows = evaluation_batches(data, work.split, batching, retrieved=count)
    pieces, together = Pieces(out, len(rows), _PIECE), work.models.partitioning.batch_shards
    due = pieces.due
    with progress(label=f"losses, {documents(count)}", total=sum(map(len, due.values())), unit="rows") as bar:
        for number, places in due.items():
            found = []
            for first in range(0, len(places), together):
                some = list(places[first : first + together])
                filled = some + some[-1:] * (together - len(some))
                batch = {name: np.concatenate([rows[place][name] for place in filled]) for name in rows[0]}
                sums = document_sums(losses_of(batch), batch, vocabulary)
                found += [{"row": place, "sums": each.tolist()} for place, each in zip(some, sums, strict=False)]
                bar.update(len(some))
            pieces.finish(number, found)
    hosts.gather(None)
    if hosts.is_first():
        pieces.join()
    hosts.tell(lambda: None)
    results = read_json_lines(out / RESULTS_FILE)
    return np.concatenate([np.array(each["sums"], np.float64).reshape(-1, 3, 2) for each in results])
