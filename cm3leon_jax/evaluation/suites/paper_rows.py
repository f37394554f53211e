"""What CM3Leon's tables hold (Yu et al. 2023, arXiv 2309.02591), and which figure of a suite stands beside it."""

from __future__ import annotations

from typing import NamedTuple


class Measured(NamedTuple):
    """Where our figure is: the suite, and its `Figure`'s data and name. `setting`: what names its data."""

    suite: str
    data: str
    figure: str
    setting: str


class DrawnRow(NamedTuple):
    """Table 1: zero-shot FID on 30,000 captions of MS-COCO."""

    model: str
    documents: int | None  # that are retrieved; None: the model retrieves none at all
    fid: float


class Task(NamedTuple):
    """A column of table 2, all zero-shot; a figure is None where nothing is published."""

    name: str  # with the split that the published figures of CM3Leon and Flamingo are of, and the metric
    cm3leon: float  # SFT-CM3Leon-7B
    open_flamingo: float | None  # OpenFlamingo-9B, on validation sets
    flamingo: float | None  # Flamingo-9B
    measured: Measured


DRAWN = (
    DrawnRow("RA-CM3", 2, 15.70),
    DrawnRow("Stable Diffusion", None, 12.60),
    DrawnRow("KNN-Diffusion", 10, 12.50),
    DrawnRow("MUSE", None, 7.88),
    DrawnRow("PARTI-20B", None, 7.23),
    DrawnRow("RE-IMAGEN", 2, 5.25),
    DrawnRow("CM3Leon-350M", 2, 14.20),
    DrawnRow("CM3Leon-760M", 2, 6.61),
    DrawnRow("CM3Leon-7B", 0, 10.82),
    DrawnRow("CM3Leon-7B", 1, 5.78),
    DrawnRow("CM3Leon-7B", 2, 4.88),
)
FID = Measured("text_to_image", "", "FID", "text_to_image")  # its data: so many documents

TASKS = (
    Task(
        "MS-COCO (test), CIDEr", 61.6, 65.5, 79.4, Measured("captioning", "coco_captions", "CIDEr-D", "coco_captions")
    ),
    Task("VQA2 (test-dev), accuracy", 47.6, 43.5, 51.8, Measured("vqa2", "vqa2", "accuracy", "vqa2")),
    Task("VizWiz (test-dev), accuracy", 37.6, None, 28.8, Measured("vizwiz", "vizwiz", "accuracy", "vizwiz")),
    Task("OKVQA (val), accuracy", 23.8, None, 44.7, Measured("okvqa", "okvqa", "accuracy", "okvqa")),
    Task(
        "Image-Paragraph (test), CIDEr",
        *(10.5, None, None),
        Measured("captioning", "image_paragraph", "CIDEr-D", "image_paragraph"),
    ),
    Task("VisDial (val), NDCG", 22.6, None, 48.4, Measured("visdial", "visdial", "NDCG", "visdial")),
)
SUITES = tuple(dict.fromkeys([FID.suite, *(task.measured.suite for task in TASKS)]))
