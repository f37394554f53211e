"""Documents as cards: image, caption, tokens, metadata, stored neighbours, and the search for neighbours explained."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Protocol

import numpy as np

from cm3leon_jax.data.inspection.choosing import Shown
from cm3leon_jax.data.inspection.images import DecodedImages
from cm3leon_jax.data.inspection.rendering import TextDecoder
from cm3leon_jax.data.inspection.search import Candidate, Search, searches, summary
from cm3leon_jax.data.records import PreparedDocument
from cm3leon_jax.data.shards import BANK_SPLIT, PreparedData
from cm3leon_jax.data.splits import SPLITS
from cm3leon_jax.pages.pieces import Html, cards, picture, section, table, text
from cm3leon_jax.retrieval.verdicts import Reason

_THUMBNAIL = 128  # pixels a side
_NOT_LOOKED_AT = 2  # candidates shown behind the last that was looked at


class TextReader(TextDecoder, Protocol):
    """What of a text tokenizer is needed here."""

    def pieces(self, ids: Any, /) -> list[str]: ...


class DocumentCards:
    """Makes the cards of some documents of one split; `candidates` are shown of each list at most."""

    def __init__(self, data: PreparedData, text_reader: TextReader, images: DecodedImages, candidates: int):
        self._data, self._text, self._images, self._most = data, text_reader, images, candidates

    def section(self, shown: list[Shown]) -> str:
        found = searches(self._data, shown)
        self._images.add(self._needed(shown, found))
        articles = [self._card(each, found[number] if found else None) for number, each in enumerate(shown)]
        return section("documents", "Documents", self._lead(shown, searched=found is not None), cards(articles))

    def _lead(self, shown: list[Shown], *, searched: bool) -> str:
        lead = "Each image is decoded from its codes: it is what the model sees, not the original."
        if shown[0].split not in SPLITS:
            return f"{lead} Documents of this split are no pairs of an image and a caption; they have no neighbours."
        if not searched:
            return f"{lead} The memory bank is not in the folder, so the search for neighbours cannot be explained."
        dropped = self._data.manifest["settings"]["prepare"]["query_drop"]
        if shown[0].split != BANK_SPLIT or not dropped:
            return f"{lead} The search for neighbours is done again with the document's stored embeddings."
        return (
            f"{lead} The search for neighbours is done again with the document's stored embeddings. When the data was "
            f"prepared, {dropped:.0%} of the query's tokens and patches were dropped first, and what that gave is not "
            "kept: so scores differ, and what is taken here may differ from the neighbours that are stored."
        )

    def _needed(self, shown: list[Shown], found: list[Search] | None) -> Iterable[PreparedDocument]:
        """All documents whose images are shown."""
        places: set[int] = set()
        for number, each in enumerate(shown):
            yield each.document
            places.update(each.document.neighbours_by_image.tolist(), each.document.neighbours_by_text.tolist())
            if found:
                lists = (found[number].by_image, found[number].by_text)
                places.update(candidate.place for one in lists for _, candidate in self._visible(one))
        train = self._data.split(BANK_SPLIT)
        yield from (train[place] for place in sorted(places))

    def _card(self, shown: Shown, search: Search | None) -> str:
        document = shown.document
        parts = "".join(self._part(part.text, part.image, document.caption) for part in document.documents)
        tokens = sum(len(part.text) for part in document.documents)
        codes = sum(len(part.image) for part in document.documents)
        about = (
            f"{document.id} · document {shown.place} of “{shown.split}” · {tokens} text tokens, {codes} image tokens"
        )
        metadata = json.dumps(document.metadata, ensure_ascii=False) if document.metadata else ""
        if metadata:
            metadata = f'<details><summary>Metadata</summary><p class="tokens">{text(metadata)}</p></details>'
        neighbours = self._stored(document) if shown.split in SPLITS else ""
        title = f"“{document.caption}”" if document.caption else document.id
        return (
            f'<article class="card"><h3>{text(title)}</h3><p class="note">{text(about)}</p>{parts}'
            f"{neighbours}{self._explained(search, document)}{metadata}</article>"
        )

    def _part(self, ids: np.ndarray, codes: np.ndarray, caption: str) -> str:
        image = f"<div>{picture(self._images.of(codes), 'decoded image')}</div>" if len(codes) else ""
        pieces = "".join(f"<li>{text(piece)}</li>" for piece in self._text.pieces(ids))
        decoded = self._text.decode(ids)
        read_back = f"<p>{text(decoded)}</p>" if decoded != caption else ""  # the caption is the card's title
        written = f'{read_back}<ol class="pieces">{pieces}</ol>' if len(ids) else '<p class="note">no text</p>'
        return f'<div class="part">{image}<div>{written}</div></div>'

    def _stored(self, document: PreparedDocument) -> str:
        lists = (
            ("image", document.neighbours_by_image, document.scores_by_image),
            ("text", document.neighbours_by_text, document.scores_by_text),
        )
        columns = []
        for name, places, scores in lists:
            shots = "".join(self._shot(*each) for each in zip(places.tolist(), scores.tolist(), strict=True))
            shots = f'<ul class="shots">{shots}</ul>' if shots else '<p class="note">none</p>'
            columns.append(f"<div><h4>Stored neighbours by {name}</h4>{shots}</div>")
        return f'<div class="columns">{"".join(columns)}</div>'

    def _shot(self, place: int, score: float) -> str:
        neighbour = self._data.split(BANK_SPLIT)[place]
        image = picture(self._images.of(neighbour.image), "neighbour", largest=_THUMBNAIL)
        return f"<li>{image}<p>{text(neighbour.caption)}</p><p>{text(neighbour.id)} · {score:.3f}</p></li>"

    def _explained(self, search: Search | None, document: PreparedDocument) -> str:
        if search is None:
            return ""
        return "".join(
            f"<details><summary>Search by {name}: {text(summary(found))}</summary>"
            f"{self._candidates(name, found, set(stored.tolist()))}</details>"
            for name, found, stored in (
                ("image", search.by_image, document.neighbours_by_image),
                ("text", search.by_text, document.neighbours_by_text),
            )
        )

    def _visible(self, found: list[Candidate]) -> list[tuple[int, Candidate]]:
        """(place in the list, candidate): the first, and those that were taken however far behind."""
        looked_at = sum(candidate.reason != Reason.ENOUGH for candidate in found)
        most = min(self._most, looked_at + _NOT_LOOKED_AT)
        return [(n, each) for n, each in enumerate(found, start=1) if n <= most or each.reason == Reason.TAKEN]

    def _candidates(self, name: str, found: list[Candidate], stored: set[int]) -> str:
        visible = self._visible(found)
        rows = [self._row(number, each, each.place in stored) for number, each in visible]
        left_out = len(found) - len(visible)
        note = f'<p class="note">{left_out} other candidates are not shown.</p>' if left_out else ""
        head = ("", "image", "document", "score", "verdict")
        return table(head, rows, caption=f"Candidates by {name}, best first", mark="candidates") + note

    def _row(self, number: int, candidate: Candidate, stored: bool) -> tuple[str, ...]:
        train = self._data.split(BANK_SPLIT)
        document = train[candidate.place]
        image = picture(self._images.of(document.image), "candidate", largest=_THUMBNAIL)
        words = text(candidate.words)
        if candidate.reason == Reason.TOO_SIMILAR_TO_TAKEN:
            words += f" ({text(train[candidate.other].id)}, {candidate.similarity:.3f})"
        mark = "all" if candidate.reason == Reason.TAKEN else ""
        chips = '<span class="tally">stored neighbour</span>' if stored else ""
        return (
            str(number),
            Html(image),
            Html(f"{text(document.caption)}<br><small>{text(document.id)}</small>"),
            f"{candidate.score:.3f}",
            Html(f'<span class="verdict {mark}">{words}</span> {chips}'),
        )
