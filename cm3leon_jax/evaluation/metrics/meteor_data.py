"""The data of METEOR 1.5, read from where the user has them: its jar, and its table of paraphrases."""

from __future__ import annotations

import dataclasses
import gzip
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from cm3leon_jax.runtime.errors import UserError

_Words = frozenset[str]
_NUMERIC_ONLY = "#NUMERIC_ONLY#"
# WordNet's endings of nouns, verbs and adjectives, and what a base form has in their place.
_DETACHMENTS = [
    *(
        ("s", ""),
        ("ses", "s"),
        ("xes", "x"),
        ("zes", "z"),
        ("ches", "ch"),
        ("shes", "sh"),
        ("men", "man"),
        ("ies", "y"),
    ),
    *(("es", "e"), ("es", ""), ("ed", "e"), ("ed", ""), ("ing", "e"), ("ing", "")),
    *(("er", ""), ("est", ""), ("er", "e"), ("est", "e")),
]


@dataclasses.dataclass(frozen=True)
class MeteorData:
    """What METEOR 1.5 knows of English.

    `function_words`; `prefixes`: abbreviations that keep their period, with whether only before numbers; `synsets`: the
    synonym sets of each base form; `bases`: the base forms of irregular ones; `paraphrases`: the table's file.
    """

    function_words: _Words
    prefixes: Mapping[str, bool]
    synsets: Mapping[str, frozenset[int]]
    bases: Mapping[str, tuple[str, ...]]
    paraphrases: Path

    def synonym_sets(self, word: str) -> frozenset[int]:
        """The synonym sets of a word and of its base forms."""
        bases = self.bases.get(word) or (self._regular_base(word),)
        return self.synsets.get(word, frozenset()).union(*(self.synsets.get(base, frozenset()) for base in bases))

    def _regular_base(self, word: str) -> str:
        if word.endswith("ss") or len(word) <= 2:
            return word
        bases = (word[: -len(ending)] + base for ending, base in _DETACHMENTS if word.endswith(ending))
        return next((base for base in bases if base in self.synsets), "")

    def paraphrases_of(self, phrases: set[str]) -> dict[str, list[str]]:
        """Phrases -> the paraphrases that each has among them. Reads the whole table: 5 million entries, 8 seconds."""
        table: dict[str, list[str]] = {}
        with gzip.open(self.paraphrases, "rt", encoding="utf-8") as file:
            for _probability, phrase, paraphrase in zip(file, file, file, strict=True):
                # The table repeats few phrases of a corpus, and looking one up costs less than stripping both.
                if phrase[:-1] in phrases and paraphrase[:-1] in phrases:
                    table.setdefault(phrase[:-1], []).append(paraphrase[:-1])
        return table


def read_meteor_data(jar: str | Path, paraphrases: str | Path) -> MeteorData:
    """`meteor-1.5.jar`, or a folder with what is in it, and `paraphrase-en.gz` -> their data; no Java is needed.

    They come with METEOR 1.5 and with pycocoevalcap (in `meteor/`); WordNet's and their own licences apply.
    `UserError` where one of them is missing or has another form.
    """
    jar, paraphrases = Path(jar), Path(paraphrases)
    if not paraphrases.is_file():
        raise UserError(f"{paraphrases} is not there; name METEOR's paraphrase-en.gz")
    _check_table(paraphrases)
    try:
        read = _reader(jar)
        return MeteorData(
            function_words=frozenset(read("function/english.words")),
            prefixes=_prefixes(read("nonbreaking/english.prefixes")),
            synsets={word: frozenset(map(int, sets.split())) for word, sets in _pairs(read("synonym/english.synsets"))},
            bases=_bases(read("synonym/english.exceptions")),
            paraphrases=paraphrases,
        )
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise UserError(
            f"{jar} holds no data of METEOR ({error}); name meteor-1.5.jar or a folder of its files"
        ) from error


def _check_table(paraphrases: Path) -> None:
    """`UserError` where the file is not whole, or no table. It is unpacked for that, which takes 2 seconds: better than
    to find out when all captions are written."""
    lines = 0
    try:
        with gzip.open(paraphrases, "rb") as file:
            while some := file.read(1 << 24):
                lines += some.count(b"\n")
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{paraphrases} cannot be read ({error}); name METEOR's paraphrase-en.gz") from None
    if lines % 3:
        raise UserError(f"{paraphrases} has {lines} lines, where METEOR's paraphrase-en.gz has three for each pair")


def _reader(jar: Path) -> Callable[[str], list[str]]:
    if jar.is_dir():
        return lambda name: (jar / name).read_text("utf-8").splitlines()

    def read(name: str) -> list[str]:
        with zipfile.ZipFile(jar) as archive:
            return archive.read(name).decode("utf-8").splitlines()

    return read


def _pairs(lines: list[str]) -> Iterable[tuple[str, str]]:
    return zip(lines[::2], lines[1::2], strict=True)


def _prefixes(lines: list[str]) -> dict[str, bool]:
    entries = [line.split() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    return {entry[0]: _NUMERIC_ONLY in entry[1:] for entry in entries}


def _bases(lines: list[str]) -> dict[str, tuple[str, ...]]:
    bases: dict[str, tuple[str, ...]] = {}
    for base, forms in _pairs(lines):
        for form in forms.split():
            bases[form] = (*bases.get(form, ()), base)
    return bases
