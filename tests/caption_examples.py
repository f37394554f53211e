"""Captions for tests of metrics: hand-made corners and random ones, with references."""

import random

WORDS = [
    *("a", "the", "cat", "dog", "sits", "on", "mat", "red", "big", "ball", "man"),
    *("'s", "n't", "two", "café", "猫", "runs", "3.5", "well-known", "of", "in", "and"),
]

HAND_MADE = [
    ("a cat sits on the mat", ["a cat sits on the mat", "the cat is on a mat"]),
    ("", ["a dog", "the dog runs"]),
    ("cat", ["cat", "a cat"]),
    ("dog", ["cat"]),
    ("the the the the the the", ["the cat the dog", "a man in the park"]),
    ("a a b b a a b b", ["a a b b a a b b c", "b b a a"]),
    ("café 猫 naïve", ["café 猫 naïve", "un café"]),
    ("a big red ball on the mat of the man", ["ball"]),
    ("two dogs", ["two dogs run in the big green park and do n't stop"]),
]


def random_captions(seed: int, count: int) -> list[tuple[str, list[str]]]:
    """Candidates that share words with their references, of 0 to 14 tokens."""
    rng = random.Random(seed)

    def caption(least: int) -> str:
        return " ".join(rng.choices(WORDS, k=rng.randint(least, 14)))

    examples = []
    for _ in range(count):
        references = [caption(1) for _ in range(rng.randint(1, 5))]
        candidate = caption(0) if rng.random() < 0.3 else _changed(rng.choice(references), rng)
        examples.append((candidate, references))
    return examples


def _changed(caption: str, rng: random.Random) -> str:
    return " ".join(
        rng.choice(WORDS) if rng.random() < 0.25 else word for word in caption.split() if rng.random() > 0.1
    )


def split(examples: list[tuple[str, list[str]]]) -> tuple[list[list[str]], list[list[list[str]]]]:
    """Tokens of the candidates, and of their references."""
    return [candidate.split() for candidate, _ in examples], [
        [r.split() for r in references] for _, references in examples
    ]


def for_pycocoevalcap(examples: list[tuple[str, list[str]]]) -> tuple[dict, dict]:
    """The two dictionaries that pycocoevalcap's scorers take: references, candidates."""
    return dict(enumerate(r for _, r in examples)), {number: [c] for number, (c, _) in enumerate(examples)}
