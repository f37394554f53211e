"""Settings of the mixtures of pretraining and fine-tuning, and of the batches that are made of them."""

from __future__ import annotations

import dataclasses

from cm3leon_jax.runtime.errors import UserError

PACKINGS = ("straddle", "whole")


@dataclasses.dataclass(frozen=True)
class PretrainingConfig:
    """What the pretraining mixture is made of. CM3Leon: every pair behind three retrieved documents."""

    retrieved_min: int = 3  # retrieved documents before a pair: fewest …
    retrieved_max: int = 3  # … and most; each number between is as likely
    retrieval_augmented_rate: float = 1.0  # examples, relative to plain_rate; 0 leaves the task out
    # Pairs without retrieved documents. A model can do without: the first retrieved document has nothing before it, and
    # is learned with full weight. Where a row has no room for retrieved documents, these are the rest of the mixture.
    plain_rate: float = 0.0
    text_only_rate: float = 0.0  # documents without images
    interleaved_rate: float = 0.0  # documents of several texts and images

    def __post_init__(self) -> None:
        if not 0 <= self.retrieved_min <= self.retrieved_max:
            raise UserError(f"retrieved_min {self.retrieved_min} to retrieved_max {self.retrieved_max} is no range")
        rates = (self.retrieval_augmented_rate, self.plain_rate, self.text_only_rate, self.interleaved_rate)
        if min(rates) < 0 or not any(rates):
            raise UserError("the rates of a mixture must not be negative, and one of them must be over 0")


LOSSES = ("sequence", "answer")


@dataclasses.dataclass(frozen=True)
class FinetuningConfig:
    """What the fine-tuning mixture is made of (CM3Leon §4). Without `folders`, a run is pretraining."""

    # Folders of prepared instructions, each with one or several sources; a source is a task of its own.
    folders: tuple[str, ...] = ()
    # Sources are brought to equal sizes, their mean, as far as these allow: an example of the smallest ones is used up
    # to so many times as often as one of a source of that size, of the largest so seldom (the paper's 3/0.3). Sources
    # that were prepared with weights have those.
    most_repeats: float = 3.0
    least_repeats: float = 0.3
    # "sequence": CM3's objective over everything, the paper's. "answer": answers in texts are always hidden, nothing
    # else is, and only answers count in the loss.
    loss: str = "sequence"

    @property
    def answers_alone(self) -> bool:
        return self.loss == "answer"

    def __post_init__(self) -> None:
        if self.loss not in LOSSES:
            raise UserError(f"unknown FinetuningConfig.loss {self.loss!r}; use one of {', '.join(LOSSES)}")
        if not 0 < self.least_repeats <= 1 <= self.most_repeats:
            raise UserError(
                f"least_repeats {self.least_repeats} and most_repeats {self.most_repeats}: 0 < least <= 1 <= most"
            )


@dataclasses.dataclass(frozen=True)
class StreamConfig:
    """The shape of the batches, and what of the data goes into which."""

    length: int = 4096  # tokens in a row: the model's context
    batch_size: int = 256  # rows of the global batch
    lanes: int = 64  # a multiple of every number of hosts to be used, and a divisor of batch_size; fixed for a run
    packing: str = "straddle"  # "straddle": CM3Leon's, blocks cut through examples; "whole": whole examples, kept apart
    # Whether a block of "straddle" may begin with the rest of an image that the one before cut through. If not, that
    # rest is left out, up to an eighth of all tokens. And examples that are a little longer than a block, as those of
    # three retrieved documents are, then lock to blocks: the same part of one of their images is left out every time.
    begin_inside_images: bool = True
    lookahead: int = 16  # examples a lane holds to fill its rows well; for "whole"
    # Steps between two fresh starts of a lane. A restart replays at most so many; about one row's ids of a lane are
    # left out at each, 0.3% of them where a lane has one row of a step.
    chapter_steps: int = 320
    seed: int = 0  # of everything random in the data

    def __post_init__(self) -> None:
        for name in ("length", "batch_size", "lanes", "lookahead", "chapter_steps"):
            if getattr(self, name) < 1:
                raise UserError(f"the stream's {name} must be at least 1, not {getattr(self, name)}")
        if not 0 <= self.seed < 2**63:
            raise UserError(f"the stream's seed must lie in 0 … 2^63 - 1, not {self.seed}")
        if self.packing not in PACKINGS:
            raise UserError(f"unknown packing {self.packing!r}; use one of {', '.join(PACKINGS)}")
        if self.batch_size % self.lanes:
            raise UserError(f"{self.batch_size} rows do not divide into {self.lanes} lanes; change batch_size or lanes")
