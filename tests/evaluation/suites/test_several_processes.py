"""Several processes share a suite, and all of them find what one finds alone."""

import json
import pathlib

import pytest
from processes import Run
from stand_ins import picture, work_in, write
from tiny_generator import tiny_generator

from cm3leon_jax.evaluation.suites.vqa import vizwiz
from cm3leon_jax.runtime.files import read_json_lines

PROGRAM = pathlib.Path(__file__).with_name("measuring.py")


def test_two_processes_find_what_one_finds(tmp_path):
    rows = []
    for number in range(5):
        picture(tmp_path / "data" / f"{number}.jpg", 20 * number)
        rows.append({"image": f"{number}.jpg", "question": "q", "answers": [{"answer": "a"}] * 10})
        rows[-1] |= {"answer_type": "other", "answerable": number % 2}
    write(tmp_path / "data" / "val.json", rows)
    source = f"vizwiz:{tmp_path / 'data'}?split=val"
    with Run(PROGRAM, 2, out=str(tmp_path / "two"), source=source) as run:
        ended = run.wait()
    assert [each.status for each in ended] == [0, 0], ended
    alone = json.loads(
        json.dumps(vizwiz(work_in(tmp_path / "one", tiny_generator(), vizwiz=source, answer_tokens=2)).to_dict())
    )
    for process in range(2):
        assert json.loads((tmp_path / "two" / f"found_by_{process}.json").read_text()) == alone
    for name in ("vizwiz", "vizwiz_likelihoods"):
        assert len(list((tmp_path / "two" / name / "pieces").iterdir())) == 3
        one, two = (read_json_lines(tmp_path / where / name / "results.jsonl") for where in ("one", "two"))
        assert [row["request"] for row in two] == list(range(5))
        if "logprobs" in one[0]:
            assert [row["logprobs"] for row in two] == [pytest.approx(row["logprobs"], abs=1e-3) for row in one]
        else:
            assert [row["answers"][0]["answer"] for row in two] == [row["answers"][0]["answer"] for row in one]
