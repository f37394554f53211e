"""A whole page: its head, the links to its sections, the sections."""

from __future__ import annotations

import importlib.resources
import string
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from cm3leon_jax.pages.pieces import text


class Part(NamedTuple):
    """One section of a page."""

    anchor: str  # the id of its <section>
    name: str  # of the link to it
    html: str  # what `pieces.section` gave


def whole_page(
    parts: Sequence[Part],
    *,
    title: str,
    eyebrow: str,
    introduction: str,
    facts: Mapping[str, object],
    footer: str,
    hero: str = "",
) -> str:
    """-> the page as text. `facts` are the line of small print below the introduction; those that are None or empty are
    left out. `hero` is ready HTML for the top of the page."""
    templates = importlib.resources.files("cm3leon_jax.pages") / "templates"
    links = "".join(f'<a href="#{text(part.anchor)}">{text(part.name)}</a>' for part in parts)
    shown = {name: value for name, value in facts.items() if value not in (None, "")}
    return string.Template((templates / "page.html").read_text(encoding="utf-8")).substitute(
        style=(templates / "page.css").read_text(encoding="utf-8"),
        title=text(title),
        eyebrow=text(eyebrow),
        introduction=text(introduction),
        facts="".join(f"<div><dt>{text(name)}</dt><dd>{text(value)}</dd></div>" for name, value in shown.items()),
        hero=hero,
        links=links,
        sections="\n".join(part.html for part in parts),
        footer=text(footer),
    )
