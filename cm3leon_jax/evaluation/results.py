"""`results.json`: one schema for every figure of a run. A figure that was not measured is null, never invented."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping

RULE_NAMES = {"plain": "plain", "top_p": "top-p", "guided": "guidance", "cdk": "CD-K"}
RULES = tuple(RULE_NAMES)
# Group -> its figures. Everything else that is worth keeping stands under "details".
SCHEMA: dict[str, tuple[str, ...]] = {
    "text_to_image": (*RULES, "ceiling"),
    "captioning": ("facts_true",),
    "image_tokenizer": ("reader_original", "reader_reconstruction", "psnr_db", "codebook_perplexity"),
    "memory_bank": ("recall_at_10",),
}
SCALARS = ("peak_memory_gib", "parameters", "commit")
NOT_MEASURED = "—"
FINE_TUNING = " (fine-tuning)"  # what the names of the stages of fine-tuning end with
GIB_IN_GB = 2**30 / 1e9


def assemble_results(*parts: Mapping) -> dict:
    """Merges partial results (later ones win, null never overwrites) into a dict with every key of the schema.

    A part is shaped like the whole: {"memory_bank": {"recall_at_10": …}, "seconds": {stage: s, …}, "details": {…}, …}.
    "seconds" is any stages plus "total"; without a total it is the sum of the stages. Raises `ValueError` on unknown
    keys, so that a misspelt figure cannot go missing in silence.
    """
    results: dict = {group: dict.fromkeys(names) for group, names in SCHEMA.items()}
    results |= {"seconds": {"total": None}} | dict.fromkeys(SCALARS) | {"details": {}}
    for part in parts:
        for key, value in part.items():
            if key not in results or (key in SCHEMA and set(value) - set(SCHEMA[key])):
                raise ValueError(f"unknown figure in results: {key} {value if key in SCHEMA else ''}".strip())
            if key == "details":
                _merge(results[key], value)
            elif isinstance(results[key], dict):
                results[key].update({name: figure for name, figure in value.items() if figure is not None})
            elif value is not None:
                results[key] = value
    stages = {stage: seconds for stage, seconds in results["seconds"].items() if stage != "total"}
    total = results["seconds"]["total"]
    if total is None and stages:
        total = sum(stages.values())
    results["seconds"] = {**stages, "total": total}
    return results


def _merge(into: dict, value: Mapping) -> None:
    for key, item in value.items():
        if isinstance(item, Mapping):
            target = into.get(key)
            if not isinstance(target, dict):
                target = into[key] = {}
            _merge(target, item)
        else:
            into[key] = item


@dataclasses.dataclass(frozen=True)
class Goal:
    """A bar and how it is read out of the results."""

    title: str
    meaning: str
    target: float
    at_least: bool
    show: Callable[[float], str]
    value: Callable[[Mapping], float | None]

    def reached(self, results: Mapping) -> bool | None:
        """None where the figure was not measured."""
        value = self.value(results)
        if value is None:
            return None
        return value >= self.target if self.at_least else value <= self.target

    def target_text(self) -> str:
        return f"{'at least' if self.at_least else 'at most'} {self.show(self.target)}"


def percent(value: float) -> str:
    """Rounded down to a tenth, so that a bar just missed never reads as reached."""
    return f"{int(value * 1000 + 1e-9) / 10:.1f}%"


def duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds + 0.999), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def gigabytes(value: float) -> str:
    """Rounded up to a tenth, for the same reason as `percent` is rounded down."""
    return f"{math.ceil(value * 10 - 1e-9) / 10:.1f} GB"


def run_note(results: Mapping) -> str:
    """What a reader must know of the run before its figures; empty for a full one."""
    if not results["details"].get("quick"):
        return ""
    return "A quick run: much less data and training than the demo's, so lower figures. The goals are the full demo's."


def ratio(value: float | None, ceiling: float | None) -> float | None:
    return None if value is None or not ceiling else value / ceiling


def steered_share(results: Mapping) -> float | None:
    """The better of guidance and CD-K, raw share of stated facts found."""
    values = [results["text_to_image"][rule] for rule in ("guided", "cdk")]
    return max((value for value in values if value is not None), default=None)


def unsteered_share(results: Mapping) -> float | None:
    """The better of plain and top-p sampling, raw share of stated facts found."""
    values = [results["text_to_image"][rule] for rule in ("plain", "top_p")]
    return max((value for value in values if value is not None), default=None)


def headline_rule(results: Mapping) -> str:
    """The rule whose pictures are shown first: guidance or CD-K, whichever found more facts."""
    return max(("guided", "cdk"), key=lambda rule: results["text_to_image"][rule] or 0.0)


def _memory_gb(results: Mapping) -> float | None:
    gib = results["peak_memory_gib"]
    return None if gib is None else gib * GIB_IN_GB


def _seconds(results: Mapping) -> float | None:
    """Of all stages but those of fine-tuning."""
    seconds = results["seconds"]
    of_fine_tuning = sum(value or 0.0 for stage, value in seconds.items() if stage.endswith(FINE_TUNING))
    return None if seconds["total"] is None else seconds["total"] - of_fine_tuning


GOALS: tuple[Goal, ...] = (
    Goal(
        "Text to image",
        "stated facts found in the generated images, of what the reader can find at best; guidance or CD-K",
        0.85,
        True,
        percent,
        lambda results: ratio(steered_share(results), results["text_to_image"]["ceiling"]),
    ),
    Goal(
        "Captions",
        "facts stated by generated captions that are true of the held-out image",
        0.80,
        True,
        percent,
        lambda results: results["captioning"]["facts_true"],
    ),
    Goal(
        "Image tokenizer",
        "facts found in reconstructions, of those found in the originals",
        0.95,
        True,
        percent,
        lambda results: ratio(
            results["image_tokenizer"]["reader_reconstruction"], results["image_tokenizer"]["reader_original"]
        ),
    ),
    Goal(
        "Memory bank",
        "recall@10 against exact search",
        0.99,
        True,
        percent,
        lambda results: results["memory_bank"]["recall_at_10"],
    ),
    Goal(
        "Time",
        "the whole run, without the installation and fine-tuning; the goal is for 2 CPU cores",
        900,
        False,
        duration,
        _seconds,
    ),
    Goal("Peak memory", "of any process of the run", 6.0, False, gigabytes, _memory_gb),
)
