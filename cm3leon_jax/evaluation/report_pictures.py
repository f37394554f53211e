"""The sections of the report that show pictures: what was drawn, described, filled in and reconstructed.

`gallery` is the index that `gallery.write_gallery` leaves beside its PNG files; every list in it may be absent.
"""

from __future__ import annotations

from collections.abc import Mapping

from cm3leon_jax.evaluation.results import RULE_NAMES, RULES
from cm3leon_jax.pages.pieces import Pictures, command, fact_chips, section, tally, text


def hero_strip(gallery: Mapping, pictures: Pictures, headline: str) -> str:
    """One generated picture of each prompt, for the top of the page."""
    shots = []
    for prompt in gallery.get("prompts", [])[:6]:
        rule = _shown_rule(prompt, headline)
        if rule:
            shots.append(f"<li>{pictures.img(prompt['images'][rule]['image'], prompt['caption'])}</li>")
    return f'<ul class="hero" aria-label="Pictures that this run generated">{"".join(shots)}</ul>' if shots else ""


def retrieval_section(gallery: Mapping, pictures: Pictures, headline: str) -> str:
    cards = []
    for prompt in gallery.get("prompts", []):
        rule = _shown_rule(prompt, headline)
        if rule is None:
            continue
        generated = prompt["images"][rule]
        retrieved = "".join(
            f"<li>{pictures.img(document['image'], 'retrieved picture')}<p>{text(document['caption'])}</p></li>"
            for document in prompt.get("retrieved", [])
        )
        retrieved = f"<ol>{retrieved}</ol>" if retrieved else '<p class="note">nothing</p>'
        drawn = pictures.figure(
            generated["image"],
            f"generated, {RULE_NAMES[rule]}",
            extra=" " + tally(generated["facts"]),
            mark="generated",
        )
        original = pictures.figure(prompt.get("original"), "held-out picture", mark="small")
        cards.append(
            f'<article class="card prompt"><h3>“{text(prompt["caption"])}”</h3><div class="flow">'
            f'<div class="retrieved"><h4>retrieved</h4>{retrieved}</div>'
            f'<span class="arrow" aria-hidden="true">→</span>{drawn}{original}</div></article>'
        )
    return section(
        "prompts",
        "From a caption to a picture",
        "Held-out captions that the model never saw. The documents that the retriever found for a caption stand before "
        "it in the sequence; the model then writes the picture, token by token. The held-out picture is for "
        "comparison: places, sizes and details that the caption leaves open may differ.",
        f'<div class="cards two">{"".join(cards)}</div>' if cards else "",
        missing=command("cm3leon evaluate"),
    )


def rules_section(gallery: Mapping, pictures: Pictures) -> str:
    rows = []
    for prompt in gallery.get("prompts", []):
        images = prompt.get("images", {})
        cells = []
        for rule in RULES:
            if rule in images:
                facts = images[rule]["facts"]
                below = tally(facts) + fact_chips(facts, only_false=True)
                cells.append(pictures.figure(images[rule]["image"], RULE_NAMES[rule], extra=" " + below))
        if len(cells) > 1:
            rows.append(
                f'<article class="card"><h3>“{text(prompt["caption"])}”</h3><div class="four">{"".join(cells)}</div>'
                "</article>"
            )
    return section(
        "rules",
        "The same captions, four ways of sampling",
        "Plain sampling draws from the model's distribution; top-p cuts its tail; guidance moves away from what the "
        "model would draw without the caption; CD-K ranks tokens by how much the caption speaks for them. Below each "
        "picture: how many of the caption's facts the scene reader finds in it, and those that it misses.",
        f'<div class="cards two">{"".join(rows)}</div>' if rows else "",
        missing=command("cm3leon evaluate"),
    )


def captions_section(gallery: Mapping, pictures: Pictures) -> str:
    cards = []
    for item in gallery.get("captions", []):
        chips = fact_chips(item["facts"]) or '<p class="note">states no fact that can be checked</p>'
        cards.append(
            f'<article class="card caption">{pictures.img(item["image"], item.get("caption", "held-out picture"))}'
            f"<div><h3>“{text(item['generated'])}”</h3>{chips}</div></article>"
        )
    return section(
        "captions",
        "From a picture to a caption",
        "The same model, asked the other way: the caption is hidden behind a sentinel and filled in. "
        "Facts that are true of the picture are green with a tick, false ones red with a cross.",
        f'<div class="cards two">{"".join(cards)}</div>' if cards else "",
        missing=command("cm3leon evaluate"),
    )


def infill_section(gallery: Mapping, pictures: Pictures) -> str:
    cards = []
    for item in gallery.get("infills", []):
        shots = (
            pictures.figure(item["hidden"], "what the model sees"),
            pictures.figure(item["filled"], "filled in", mark="generated"),
            pictures.figure(item["original"], "the original"),
        )
        title = f"<h3>“{text(item['caption'])}”</h3>" if item.get("caption") else ""
        cards.append(f'<article class="card">{title}<div class="three">{"".join(shots)}</div></article>')
    return section(
        "infill",
        "A hidden part, filled in",
        "Some of the picture's tokens are hidden; the model sees what stands around them, and the caption.",
        f'<div class="cards two">{"".join(cards)}</div>' if cards else "",
        missing=command("cm3leon evaluate"),
    )


def reconstruction_section(gallery: Mapping, pictures: Pictures) -> str:
    pairs = "".join(
        f'<div class="pair">{pictures.figure(item["original"], "original")}'
        f"{pictures.figure(item['reconstruction'], 'decoded')}</div>"
        for item in gallery.get("reconstructions", [])
    )
    return section(
        "tokenizer",
        "What the image tokenizer keeps",
        "Held-out pictures, and the same pictures after they were turned into tokens and decoded again. No generated "
        "picture can be better than this.",
        f'<div class="pairs">{pairs}</div>' if pairs else "",
        missing=command("cm3leon evaluate"),
    )


def _shown_rule(prompt: Mapping, headline: str) -> str | None:
    return next((rule for rule in (headline, *reversed(RULES)) if rule in prompt.get("images", {})), None)
