"""The tokenizer of captions, against Stanford's where Java and its jar are there, and by itself."""

import random
import shutil
import subprocess
from pathlib import Path

import pytest

from cm3leon_jax.evaluation.metrics.caption_rules import PUNCTUATION
from cm3leon_jax.evaluation.metrics.tokenizer import tokenize

HARD = (Path(__file__).parent / "hard_captions.txt").read_text("utf-8").splitlines()


@pytest.mark.parametrize(
    ("caption", "tokens"),
    [
        ("A man's dog isn't here.", "a man 's dog is n't here"),
        ("They can't; we cannot!", "they ca n't we can not"),
        ('A "well-known" T-shirt (red) -- $5.00, 50%', "a well-known t-shirt -lrb- red -rrb- $ 5.00 50 %"),
        ("Mr. Smith of St. Louis, U.S., at 10:30 a.m.", "mr. smith of st. louis u.s. at 10:30 a.m."),
        ("end of sentence. Another", "end of sentence another"),
        ("row B. The cat", "row b the cat"),
        ("row B.", "row b"),
        ("row B. cats", "row b. cats"),
        ("a naïve café…it\u2019s “nice”", "a naïve café it 's nice"),
        ("What?! Yes!", "what ?! yes"),
        ("line\nbreak", "line break"),
        ("\U0001f600 dog", "dog"),
        ("", ""),
        (" . ", ""),
    ],
)
def test_by_hand(caption, tokens):
    assert " ".join(tokenize(caption)) == tokens


def stanford(captions, folder):
    """The tokens of each caption, with "A" as the next one, as most captions begin."""
    package = pytest.importorskip(
        "pycocoevalcap", reason="pycocoevalcap, which brings Stanford's jar, is not installed"
    )
    jar = Path(next(iter(package.__path__))) / "tokenizer" / "stanford-corenlp-3.4.1.jar"
    if not shutil.which("java") or not jar.exists():
        pytest.skip("Java or stanford-corenlp-3.4.1.jar is not there")
    file = folder / "captions.txt"
    file.write_text("".join(f"{caption}\nA\n" for caption in captions), "utf-8")
    command = [
        "java",
        "-cp",
        str(jar),
        "edu.stanford.nlp.process.PTBTokenizer",
        "-preserveLines",
        "-lowerCase",
        str(file),
    ]
    lines = subprocess.run(command, capture_output=True, check=True, text=True, encoding="utf-8").stdout.split("\n")
    return [[token for token in line.split() if token not in PUNCTUATION] for line in lines[: 2 * len(captions) : 2]]


def test_equals_stanfords(tmp_path):
    """Hard lines, their words alone, and captions of such words: all but a few of those thrown together are equal."""
    words = [word for line in HARD for word in line.split(" ") if word]
    rng = random.Random(0)
    mixed = [" ".join(rng.choices(words, k=rng.randint(2, 8))) for _ in range(1000)]
    captions = [*HARD, *words, *mixed]
    expected = stanford(captions, tmp_path)
    different = [caption for caption, tokens in zip(captions, expected, strict=True) if tokenize(caption) != tokens]
    assert not set(different) & {*HARD, *words}
    assert len(different) <= 2, different
