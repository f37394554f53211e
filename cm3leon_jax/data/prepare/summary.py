"""What was prepared, in a few lines for the terminal."""

from __future__ import annotations

from cm3leon_jax.data.shards import BANK_SPLIT, PreparedData

_MANY_LOST = 0.1
_ENOUGH = 10_000  # documents, among which there should be near copies


def summary(data: PreparedData) -> str:
    """A table, and a warning where the rule of similarity does not look right."""
    manifest = data.manifest
    rows = [(f"documents in {name}", f"{len(data.split(name)):,}") for name in data.splits]
    rows += [("duplicates left out", f"{manifest['duplicates']:,}")]
    rows += [(f"… {kind}", f"{count:,}") for kind, count in manifest.get("duplicates_by_kind", {}).items()]
    rows += [("not usable", f"{manifest['quarantined']:,}")]
    warnings = []
    if similarity := manifest["similarity"]:
        selection, documents = data.selection, len(data.split(BANK_SPLIT))
        share = similarity["lost"] / documents
        rows += [
            ("too similar from", _number(selection.threshold, manifest["settings"]["selection"]["threshold"])),
            (
                "… for a text alone",
                _number(selection.text_threshold, manifest["settings"]["selection"]["text_threshold"]),
            ),
            (
                "struck by it in both searches",
                f"{similarity['struck']:,}, {similarity['struck'] / documents:.1f} a document",
            ),
            ("lost all of their nearest", f"{similarity['lost']:,} documents, {share:.1%}"),
        ]
        if share > _MANY_LOST:
            warnings.append(
                f"{share:.0%} of the documents lost all of their nearest as too similar: many are near copies, or "
                "SelectionConfig.threshold is too low. `cm3leon inspect --what documents` shows them"
            )
        if not similarity["struck"] and documents >= _ENOUGH and selection.threshold is not None:
            warnings.append(
                f"none of the candidates of {documents:,} documents was too similar: SelectionConfig.threshold is too "
                "high for this retriever, or there are no near copies"
            )
    width = max(len(name) for name, _ in rows)
    lines = [f"  {name:{width}}  {value}" for name, value in rows] + [f"warning: {warning}" for warning in warnings]
    return "\n".join(["prepared", *lines])


def _number(value: float | None, asked: float | None) -> str:
    if value is None:
        return "no threshold: too few documents to calibrate on"
    return f"{value:.3f}, {'calibrated for this retriever' if asked is None else 'as set'}"
