"""METEOR: by hand, and against the official jar where it and Java are there."""

import gzip
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from caption_examples import HAND_MADE, random_captions, split

from cm3leon_jax.evaluation.metrics.meteor import meteor
from cm3leon_jax.evaluation.metrics.meteor_data import MeteorData, read_meteor_data
from cm3leon_jax.runtime.errors import UserError

# A small table makes both implementations start at once; the jar's own takes them 8 seconds each.
PARAPHRASES = [
    ("in front of", "before"),
    ("a couple of", "two"),
    ("two", "a couple of"),
    ("a couple of", "some"),
    ("next to", "beside"),
    ("beside", "by"),
    ("next to a", "by the"),
    ("the", "a"),
    ("on the", "upon"),
    ("kid", "young boy"),
]

ENGLISH = [
    (
        "a couple of kids ran next to a bike",
        ["two children running beside the bicycle", "some boys run by the bicycle"],
    ),
    ("a young boy in front of the house", ["the kid before the home", "a boy stands in front of his house"]),
    ("the the the dog", ["the dog and the cat on the mat", "upon the mat"]),
    ("the picture of a photograph of the photo", ["a photo of the picture of a photograph"]),
    ("well-known u.s. flag , 3,000 people 's", ["the well known us flag . 3,000 people", "men 's"]),
    ("cities berries buses glasses women", ["metropolis berry coach spectacles adult female"]),
    ("beautiful hopeful churches boxes men geese", ["beauty hope church box man goose"]),
    (
        "a picture photo photos image images picture of a photo image",
        ["a picture photo photos image images picture of a photo image"],
    ),
    ("how to", ["how v1 works"]),  # words with the same hash in Java
    ("on the couch on the couch on the sofa", ["the couch upon the sofa", "sofa"]),
    ("st. louis at 5 p.m. no. 5 etc. inc. X", ["st louis at 5 pm no 5 . etc inc x"]),
]


@pytest.fixture(scope="module")
def jar():
    package = pytest.importorskip("pycocoevalcap", reason="pycocoevalcap, which brings METEOR's jar, is not installed")
    jar = Path(next(iter(package.__path__))) / "meteor" / "meteor-1.5.jar"
    if not jar.exists():
        pytest.skip("meteor-1.5.jar is not there")
    return jar


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    file = tmp_path_factory.mktemp("meteor") / "paraphrases.gz"
    with gzip.open(file, "wt", encoding="utf-8") as out:
        out.writelines(f"0.5\n{phrase}\n{paraphrase}\n" for phrase, paraphrase in PARAPHRASES)
    return file


def official(jar, table, examples):
    """The jar's score of each caption, and of all of them."""
    if not shutil.which("java"):
        pytest.skip("Java is not there")
    command = ["java", "-Xmx2G", "-jar", str(jar), "-", "-", "-stdio", "-l", "en", "-norm", "-a", str(table)]

    def answers(lines):
        run = subprocess.run(
            command, input="".join(f"{line}\n" for line in lines), capture_output=True, text=True, check=True
        )
        return run.stdout.splitlines()

    counts = answers(f"SCORE ||| {' ||| '.join(references)} ||| {candidate}" for candidate, references in examples)
    *each, together = answers([f"EVAL ||| {' ||| '.join(counts)}"])
    return float(together), [float(score) for score in each]


def test_equals_the_official_jar(jar, table):
    examples = [*HAND_MADE, *ENGLISH, *random_captions(0, 80)]
    together, each = official(jar, table, examples)
    score = meteor(*split(examples), read_meteor_data(jar, table))
    np.testing.assert_allclose(score.of_sums(score.examples), each, rtol=0, atol=1e-9)
    np.testing.assert_allclose(score.value, together, rtol=0, atol=1e-9)


def test_without_data_words_and_stems_match():
    """Three of four words match, one by its stem (0.6), in two runs: precision and recall are 2.6 / 4."""
    score = meteor([["dogs", "chased", "red", "balls"]], [[["dogs", "chase", "blue", "balls"]]])
    assert score.value == pytest.approx(2.6 / 4 * (1 - 0.6 * (2 / 3) ** 0.2))


def small_data(tmp_path, **changes):
    empty = tmp_path / "none.gz"
    gzip.open(empty, "wt").close()
    synsets = {"sofa": frozenset([1]), "couch": frozenset([1, 2]), "child": frozenset([3]), "kid": frozenset([3])}
    options = {
        "function_words": frozenset(["the"]),
        "prefixes": {},
        "synsets": synsets,
        "bases": {"children": ("child",)},
        "paraphrases": empty,
    }
    return MeteorData(**{**options, **changes})


def test_synonyms_and_base_forms_match(tmp_path):
    data = small_data(tmp_path)
    for candidate, reference in [("sofa", "couch"), ("children", "kids"), ("sofas", "couches")]:
        assert meteor([[candidate]], [[[reference]]], data).value == pytest.approx(0.8)
    assert meteor([["sofa"]], [[["kid"]]], data).value == 0


def test_function_words_weigh_less(tmp_path):
    data = small_data(tmp_path)
    content, function = (
        meteor([["the", "dog"]], [[["the", "cat"] if n else ["a", "dog"]]], data).value for n in (0, 1)
    )
    assert content > 2 * function > 0


def test_the_interval_is_of_the_corpus():
    score = meteor(*split(random_captions(1, 60)))
    interval = score.interval(draws=300)
    assert interval.low < interval.value == score.value < interval.high


def test_files_that_are_not_there_are_named(tmp_path, table):
    with pytest.raises(UserError, match="name METEOR's paraphrase-en"):
        read_meteor_data(tmp_path, tmp_path / "missing.gz")
    with pytest.raises(UserError, match="holds no data of METEOR"):
        read_meteor_data(tmp_path, table)
    with pytest.raises(UserError, match="holds no data of METEOR"):
        read_meteor_data(table, table)


def test_a_table_that_is_not_whole_is_refused_at_once(tmp_path):
    whole = gzip.compress(b"0.5\na\nb\n" * 1000)
    for name, data, words in (
        ("plain", b"0.5\na\nb\n", "cannot be read"),
        ("cut", whole[:-20], "cannot be read"),
        ("lines", gzip.compress(b"0.5\na\n"), "has 2 lines"),
    ):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(UserError, match=rf"{name} {words}.*paraphrase-en"):
            read_meteor_data(tmp_path, tmp_path / name)


def test_a_folder_does_as_well_as_the_jar(jar, table, tmp_path):
    shutil.unpack_archive(jar, tmp_path, "zip")
    assert read_meteor_data(tmp_path, table) == read_meteor_data(jar, table)
