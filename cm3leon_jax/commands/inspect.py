"""`cm3leon inspect`."""

from __future__ import annotations

from cm3leon_jax.data.objective import ObjectiveConfig
from cm3leon_jax.data.settings import FinetuningConfig, PretrainingConfig, StreamConfig

_WHAT = ("sequences", "documents", "bank")


def inspect(
    prepared: str,
    pretraining: PretrainingConfig,
    finetuning: FinetuningConfig,
    objective: ObjectiveConfig,
    stream: StreamConfig,
    text_tokenizer: str | None = None,
    image_tokenizer: str | None = None,
    what: str | None = None,
    task: str = "pretraining",
    split: str = "train",
    ids: str = "",
    count: int = 8,
    seed: int = 0,
    candidates: int = 20,
    left_out: int = 20,
    output: str = "inspect.html",
) -> None:
    """Writes a page about prepared data or a memory bank, in the folder PREPARED, to the file OUTPUT.

    WHAT: sequences   COUNT training sequences of TASK, as the model is trained on them (also printed); their lengths,
                      and how they fill the rows of the training stream
          documents   COUNT documents of SPLIT with their neighbours, and at most CANDIDATES of each search with why
                      they were taken or passed over; the first LEFT_OUT duplicates and bad examples; sizes
          bank        the memory bank; the nearest of COUNT documents
    By default: sequences, or bank where PREPARED is a memory bank alone.

    IDS: documents to show instead of COUNT at random, as in a.png,b.png.
    TASK: pretraining (the mixture) or one of its tasks, such as pretraining.plain_pairs; of prepared instructions
    finetuning, or one of its tasks, such as finetuning.vqa."""
    from cm3leon_jax.data.inspection.pages import bank_page, documents_page, is_bank_alone, sequences_page
    from cm3leon_jax.data.instruction_tasks import finetuning_mixture
    from cm3leon_jax.data.objective import Objective
    from cm3leon_jax.data.shards import PreparedData
    from cm3leon_jax.data.tasks import pretraining_mixture
    from cm3leon_jax.retrieval.memory_bank import MemoryBank
    from cm3leon_jax.runtime.errors import UserError
    from cm3leon_jax.runtime.files import written_aside
    from cm3leon_jax.tokenizers.image.tokenizer import ImageTokenizer
    from cm3leon_jax.tokenizers.text import TextTokenizer

    for name, number in (("count", count), ("candidates", candidates), ("left_out", left_out)):
        if number < 1:
            raise UserError(f"--{name} {number}: give at least 1")
    if what not in (None, *_WHAT):
        raise UserError(f"--what {what}: use one of {', '.join(_WHAT)}")
    alone = is_bank_alone(prepared)
    what = what or ("bank" if alone else "sequences")
    if alone and what != "bank":
        raise UserError(f"{prepared} is a memory bank alone; for {what}, name the folder of prepared data")
    if ids and what == "sequences":
        raise UserError("--ids names documents: add --what documents, or --what bank")
    data = None if alone else PreparedData(prepared)
    image = None if alone or image_tokenizer is None else ImageTokenizer.load(image_tokenizer)
    if data and image:
        data.check(image=image.fingerprint)
    wanted = [id for id in ids.split(",") if id]

    if data is None or what == "bank":
        bank = MemoryBank.load(prepared if data is None else data.memory_bank_directory)
        page = bank_page(bank, data, image, ids=wanted, count=count, seed=seed)
    else:
        if text_tokenizer is None or image is None:
            missing = "text_tokenizer" if text_tokenizer is None else "image_tokenizer"
            raise UserError(f"inspect needs --{missing} VALUE to show {what}")
        text = TextTokenizer.load(text_tokenizer)
        data.check(text=text.fingerprint)
        if what == "documents":
            page = documents_page(
                data, split, text, image, ids=wanted, count=count, seed=seed, candidates=candidates, rows=left_out
            )
        else:
            answers_alone = False
            if task.partition(".")[0] == "finetuning":
                answers_alone = finetuning.answers_alone
                mixing = finetuning_mixture("finetuning", [data], finetuning, text)
            else:
                mixing = pretraining_mixture(prepared, "pretraining", pretraining, text)
            with mixing:
                hiding = Objective(data.vocabulary, objective, answers_alone)
                found, page = sequences_page(task, split, data, text, image, stream, hiding, count=count, seed=seed)
            print(found.text)
    with written_aside(output) as aside:
        aside.write_text(page, encoding="utf-8")
    print(f"wrote {output}")
