"""The small pieces of HTML that the sections of a page are made of. Everything that comes from data is escaped."""

from __future__ import annotations

import base64
import html
import io
import pathlib
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import PIL.Image

from cm3leon_jax.runtime.files import Path

_NO_PICTURE = '<span class="no-picture">no picture</span>'


def text(value: object) -> str:
    """Any value as escaped HTML text."""
    return html.escape(str(value))


def picture(image: np.ndarray | None, alt: str, *, largest: int | None = None) -> str:
    """A decoded image, uint8 [H, W, 3], as an <img> with its bytes inlined, or a plain box where there is none. One of
    more than `largest` pixels a side is made smaller."""
    if image is None:
        return _NO_PICTURE
    drawn = PIL.Image.fromarray(image)
    if largest is not None:
        drawn.thumbnail((largest, largest))
    return _img(_png(drawn), alt)


def data_url(image: np.ndarray) -> str:
    """A decoded image, uint8 [H, W, 3], as a URL that holds it as PNG."""
    return _data_url(_png(PIL.Image.fromarray(image)))


def _png(image: PIL.Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def _data_url(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"


def _img(png: bytes, alt: str) -> str:
    return f'<img class="picture" alt="{text(alt)}" src="{_data_url(png)}">'


class Pictures:
    """PNG files of one folder as <img> elements with their bytes inlined, so that the page needs no other file."""

    def __init__(self, directory: Path):
        self._directory = pathlib.Path(directory)

    def img(self, name: str | None, alt: str) -> str:
        """An <img>, or a plain box that says so where the file is missing."""
        path = self._directory / name if name else None
        if path is None or not path.is_file():
            return _NO_PICTURE
        return _img(path.read_bytes(), alt)

    def figure(self, name: str | None, caption: str, *, extra: str = "", mark: str = "") -> str:
        """A picture with its caption below; `extra` is ready HTML behind the caption, `mark` a CSS class."""
        return (
            f'<figure class="{text(f"shot {mark}".strip())}">{self.img(name, caption)}'
            f"<figcaption>{text(caption)}{extra}</figcaption></figure>"
        )


def section(anchor: str, title: str, lead: str, *body: str, missing: str = "") -> str:
    """A titled section. With an empty body it is one line that says which command makes what is missing."""
    content = "".join(body)
    if not content:
        content = f'<p class="missing">Nothing here yet: {missing}.</p>'
        lead = ""
    lead = f'<p class="lead">{text(lead)}</p>' if lead else ""
    return f'<section id="{text(anchor)}"><h2>{text(title)}</h2>{lead}{content}</section>'


def cards(articles: Iterable[str]) -> str:
    """Ready <article>s below each other, or nothing without any."""
    together = "".join(articles)
    return f'<div class="cards">{together}</div>' if together else ""


def tiles(figures: Iterable[tuple[str, str, str]]) -> str:
    """(name, value, what it means) of some figures, as large numbers side by side."""
    drawn = "".join(
        f'<div class="tile"><h3>{text(name)}</h3><p class="value">{text(value)}</p>'
        f'<p class="meaning">{text(meaning)}</p></div>'
        for name, value, meaning in figures
    )
    return f'<div class="tiles">{drawn}</div>'


def command(name: str) -> str:
    return f"<code>{text(name)}</code> makes it"


def fact_chips(facts: Iterable[Mapping], *, only_false: bool = False) -> str:
    """Facts as chips, true ones with a tick, false ones with a cross: colour is never the only sign."""
    chips = "".join(
        f'<li class="{"true" if fact["true"] else "false"}"><span aria-hidden="true">{"✓" if fact["true"] else "✗"}'
        f'</span><span class="hidden">{"true: " if fact["true"] else "false: "}</span> {text(fact["text"])}</li>'
        for fact in facts
        if not (only_false and fact["true"])
    )
    return f'<ul class="facts">{chips}</ul>' if chips else ""


def tally(facts: Sequence[Mapping]) -> str:
    """`5 of 6 facts`: green when all are true, red when none is."""
    if not facts:
        return '<span class="tally">no facts</span>'
    found = sum(bool(fact["true"]) for fact in facts)
    mark = "all" if found == len(facts) else "some" if found else "none"
    return f'<span class="tally {mark}">{found} of {len(facts)} facts</span>'


class Html(str):
    """A cell that is ready HTML."""


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, caption: str, mark: str = "") -> str:
    """A table that scrolls sideways by itself on a narrow screen; `mark` is a CSS class. The first column heads its
    row. Cells are escaped, unless they are `Html`."""
    header = "".join(f'<th scope="col">{text(cell)}</th>' for cell in head)
    body = "".join(
        f'<tr><th scope="row">{_cell(row[0])}</th>{"".join(f"<td>{_cell(cell)}</td>" for cell in row[1:])}</tr>'
        for row in rows
    )
    return (
        f'<div class="{text(f"scroll {mark}".strip())}" tabindex="0" role="group" aria-label="{text(caption)}"><table>'
        f"<caption>{text(caption)}</caption><thead><tr>{header}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _cell(cell: str) -> str:
    return cell if isinstance(cell, Html) else text(cell)
