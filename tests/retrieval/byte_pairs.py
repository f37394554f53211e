"""A small vocabulary in CLIP's form, learned from a few sentences."""

import collections
import itertools

from cm3leon_jax.retrieval.clip.bpe import END, END_OF_WORD, START
from cm3leon_jax.retrieval.clip.words import BYTE_CHARACTERS, normalize, split_words

SENTENCES = (
    "a photo of a cat, and the photo of the dog's tail; it's 2024, isn't it?",
    "the theatre in the rain: they'll see us there, we've been there before!!!",
    "Der Fluß, die Straße und die Bäume … 東京の写真 写真 写真 🐈🐈 naïve café",
    "banana bananas aaaa aaaaaaa 100 1000 10 000",
)


def learn(size: int = 0) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """-> vocabulary and merges: again and again the pair that is most often seen, ties broken by its tokens.

    Tokens that no text makes fill it up to `size`; the control tokens come last, as in OpenAI's.
    """
    words = collections.Counter()
    for sentence in SENTENCES:
        for word in split_words(normalize(sentence)):
            *first, last = (BYTE_CHARACTERS[byte] for byte in word.encode())
            words[(*first, last + END_OF_WORD)] += 1
    learned = []
    for _ in range(100):
        pairs = collections.Counter()
        for word, count in words.items():
            for pair in itertools.pairwise(word):
                pairs[pair] += count
        best = max(pairs, key=lambda pair: (pairs[pair], pair))
        learned.append(best)
        words = collections.Counter({joined(word, best): count for word, count in words.items()})
    tokens = [*BYTE_CHARACTERS, *(character + END_OF_WORD for character in BYTE_CHARACTERS), *map("".join, learned)]
    tokens = list(dict.fromkeys(tokens))
    tokens += [f"[{index}]" for index in range(len(tokens), size - 2)]
    return {token: index for index, token in enumerate([*tokens, START, END])}, learned


def joined(word: tuple[str, ...], pair: tuple[str, str]) -> tuple[str, ...]:
    result: list[str] = []
    for token in word:
        if result and (result[-1], token) == pair:
            result[-1] += token
        else:
            result.append(token)
    return tuple(result)
