"""The commands. One module each, with one function that gin configures; the table says what `cm3leon --help` prints."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Command:
    """`module:function` below `cm3leon_jax.commands`, named lazily so that help and errors come at once."""

    target: str
    summary: str
    scope: str = ""  # of its gin bindings, where it is not the function's name
    many_processes: bool = False  # one run may be the work of several (`runtime/hosts.py`)


COMMANDS = {
    "scenes": Command("scenes:scenes", "render the embedded data set: scenes with captions, no download"),
    "creatures": Command("creatures:creatures", "make up named creatures: embedded data for what retrieval is worth"),
    "train-text-tokenizer": Command("train_text_tokenizer:train_text_tokenizer", "SentencePiece on your captions"),
    "train-image-tokenizer": Command("train_image_tokenizer:train_image_tokenizer", "VQGAN on your images"),
    "train-retriever": Command("train_retriever:train_retriever", "CLIP on your image-caption pairs"),
    "prepare": Command("prepare:prepare", "images and captions -> tokenized, embedded, indexed documents"),
    "inspect": Command("inspect:inspect", "pages about training sequences, documents and memory banks"),
    "train": Command("train:train", "pretrain or fine-tune the decoder; the gin files say which", many_processes=True),
    "speed": Command("speed:speed", "time a run's training steps on this machine, without its data", scope="train"),
    "plan": Command(
        "plan:plan", "compile a run for a TPU slice that is not there: does it fit, how fast", scope="train"
    ),
    "recipes": Command("recipes:recipes", "plan every size on every slice with a hardware file: docs/recipes.md"),
    "sample": Command(
        "sample:sample", "text -> image, image -> text, edited and filled-in images; one or a file", many_processes=True
    ),
    "serve": Command("serve:serve", "a web page to draw, edit, fill in and describe pictures on"),
    "export": Command("export:export", "the decoder and its tokenizers for Hugging Face, Orbax or StableHLO"),
    "import": Command("import_model:import_model", "a decoder, VQGAN (image tokenizer) or CLIP (retriever) of others"),
    "evaluate": Command(
        "evaluate:evaluate",
        "scores on held-out scenes, and on the data sets of the paper's tables",
        many_processes=True,
    ),
    "report": Command("report:report", "one self-contained page about a run"),
    "demo": Command("demo:demo", "the whole recipe on the embedded data, ending in a report"),
}
