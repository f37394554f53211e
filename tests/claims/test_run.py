"""The study's runner, with stand-ins for training and drawing: what it asks for, and that a killed run goes on."""

import collections
import json
import pathlib

import numpy as np
import pytest

from benchmarks.claims import run as running
from benchmarks.claims.about import hours
from benchmarks.claims.drawing import Drawing
from benchmarks.claims.settings import CHOICES
from benchmarks.claims.study import VARIANTS, Study
from cm3leon_jax.commands.demo import STAGES
from cm3leon_jax.commands.stage import STAGE_FILE
from cm3leon_jax.runtime.errors import StartAgain

ABOUT = {"parameters": 1e6, "steps": 100, "seeds": 2, "creatures": 10, "bank_only": 2, "parts": 4, "validation": 6}
ABOUT |= {"best_of": 4, "weights": {"retrieval": 2.0}, "hours": 1.0, "machine": "a machine"}


class StandIn:
    """Trains nothing and draws chances; ends like a killed process after `life` drawings."""

    def __init__(self, life):
        self.life, self.commands, self.drawn = life, [], collections.Counter()

    def __call__(self, arguments, what):
        if arguments[1] == "cm3leon_jax":
            self.commands.append(arguments[2])
            if arguments[2] == "evaluate":
                self._evaluate(pathlib.Path(arguments[arguments.index("--directory") + 1]))
            return
        request = json.loads(pathlib.Path(arguments[-1]).read_text())
        for drawing in (Drawing(**each) for each in request["drawings"]):
            if not self.life:
                raise StartAgain("killed")
            self.life -= 1
            path = drawing.path(request["directory"])
            self.drawn[path] += 1
            count = drawing.known + drawing.bank_only
            rng = np.random.default_rng(len(self.drawn))
            asked = {"known": [1] * drawing.known + [0] * drawing.bank_only}
            asked["bank_only"] = [1 - each for each in asked["known"]]
            right = {
                group: rng.integers(0, np.array(each)[:, None] + 1, (count, drawing.samples)).tolist()
                for group, each in asked.items()
            }
            clip = rng.normal(size=(count, drawing.samples)).tolist()
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(
                json.dumps(
                    {"asked": asked, "right": right, "retrieved": asked, "behind_tokenizer": asked, "clip": clip}
                )
            )

    def _evaluate(self, folder):
        """A task that is learned, and one that is not; captions are drawn a little worse."""
        task = {"headline": "right", "ceiling": {"right": {"value": 1.0}}}
        tasks = {
            "edit": task | {"counts": {"scores": [[2] * 8, [2] * 8], "baseline": [[0] * 8, [2] * 8]}},
            "science": task
            | {"counts": {"scores": [[1] * 8, [2] * 8], "baseline": [[1] * 8, [2] * 8]}}
            | {"scores": {"words": {"value": 0.75}}},
        }
        kept = {"before": {"counts": [[50] * 8, [100] * 8]}, "after": {"counts": [[48] * 8, [100] * 8]}}
        (folder / "scene_tasks").mkdir(parents=True, exist_ok=True)
        (folder / "scene_tasks/scores.json").write_text(json.dumps({"tasks": tasks, "text_to_image": kept}))


@pytest.fixture
def study(tmp_path, monkeypatch):
    monkeypatch.setattr(running, "made_with", lambda study, variant, seed: "decoder")
    monkeypatch.setattr(running, "facts", lambda study, chosen: ABOUT)
    monkeypatch.setattr(running, "write_picture", lambda *_: None)
    return Study(tmp_path, seeds=2, known=6, bank_only=4, many=4, samples=4, validation=6, fine_tunings=2)


def test_a_killed_study_goes_on_and_draws_nothing_twice(study, tmp_path, monkeypatch):
    killed = StandIn(life=20)
    monkeypatch.setattr(running, "_process", killed)
    with pytest.raises(StartAgain):
        running.run(study, tmp_path / "docs")
    assert killed.commands.count("train") == 2 * len(VARIANTS) and killed.commands.count("prepare") == 2
    assert not (tmp_path / "docs").exists() and sum(killed.drawn.values()) == 20
    rest = StandIn(life=-1)
    monkeypatch.setattr(running, "_process", rest)
    page = running.run(study, tmp_path / "docs").read_text()
    assert not set(killed.drawn) & set(rest.drawn) and set(rest.drawn.values()) == {1}
    validation = [path.name for path in killed.drawn + rest.drawn if path.name.startswith("validation")]
    assert len(validation) == sum(len(choice.candidates) for choice in CHOICES.values())
    results = json.loads((tmp_path / "results.json").read_text())
    assert set(results["claims"]) == {"retrieval", "best_of", "guidance", "fine_tuning"}
    of_fine_tuning = results["claims"]["fine_tuning"]
    assert [round(test["value"], 6) for test in of_fine_tuning["tests"].values()] == [1.0, 0.0, 0.01]
    assert of_fine_tuning["verdict"] == "holds in part" and "the right ones in 75%" in page
    assert rest.commands[-6:] == ["demo", "prepare", *["train", "evaluate"] * 2]
    titles = [part.partition("]")[0] for part in page.split("![")[2:]]
    assert len(titles) == 6 and max(map(len, titles)) <= 45  # as much as fits on a chart
    for claim in results["claims"].values():
        assert f"This {claim['verdict']}." in page
        assert all(f"]({name}.svg)" in page and (tmp_path / f"docs/{name}.svg").exists() for name in claim["charts"])
    nothing = StandIn(life=0)
    monkeypatch.setattr(running, "_process", nothing)
    assert running.run(study, tmp_path / "docs").read_text() == page and not nothing.drawn
    other = StandIn(life=-1)
    monkeypatch.setattr(running, "_process", other)
    monkeypatch.setattr(running, "made_with", lambda study, variant, seed: f"other{seed}" if seed else "decoder")
    running.run(study, tmp_path / "docs")  # the second seed's decoders were trained anew
    assert other.drawn and {path.parent.name.rpartition("_")[2] for path in other.drawn} == {"other1"}


def test_hours_are_those_of_the_demo_too_where_a_claim_starts_from_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    study = Study(pathlib.Path("runs/claims_cpu"))
    of_the_demo = [f"runs/demo/{stage.folder}" for stage in STAGES]
    another = "runs/demo/sft"  # the demo's own fine-tuning, which the study does not use
    for folder in (
        study.path("retriever"),
        study.path("fine_tuned/0/decoder"),
        *of_the_demo,
        "runs/demo/instructions",
        another,
    ):
        pathlib.Path(folder).mkdir(parents=True)
        pathlib.Path(folder, STAGE_FILE).write_text(json.dumps({"seconds": 360.0}))
    pathlib.Path(study.path("drawings/retrieval_0")).mkdir(parents=True)
    pathlib.Path(study.path("drawings/retrieval_0/test.json")).write_text(json.dumps({"seconds": 720.0}))
    assert hours(study) == pytest.approx(0.4 + 0.1 * (len(STAGES) + 1))
    assert hours(Study(study.directory, fine_tunings=0)) == pytest.approx(0.4)
