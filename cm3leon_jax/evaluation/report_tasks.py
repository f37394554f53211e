"""The section of the report about fine-tuning: every task of the scenes with its score, its inputs and its outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cm3leon_jax.evaluation.report_tables import cell, interval
from cm3leon_jax.pages.pieces import Pictures, command, section, table, text

# What the headline of each task counts.
_MEANINGS = {
    "edit": "edits that change what is said and nothing else",
    "ground": "objects in their boxes, with their colour and shape",
    "segmentation": "objects as the map and the caption say",
    "canny": "objects as the outlines and the caption say",
    "text_rendering": "texts that read as asked for",
    "caption": "stated facts that are true",
    "paragraph": "facts of the picture that are stated",
    "vqa": "questions with the right answer",
    "science": "questions with the right option",
}


def tasks_section(results: Mapping, shown: Mapping[str, Sequence[Mapping]], pictures: Pictures) -> str:
    """`results` is what the suite `scene_tasks` wrote, `shown` the gallery beside it; {} where there was none."""
    blocks = []
    if results.get("tasks"):
        blocks = [_table(results["tasks"]), _text_to_image(results.get("text_to_image", {}))]
    blocks += [_cards(name, examples, pictures) for name, examples in shown.items()]
    return section(
        "tasks",
        "Fine-tuned on nine tasks",
        "The same decoder after fine-tuning on instructions (CM3Leon §4), asked with the words of its training. Scores "
        "are exact, on held-out scenes. The baseline needs no model: the most frequent answer to each kind of "
        "question, the picture left unchanged, or the picture or text of another example. The ceiling is what the "
        "truth scores behind the image tokenizer.",
        "".join(blocks),
        missing=command("cm3leon demo --sft"),
    )


def _table(tasks: Mapping) -> str:
    rows = []
    for name, task in tasks.items():
        scores, low, high = (task[kind].get(task["headline"]) for kind in ("scores", "baseline", "ceiling"))
        value = cell(scores and scores["value"])
        bounds = (cell(bound and bound["value"]) for bound in (low, high))
        rows.append((f"{name}: {_MEANINGS[name]}", value, interval(scores), *bounds, str(task["examples"])))
    head = ("task", "reached", "95% interval", "baseline", "ceiling", "examples")
    return table(head, rows, caption="Tasks of fine-tuning") + "".join(
        _parts(name, task) for name, task in tasks.items()
    )


def _parts(name: str, task: Mapping) -> str:
    """The scores beside the headline, folded away."""
    kinds = [kind for kind in task["scores"] if kind != task["headline"]]
    rows = [
        (
            kind,
            cell(task["scores"][kind]["value"]),
            interval(task["scores"][kind]),
            *(cell((task[bound].get(kind) or {}).get("value")) for bound in ("baseline", "ceiling")),
            str(task["scores"][kind]["examples"]),
        )
        for kind in kinds
    ]
    if not rows:
        return ""
    head = ("", "reached", "95% interval", "baseline", "ceiling", "examples")
    drawn = table(head, rows, caption=f"{name}: parts of the score")
    return f"<details><summary>{text(name)}: parts of the score</summary>{drawn}</details>"


def _text_to_image(shares: Mapping) -> str:
    if not shares:
        return ""
    names = {"before": "before fine-tuning", "after": "after fine-tuning"}
    rows = [
        (names[name], cell(share["value"]), interval(share), str(share["examples"])) for name, share in shares.items()
    ]
    head = ("", "facts found", "95% interval", "captions")
    return table(head, rows, caption="Text to image without retrieved documents, before and after")


def _cards(name: str, examples: Sequence[Mapping], pictures: Pictures) -> str:
    cards = []
    for example in examples:
        shots = [pictures.figure(image, "given") for image in example["images"]]
        if example["is_picture"]:
            shots += [
                pictures.figure(example["output"], "drawn", mark="generated"),
                pictures.figure(example["truth"], "true"),
            ]
            answer = ""
        else:
            differs = example["truth"] != example["output"]
            truth = f'<p class="note">true: {text(example["truth"])}</p>' if differs else ""
            answer = f"<div><p>→ <strong>{text(example['output']) or '(nothing)'}</strong></p>{truth}</div>"
        given = " · ".join(text(line) for line in example["given"])
        cards.append(
            f'<article class="card"><h4>{text(name)} {_tally(example)}</h4><p>{given}</p>{answer}'
            f'<div class="three">{"".join(shots)}</div></article>'
        )
    return f'<div class="cards two">{"".join(cards)}</div>' if cards else ""


def _tally(example: Mapping) -> str:
    hits, total = example["hits"], example["total"]
    mark = "all" if hits == total else "some" if hits else "none"
    return f'<span class="tally {mark}">{hits} of {total}</span>'
