"""Which columns of a table, or features of a data set, are the image, the caption and the id."""

from __future__ import annotations

import urllib.parse
from collections.abc import Collection
from typing import NamedTuple

from cm3leon_jax.runtime.errors import UserError

_USUAL = {
    "image": ("image", "jpg", "png", "webp", "img"),
    "caption": ("caption", "text", "captions/text", "captions", "sentences"),
    "id": (),
}


class Columns(NamedTuple):
    """Names; "" is looked for among the usual ones, and an id is then the place of the row."""

    image: str = ""
    caption: str = ""
    id: str = ""

    def found_in(self, names: Collection[str], where: str) -> Columns:
        """With the names as they are there. `UserError` where one is missing."""
        return Columns(*(_found(kind, given, names, where) for kind, given in self._asdict().items()))


def split_columns(spec: str) -> tuple[str, Columns]:
    """From "DATA?image=picture&id=key" DATA and the names. `UserError` for other kinds than those of `Columns`."""
    where, _, query = spec.partition("?")
    given = dict(urllib.parse.parse_qsl(query, keep_blank_values=True))
    if unknown := sorted(given.keys() - set(Columns._fields)):
        raise UserError(f"{spec} has {unknown[0]}=: columns are named with {', '.join(Columns._fields)}")
    return where, Columns(**given)


def _found(kind: str, given: str, names: Collection[str], where: str) -> str:
    usual = [given] if given else _USUAL[kind]
    found = next((name for name in usual if name in names), None)
    if found is None and (given or usual):
        wanted = f"no column {given!r}" if given else f"no {kind} column of a usual name ({', '.join(usual)})"
        raise UserError(f"{where} has {wanted}; it has {', '.join(names)}: name one with ?{kind}=NAME")
    return found or ""
