"""Data sets for fine-tuning in the form in which they are published (CM3Leon's table of instruction data)."""

from __future__ import annotations

import importlib
from typing import NamedTuple

from cm3leon_jax.data.sources.entries import HeldOut
from cm3leon_jax.data.sources.example import Source
from cm3leon_jax.data.sources.published.request import Request, parse_request


class Published(NamedTuple):
    """How a data set is named, KIND:FORM, its opener as "module.function" of this folder, which takes a `Request`, what
    its folder holds, and which options it has besides those of all."""

    form: str
    opener: str
    hint: str
    options: tuple[str, ...] = ()


PUBLISHED: dict[str, Published] = {
    "vqa2": Published(
        "FOLDER",
        "vqa.vqa2_source",
        "a folder holds v2_*_questions.json, v2_*_annotations.json and COCO's pictures",
        ("questions", "annotations"),
    ),
    "okvqa": Published(
        "FOLDER",
        "vqa.okvqa_source",
        "a folder holds OpenEnded_*_questions.json, mscoco_*_annotations.json and COCO's pictures",
        ("questions", "annotations"),
    ),
    "vizwiz": Published(
        "FOLDER", "vizwiz.vizwiz_source", "a folder holds train.json, val.json and the pictures", ("annotations",)
    ),
    "coco_captions": Published(
        "FOLDER",
        "captions.coco_captions_source",
        "a folder holds captions_*.json or dataset_coco.json, and COCO's pictures",
        ("captions",),
    ),
    "flickr30k": Published(
        "FOLDER",
        "captions.flickr30k_source",
        "a folder holds dataset_flickr30k.json, results_20130124.token or results.csv, and the pictures",
        ("captions",),
    ),
    "instructpix2pix": Published(
        "FOLDER",
        "edits.instructpix2pix_source",
        "a folder holds parquet files of original_image, edit_prompt and edited_image, or seeds.json with its folders",
    ),
    "coco_boxes": Published(
        "FOLDER",
        "grounded.coco_boxes_source",
        "a folder holds instances_*.json, captions_*.json and COCO's pictures",
        ("instances", "captions", "resolution", "fit", "boxes"),
    ),
    "objects365": Published(
        "FOLDER",
        "grounded.objects365_source",
        "a folder holds zhiyuan_objv2_*.json and the pictures",
        ("instances", "resolution", "fit", "boxes"),
    ),
    "openimages": Published(
        "FOLDER",
        "openimages.openimages_source",
        "a folder holds *annotations-bbox.csv, *class-descriptions*.csv and the pictures",
        ("annotations", "classes", "captions", "resolution", "fit", "boxes"),
    ),
    "scienceqa": Published(
        "FOLDER",
        "science.scienceqa_source",
        "a folder holds problems.json and images/SPLIT/ID/image.png, or the Hub's parquet files",
        ("problems",),
    ),
    "image_paragraph": Published(
        "FOLDER",
        "paragraphs.image_paragraph_source",
        "a folder holds paragraphs_v1.json, train_split.json and the like, and Visual Genome's pictures",
        ("paragraphs", "ids"),
    ),
    "localized_narratives": Published(
        "FOLDER",
        "narratives.narratives_source",
        "a folder holds *narratives*.jsonl and the pictures of COCO, Flickr30k, Open Images or ADE20k",
        ("narratives",),
    ),
    "textocr": Published(
        "FOLDER",
        "textocr.textocr_source",
        "a folder holds TextOCR_*.json or cocotext.v2.json, and the pictures",
        ("annotations", "words"),
    ),
}

_CONDITION = (
    "a folder holds prompt.json with lines of source, target and prompt, or pictures with captions and ?conditions="
)
CONDITIONS = ("canny", "segmentation", "hed", "pose", "depth", "normal", "scribble")
PUBLISHED |= {
    name: Published("FOLDER", "conditions.condition_source", _CONDITION, ("conditions",)) for name in CONDITIONS
}


def check_published(kind: str, where: str) -> None:
    """`UserError` where an option is unknown or not what it can be; nothing is opened."""
    _request(kind, where, HeldOut())


def open_published(kind: str, where: str, held_out: HeldOut) -> Source:
    """Opens `KIND:WHERE?OPTION=VALUE&…`. Raises `UserError`."""
    module, _, function = PUBLISHED[kind].opener.partition(".")
    opener = getattr(importlib.import_module(f"{__name__}.{module}"), function)
    return opener(_request(kind, where, held_out))


def _request(kind: str, where: str, held_out: HeldOut) -> Request:
    return parse_request(kind, where, PUBLISHED[kind].options, PUBLISHED[kind].hint, held_out)
