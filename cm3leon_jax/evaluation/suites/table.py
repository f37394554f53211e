"""The suites: what each needs, and the function that runs it."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import NamedTuple

from cm3leon_jax.evaluation.suites.result import SuiteResult
from cm3leon_jax.evaluation.suites.work import Work

_DECODER = ("decoder", "text_tokenizer", "image_tokenizer")
_ASKED = ("examples", "seed", "piece")  # what suites read that ask the model about examples, piece by piece
_ANSWERED = (*_ASKED, "text_rule", "answer_tokens")


class Suite(NamedTuple):
    """`function`: "module.function" below `cm3leon_jax.evaluation`, Work -> SuiteResult, imported when it is run. All
    processes of a run call it alike, and all get the result."""

    function: str
    summary: str
    data: tuple[str, ...] = ()  # fields of SuitesConfig that name data, of which one at least is set
    needs: tuple[str, ...] = _DECODER  # options of the command
    takes: tuple[str, ...] = ()  # options that may be missing
    reads: tuple[str, ...] = ()  # other fields of SuitesConfig that the result depends on
    # Fields that change what is kept or shown of what was asked: a folder that is there is gone through again.
    extendable: tuple[str, ...] = ("most_left_out", "shown")
    files: tuple[str, ...] = ()  # fields that name files or folders: the result depends on what they hold
    decoders: tuple[str, ...] = ()  # fields that name other decoders

    def load(self) -> Callable[[Work], SuiteResult]:
        module, _, function = self.function.rpartition(".")
        return getattr(importlib.import_module(f"cm3leon_jax.evaluation.{module}"), function)


SUITES: dict[str, Suite] = {
    "vqa2": Suite("suites.vqa.vqa2", "VQA accuracy on VQA v2", ("vqa2",), reads=_ANSWERED),
    "okvqa": Suite("suites.vqa.okvqa", "VQA accuracy on OKVQA", ("okvqa",), reads=_ANSWERED),
    "vizwiz": Suite("suites.vqa.vizwiz", "VizWiz: accuracy and answerability", ("vizwiz",), reads=_ANSWERED),
    "captioning": Suite(
        "suites.captioning.captioning",
        "captions of pictures, against people's",
        ("coco_captions", "flickr30k", "image_paragraph"),
        reads=(*_ASKED, "text_rule", "caption_tokens", "paragraph_tokens", "meteor_jar", "meteor_paraphrases"),
        files=("meteor_jar", "meteor_paraphrases"),
    ),
    "text_to_image": Suite(
        "suites.text_to_image.text_to_image",
        "pictures drawn from captions, against real ones",
        ("text_to_image",),
        takes=("retriever", "prepared"),
        reads=(
            *(*_ASKED, "captions", "samples", "retrieved", "network", "network_weights", "statistics"),
            *("clip_distances", "distance_draws"),
        ),
        files=("network_weights", "statistics"),
    ),
    "scienceqa": Suite(
        "suites.scienceqa.evaluate_scienceqa",
        "ScienceQA, with and without explanation",
        ("scienceqa",),
        reads=(*_ANSWERED, "explanation_tokens"),
    ),
    "visdial": Suite(
        "suites.visdial.visdial",
        "Visual Dialog: candidates ranked by likelihood",
        ("visdial",),
        reads=(*_ASKED, "visdial_history", "visdial_all_rounds", "length_normalized"),
    ),
    "retrieval": Suite(
        "suites.retrieval.retrieval",
        "the retriever on held-out pairs, the memory bank against exact search",
        ("retrieval",),
        needs=("retriever",),
        takes=("prepared",),
        reads=("examples", "seed"),
    ),
    "scene_tasks": Suite(
        "scene_tasks.suite.scene_tasks",
        "exact scores on the scenes' tasks of fine-tuning",
        needs=(*_DECODER, "source"),
        reads=("examples", "before"),
        extendable=(),
        decoders=("before",),
    ),
    "perplexity": Suite(
        "suites.perplexity.perplexity",
        "perplexity of held-out documents, by modality and retrieved documents",
        needs=(*_DECODER, "prepared"),
        reads=("examples", "seed", "retrieved", "documents"),
        extendable=(),
    ),
}
PAPER = "paper"  # runs those of `paper_rows.SUITES` whose data are named
