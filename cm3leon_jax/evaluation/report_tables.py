"""The report's tables of scores: each figure with its interval and its ceiling."""

from __future__ import annotations

from collections.abc import Mapping

from cm3leon_jax.evaluation.results import NOT_MEASURED, RULE_NAMES, RULES, percent, ratio
from cm3leon_jax.pages.pieces import command, section, table

KIND_NAMES = {"exists": "colour and shape"}  # what a kind of fact is called where its name says too little
SHARE_COLUMNS = ("", "facts found", "95% interval", "of the ceiling", "captions")


def scores_section(results: Mapping) -> str:
    details = results["details"]
    blocks = []
    if any(results["text_to_image"][rule] is not None for rule in RULES):
        blocks += [_rule_table(results), _kind_table(details), _variant_table(details, results)]
    if results["captioning"]["facts_true"] is not None:
        blocks.append(_captioning_table(results))
    if any(value is not None for value in results["image_tokenizer"].values()):
        blocks.append(_tokenizer_table(results))
    return section(
        "scores",
        "Scores",
        "A fact is a statement about the scene that can be checked: a colour, a shape, a size, a place, a relation, "
        "a count. The scene reader recovers the objects from a picture and checks each fact that its caption states. "
        "The ceiling is the share that the reader finds when the true pictures go through the image tokenizer. "
        "Intervals are 95% bootstrap intervals over examples.",
        "".join(blocks),
        missing=command("cm3leon evaluate"),
    )


def cell(value: float | None) -> str:
    """A share as a table shows it."""
    return NOT_MEASURED if value is None else percent(value)


def interval(share: Mapping | None) -> str:
    """The interval of the dict of an `intervals.Share`."""
    if not share or share.get("low") is None:
        return NOT_MEASURED
    return f"{percent(share['low'])} to {percent(share['high'])}"


def _rule_table(results: Mapping) -> str:
    shares, ceiling = results["details"].get("text_to_image", {}), results["text_to_image"]["ceiling"]
    rows = []
    for rule in RULES:
        value, detail = results["text_to_image"][rule], shares.get(rule, {}).get("overall")
        captions = str(detail["examples"]) if detail else NOT_MEASURED
        rows.append((RULE_NAMES[rule], cell(value), interval(detail), cell(ratio(value, ceiling)), captions))
    rows.append(("the ceiling", cell(ceiling), interval(shares.get("ceiling", {}).get("overall")), "", ""))
    original = shares.get("original", {}).get("overall")
    if original:
        rows.append(("the reader on true pictures", cell(original["value"]), interval(original), "", ""))
    other = shares.get("other_picture", {}).get("overall")
    if other:
        rows.append(("for comparison: a picture of another caption", cell(other["value"]), interval(other), "", ""))
    return table(SHARE_COLUMNS, rows, caption="Text to image, by sampling rule")


def _kind_table(details: Mapping) -> str:
    shares = details.get("text_to_image", {})
    columns = [rule for rule in (*RULES, "ceiling") if shares.get(rule, {}).get("by_kind")]
    kinds = list(dict.fromkeys(kind for rule in columns for kind in shares[rule]["by_kind"]))
    if not kinds:
        return ""
    rows = []
    for kind in kinds:
        by_rule = [shares[rule]["by_kind"].get(kind) or {} for rule in columns]
        found = (cell(one.get("value")) for one in by_rule)
        rows.append((KIND_NAMES.get(kind, kind), *found, str(max(one.get("total", 0) for one in by_rule))))
    head = ("", *(RULE_NAMES.get(rule, rule) for rule in columns), "facts")
    return table(head, rows, caption="Text to image, by kind of fact")


def _variant_table(details: Mapping, results: Mapping) -> str:
    """By number of retrieved documents, and with CLIP choosing the best of n: whatever was measured."""
    ceiling = results["text_to_image"]["ceiling"]
    variants = details.get("text_to_image_variants", {})
    rows = [
        (
            name,
            cell(share["overall"]["value"]),
            interval(share["overall"]),
            cell(ratio(share["overall"]["value"], ceiling)),
            str(share["overall"]["examples"]),
        )
        for name, share in variants.items()
    ]
    return table(SHARE_COLUMNS, rows, caption="Text to image, other settings") if rows else ""


def _captioning_table(results: Mapping) -> str:
    detail = results["details"].get("captioning", {})
    rows = [("all facts", cell(results["captioning"]["facts_true"]), interval(detail.get("overall")))]
    by_kind = detail.get("by_kind", {})
    rows += [(KIND_NAMES.get(kind, kind), cell(one["value"]), interval(one)) for kind, one in by_kind.items()]
    comparisons = {"held_out_captions": "held-out captions", "other_picture": "the caption of another picture"}
    for name, label in comparisons.items():
        if detail.get(name):
            rows.append((f"for comparison: {label}", cell(detail[name]["value"]), interval(detail[name])))
    drawn = table(("", "facts true", "95% interval"), rows, caption="Captions generated for held-out pictures")
    if "facts_per_caption" not in detail:
        return drawn
    return drawn + (
        f'<p class="note">Generated captions state {detail["facts_per_caption"]:.1f} facts on average, held-out ones '
        f"{detail['facts_per_held_out_caption']:.1f}; {detail['captions_without_facts']} state none; "
        f"{percent(detail['words_understood'])} of their words are understood.</p>"
    )


def _tokenizer_table(results: Mapping) -> str:
    figures = results["image_tokenizer"]
    rows = [
        ("facts read in true pictures", cell(figures["reader_original"])),
        ("facts read in reconstructions", cell(figures["reader_reconstruction"])),
        ("PSNR", NOT_MEASURED if figures["psnr_db"] is None else f"{figures['psnr_db']:.2f} dB"),
        (
            "codebook perplexity",
            NOT_MEASURED if figures["codebook_perplexity"] is None else f"{figures['codebook_perplexity']:.0f}",
        ),
    ]
    return table(("", "value"), rows, caption="Image tokenizer, and the reader itself")
