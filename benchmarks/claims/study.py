"""What is trained and what is drawn: the study as data. Settings of training are gin files in gin_configs/claims."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Any

from cm3leon_jax.runtime.errors import UserError

GIN = "claims/{size}"
SIZES = ("cpu", "gpu")

# How each variant of the decoder differs from gin_configs/claims/*.gin.
VARIANTS: dict[str, tuple[str, ...]] = {
    "retrieval": (),
    "no_retrieval": ("PretrainingConfig.retrieval_augmented_rate=0.0", "PretrainingConfig.plain_rate=1.0"),
    "no_hidden_captions": ("ObjectiveConfig.whole_segment_probability=0.0",),
}
# Two worlds of the same creatures: decoders are trained on "known", all else on "bank", which shows all of them.
WORLDS: dict[str, tuple[str, ...]] = {
    "known": (),
    "bank": ("CreaturesConfig.bank_only_share=0.1",),
}


@dataclasses.dataclass(frozen=True)
class Study:
    """Folders, and how much is done. `directory` holds all that is made but the demo, which the fourth claim uses."""

    directory: pathlib.Path
    size: str = "cpu"
    seeds: int = 3  # decoders of each variant
    known: int = 300  # test pictures of known creatures that are scored
    bank_only: int = 100  # and of those in the memory bank alone
    many: int = 200  # of the known ones, those that are drawn `samples` times
    samples: int = 16
    validation: int = 150  # validation pictures that settings are chosen on
    fine_tunings: int = 3  # of the demo's decoder; 0 leaves the fourth claim out
    bindings: tuple[str, ...] = ()  # further gin bindings of all commands: NAME=VALUE

    def __post_init__(self) -> None:
        if self.size not in SIZES:
            raise UserError(f"unknown size {self.size!r} of the study; choose one of {', '.join(SIZES)}")
        if self.seeds < 1 or min(self.known, self.bank_only, self.many, self.samples, self.validation) < 1:
            raise UserError("the study needs at least one seed, picture and sample of each kind")
        if self.many > self.known:
            raise UserError(f"{self.many} pictures to draw many times are more than the {self.known} known ones")

    def path(self, *parts: str) -> str:
        return str(self.directory.joinpath(*parts))

    @property
    def models(self) -> dict[str, str]:
        """Options that name the tokenizers and the retriever."""
        return {
            "text_tokenizer": self.path("text_tokenizer/model"),
            "image_tokenizer": self.path("image_tokenizer/model"),
            "retriever": self.path("retriever/model"),
        }

    def source(self, world: str) -> str:
        return f"creatures:{self.path(f'creatures_{world}/data')}"

    def prepared(self, world: str) -> str:
        return self.path(f"prepared_{world}", "data")

    def decoder(self, variant: str, seed: int) -> str:
        return self.path("decoders", f"{variant}_{seed}")


Command = tuple[str, dict[str, Any], tuple[str, ...]]  # of cm3leon: name, options, gin bindings


def shared_commands(study: Study) -> list[Command]:
    """What is made once: worlds, tokenizers, the retriever, and what decoders and the memory bank read of them."""
    commands: list[Command] = [
        ("creatures", {"directory": study.path(f"creatures_{world}")}, bindings) for world, bindings in WORLDS.items()
    ]
    everybody = {"source": study.source("bank")}
    commands += [
        ("train-text-tokenizer", everybody | {"directory": study.path("text_tokenizer")}, ()),
        ("train-image-tokenizer", everybody | {"directory": study.path("image_tokenizer")}, ()),
    ]
    retriever = everybody | {"directory": study.path("retriever")}
    commands.append(("train-retriever", retriever | {"text_tokenizer": study.models["text_tokenizer"]}, ()))
    for world in ("known", "bank"):
        options = {"source": study.source(world), "directory": study.path(f"prepared_{world}")}
        commands.append(("prepare", options | study.models, ()))
    return commands


def training_command(study: Study, variant: str, seed: int) -> Command:
    """Training one decoder. It never sees a creature of the memory bank alone."""
    options = {"prepared": study.prepared("known"), "directory": study.decoder(variant, seed), "seed": seed}
    options |= {name: study.models[name] for name in ("text_tokenizer", "image_tokenizer")}
    return "train", options, (*VARIANTS[variant], f"StreamConfig.seed={seed}")


def arguments_of(study: Study, command: Command) -> list[str]:
    """The command line behind `cm3leon`."""
    name, options, bindings = command
    given = [part for key, value in options.items() for part in (f"--{key}", str(value))]
    return [
        name,
        "--gin_file",
        GIN.format(size=study.size),
        *given,
        *(f"--gin.{binding}" for binding in (*bindings, *study.bindings)),
    ]
