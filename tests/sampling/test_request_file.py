"""A file of requests: results do not depend on pieces, on the number of processes, or on being killed in between."""

import json
import pathlib

import numpy as np
import PIL.Image
import pytest
from processes import Run
from tiny_generator import tiny_generator

from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.runtime.files import read_json_lines
from cm3leon_jax.sampling.request_file import answer_file, read_rows, tell_of
from cm3leon_jax.sampling.requests import RequestReader
from cm3leon_jax.sampling.rules import SamplingConfig

PROGRAM = pathlib.Path(__file__).with_name("answering.py")
READER = RequestReader(lambda name: np.zeros((8, 8, 3), np.uint8), (4, 4), SamplingConfig(), samples=2)
ROWS = [{"prompt": "cat"}, {"image": "x", "samples": 1}, {"prompt": "a" * 95}, {"prompt": "dog", "retrieved": 1}]
ROWS += [{"prompt": "owl", "id": "o"}]


@pytest.fixture(scope="module")
def generator():
    return tiny_generator()


@pytest.fixture(scope="module")
def expected(generator, tmp_path_factory):
    out = tmp_path_factory.mktemp("expected")
    answer_file(generator, READER, ROWS, out, piece=5, keep=0)
    return contents(out)


def contents(out):
    """Results with the pixels of their pictures; batches of other shapes round log-probabilities otherwise."""
    found = read_json_lines(out / "results.jsonl")
    for result in found:
        for answer in result.get("answers", ()):
            answer["logprob"] = pytest.approx(answer["logprob"], abs=1e-3)
            answer["images"] = [np.asarray(PIL.Image.open(out / file)).tolist() for file in answer["images"]]
    return found


def test_results_are_the_requests_with_answers(expected):
    assert [result["request"] for result in expected] == [0, 1, 2, 3, 4]
    assert [len(result.get("answers", ())) for result in expected] == [2, 1, 0, 2, 2]
    assert "the model holds 96" in expected[2]["error"] and expected[4]["id"] == "o"
    assert len(expected[3]["documents"]) == 1 and expected[1]["answers"][0]["texts"][0] is not None
    scores = [answer["clip_score"] for answer in expected[0]["answers"]]
    assert scores == sorted(scores, reverse=True)


def test_killed_between_pieces_it_continues(generator, expected, tmp_path, monkeypatch):
    calls = []

    class Killed(Exception):
        pass

    def run(*arguments, **options):
        calls.append(len(arguments[0]))
        if len(calls) == 2:
            raise Killed
        return type(generator).run(generator, *arguments, **options)

    monkeypatch.setattr(generator, "run", run)
    with pytest.raises(Killed):
        answer_file(generator, READER, ROWS, tmp_path, piece=2, keep=0)
    assert not (tmp_path / "results.jsonl").exists()
    answer_file(generator, READER, ROWS, tmp_path, piece=2, keep=0)
    assert calls == [2, 1, 1, 1]  # the first piece is not answered again
    assert contents(tmp_path) == expected


def test_several_processes_share_the_pieces_and_end_together(expected, tmp_path):
    with Run(PROGRAM, 2, out=str(tmp_path), rows=ROWS) as run:
        ended = run.wait()
    assert [each.status for each in ended] == [2, 2], ended  # one request has an error
    assert "1 of 5 requests were not answered" in ended[0].errors and "cm3leon:" not in ended[1].errors
    # Of five requests in three pieces: one has the first and the last, the other that with the error.
    assert (tmp_path / "drawn_by_0").read_text() == "2\n1\n" and (tmp_path / "drawn_by_1").read_text() == "1\n"
    assert contents(tmp_path) == expected


def test_the_best_are_kept_and_errors_are_told(generator, expected, tmp_path, capsys):
    speed = answer_file(generator, READER, ROWS, tmp_path, piece=3, keep=1)
    assert contents(tmp_path)[0]["answers"] == expected[0]["answers"][:1]
    assert len(list((tmp_path / "pictures").rglob("*.png"))) == 4
    with pytest.raises(UserError, match=r"1 of 5 requests were not answered.* number 2: this with what it asks for"):
        tell_of(tmp_path, speed)
    assert "samples in" in capsys.readouterr().out


def test_files_that_cannot_be_read(tmp_path):
    file = tmp_path / "requests.jsonl"
    with pytest.raises(UserError, match="cannot be read"):
        read_rows(file)
    for text, words in (
        ("\n", "has no requests"),
        ('{"a": 1}\nx', "line 2"),
        ("[]", "line 1"),
        ("[" * 10**5, "line 1"),
    ):
        file.write_text(text)
        with pytest.raises(UserError, match=words):
            read_rows(file)
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="line 1"):
        read_rows(file)
    file.write_text(json.dumps(ROWS[0]) + "\n\n" + json.dumps(ROWS[1]))
    assert read_rows(file) == ROWS[:2]
