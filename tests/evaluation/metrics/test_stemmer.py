"""The Porter2 stemmer: by hand, and against METEOR's where Java and the jar are there."""

import shutil
import subprocess
from pathlib import Path

import pytest

from cm3leon_jax.evaluation.metrics.stemmer import stem

WORDS = {
    "consigned": "consign",
    "consistency": "consist",
    "knocking": "knock",
    "kneeling": "kneel",
    "hopping": "hop",
    "hoping": "hope",
    "luxuriating": "luxuri",
    "ties": "tie",
    "cries": "cri",
    "gas": "gas",
    "gaps": "gap",
    "kiwis": "kiwi",
    "say": "say",
    "sky": "sky",
    "skies": "sky",
    "generously": "generous",
    "communism": "communism",
    "inning": "inning",
    "proceeded": "proceed",
    "relational": "relat",
    "adoption": "adopt",
    "controlled": "control",
    "agreed": "agre",
    "boys'": "boy",
    "'em": "em",
    "youth": "youth",
    "be": "be",
    "café": "café",
}


def test_by_hand():
    assert {word: stem(word) for word in WORDS} == WORDS


def test_equals_meteors():
    package = pytest.importorskip("pycocoevalcap", reason="pycocoevalcap, which brings METEOR's jar, is not installed")
    jar = Path(next(iter(package.__path__))) / "meteor" / "meteor-1.5.jar"
    if not shutil.which("java") or not jar.exists():
        pytest.skip("Java or meteor-1.5.jar is not there")
    endings = (
        "",
        "s",
        "es",
        "ed",
        "edly",
        "ing",
        "ly",
        "ness",
        "fulness",
        "ational",
        "izer",
        "'s",
        "y",
        "ies",
        "ative",
        "ogi",
    )
    words = [
        word + ending
        for word in (*WORDS, "general", "commun", "bat", "hiss", "pray", "yell", "oscill")
        for ending in endings
    ]
    lines = "\n".join(words)
    run = subprocess.run(
        ["java", "-cp", str(jar), "Stemmer", "en"], input=lines, capture_output=True, text=True, check=True
    )
    assert dict(zip(words, map(stem, words), strict=True)) == dict(zip(words, run.stdout.split(), strict=True))
