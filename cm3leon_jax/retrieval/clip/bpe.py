"""CLIP's tokenizer: byte pairs (Sennrich et al. 2016) over the bytes of lower-cased text (Radford et al. 2021, §2.4).

A text is normalised and cut into words; each word's bytes are written as characters, the last with `</w>` behind it;
then neighbours are merged, the pair that was learned first before all others, until no known pair is left.

It gives the ids of Hugging Face's `CLIPTokenizer`, but for these:

- "<|startoftext|>" and "<|endoftext|>" in a caption are plain characters, never the control tokens.
- What a letter or a number is, Python's Unicode tables say; characters newer than they are count as symbols.
- A lone surrogate is read as "?".

OpenAI's own code repairs badly decoded text with ftfy and resolves HTML entities before all that. Hugging Face's does
not, nor does this: a curly apostrophe is no apostrophe, and "&amp;" is three words.
"""

from __future__ import annotations

import functools
import heapq
import json
from collections.abc import Sequence

import numpy as np

from cm3leon_jax.retrieval.clip.words import BYTE_CHARACTERS, normalize, split_words
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.runtime.files import Path, as_path, fingerprint, new_directory, read_json, write_json

KIND = "CLIP tokenizer"
CONFIG_FILE = "config.json"
VOCABULARY_FILE = "vocab.json"
MERGES_FILE = "merges.txt"
START, END = "<|startoftext|>", "<|endoftext|>"
END_OF_WORD = "</w>"
_VERSION_LINE = "#version: 0.2"
_REMEDY = "take the tokenizer files of the same published CLIP as the weights"


class BytePairTokenizer:
    """Tokens with their ids, 0..size-1 each once, and the pairs to merge, the first learned first.

    `UserError` where these are not a whole CLIP vocabulary: control tokens, all bytes, and every merged pair.
    """

    def __init__(self, vocabulary: dict[str, int], merges: Sequence[tuple[str, str]]):
        _check(vocabulary, merges)
        self._vocabulary = vocabulary
        self._merges = merges
        self._ranks = {pair: rank for rank, pair in enumerate(merges)}
        self._ids_of_word = functools.lru_cache(maxsize=2**16)(self._encode_word)
        self.size = len(vocabulary)
        self.start_id: int | None = vocabulary[START]
        self.end_id = vocabulary[END]
        self.fingerprint = fingerprint(vocabulary, [list(pair) for pair in merges])

    @classmethod
    def load(cls, directory: Path) -> BytePairTokenizer:
        """Reads a folder that `save` wrote, or any with a `vocab.json` and a `merges.txt`. Raises `UserError`."""
        directory, make_with = as_path(directory), "cm3leon import"
        vocabulary = read_json(directory / VOCABULARY_FILE, what="CLIP vocabulary", make_with=make_with)
        path = directory / MERGES_FILE
        try:
            lines = path.read_text(encoding="utf-8").split("\n")
        except (OSError, ValueError) as error:
            raise UserError(f"merges at {path} cannot be read ({error}); `{make_with}` again") from None
        lines = [line for line in lines if line.strip() and not line.startswith("#version")]
        return cls(vocabulary, [pair(line.split()) for line in lines])

    def save(self, directory: Path) -> None:
        """Writes `vocab.json`, `merges.txt` and `config.json`, whole or not at all."""
        with new_directory(directory) as aside:
            (aside / VOCABULARY_FILE).write_text(json.dumps(self._vocabulary, ensure_ascii=False), encoding="utf-8")
            lines = [_VERSION_LINE, *map(" ".join, self._merges), ""]
            (aside / MERGES_FILE).write_text("\n".join(lines), encoding="utf-8")
            write_json(aside / CONFIG_FILE, {"kind": KIND, "size": self.size})

    def encode(self, text: str) -> np.ndarray:
        """-> ids, int32 [T], without start and end; T = 0 for blank text."""
        return np.array([index for word in split_words(normalize(text)) for index in self._ids_of_word(word)], np.int32)

    def _encode_word(self, word: str) -> list[int]:
        characters = "".join(BYTE_CHARACTERS[byte] for byte in word.encode())
        return [self._vocabulary[token] for token in self._merge(characters)]

    def _merge(self, characters: str) -> list[str]:
        """The tokens of a word. Of pairs of the same rank, the leftmost goes first."""
        tokens = [*characters[:-1], characters[-1] + END_OF_WORD]
        before, after = list(range(-1, len(tokens) - 1)), list(range(1, len(tokens) + 1))

        def rank(left: int) -> int | None:
            right = after[left]
            return self._ranks.get((tokens[left], tokens[right])) if left >= 0 and right < len(tokens) else None

        pairs = [(found, left) for left in range(len(tokens)) if (found := rank(left)) is not None]
        heapq.heapify(pairs)
        while pairs:
            expected, left = heapq.heappop(pairs)
            if not tokens[left] or rank(left) != expected:
                continue  # one of the two was merged with another neighbour meanwhile
            right = after[left]
            tokens[left], tokens[right] = tokens[left] + tokens[right], ""
            after[left] = after[right]
            if after[left] < len(tokens):
                before[after[left]] = left
            for start in (before[left], left):
                if (found := rank(start)) is not None:
                    heapq.heappush(pairs, (found, start))
        return [token for token in tokens if token]


def pair(merge: object) -> tuple[str, str]:
    """A merge as a file has it -> the two tokens. Raises `UserError`."""
    if not isinstance(merge, list) or len(merge) != 2 or not all(isinstance(token, str) for token in merge):
        raise UserError(f"a merge {merge!r:.80} in the tokenizer files where two tokens are due; {_REMEDY}")
    return merge[0], merge[1]


def _check(vocabulary: object, merges: Sequence[tuple[str, str]]) -> None:
    if not isinstance(vocabulary, dict):
        raise UserError(f"a vocabulary must be a table of tokens and ids; {_REMEDY}")
    # Compared as text, since ids may be anything that JSON can say.
    if sorted(map(repr, vocabulary.values())) != sorted(map(repr, range(len(vocabulary)))):
        raise UserError(
            f"the ids of a vocabulary of {len(vocabulary)} tokens are not 0..{len(vocabulary) - 1}; {_REMEDY}"
        )
    needed = [START, END, *BYTE_CHARACTERS, *(character + END_OF_WORD for character in BYTE_CHARACTERS)]
    for token in (*needed, *("".join(pair) for pair in merges)):
        if token not in vocabulary:
            raise UserError(f"the vocabulary has no {token!r}, so it is not that of a CLIP; {_REMEDY}")
