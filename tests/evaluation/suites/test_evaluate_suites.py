"""`cm3leon evaluate --suite NAME`: what is measured again, what is refused, and what a result says of itself."""

import json

import pytest
from stand_ins import Told, level, work_in, write_vqa

from cm3leon_jax.commands.evaluate_suites import evaluate_suite
from cm3leon_jax.evaluation.scene_tasks import suite as scene_tasks
from cm3leon_jax.evaluation.suites.config import SuitesConfig
from cm3leon_jax.evaluation.suites.result import Count, Figure, SuiteResult
from cm3leon_jax.evaluation.suites.table import SUITES, Suite
from cm3leon_jax.evaluation.suites.work import Models
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.sampling.pipeline import Generator
from cm3leon_jax.sampling.rules import SamplingConfig
from cm3leon_jax.sampling.weights import PrecisionConfig

OPTIONS = dict.fromkeys(("decoder", "text_tokenizer", "image_tokenizer", "retriever", "prepared", "source"), "")


class Answering(Models):
    """Models by their names, and a generator that is at hand."""

    def __init__(self, generator=None, **options):
        given = {"decoder": "d", "text_tokenizer": "t", "image_tokenizer": "i"} | options
        super().__init__(OPTIONS | given, None)
        self.generator = generator

    def fingerprints(self, options):
        return {each: f"of {self.options[each]}" for each in options if self.options[each] and each != "source"}


def measured(directory, name, models, precision=None, **settings):
    """Runs the suite into `directory`/NAME -> its result.json."""
    config = SuitesConfig(**{"piece": 2, "distance_draws": 0} | settings)
    evaluate_suite(name, str(directory), config, SamplingConfig(), precision or PrecisionConfig(), models, "test")
    return json.loads((directory / name / "result.json").read_text())


@pytest.fixture
def files(monkeypatch):
    """Suites that read files and measure nothing; the calls are listed."""
    called = []

    def ran(work):
        called.append(work)
        return SuiteResult([Figure("x", "y", 1.0, None, None, 1)], {"x": Count("x", 1, {}, {})})

    monkeypatch.setattr(Suite, "load", lambda suite: ran)
    return called


def test_a_larger_share_may_be_left_out_in_the_same_folder(tmp_path):
    folder = write_vqa(tmp_path / "data", [["cat"] * 10] * 5)
    settings = {"vqa2": f"vqa2:{folder}?split=val"}
    told = Told(lambda request, _: None if level(request) == 20 else ["cat"])
    with pytest.raises(UserError, match=r"allow a larger share with SuitesConfig.most_left_out"):
        measured(tmp_path, "vqa2", Answering(told), **settings)
    assert len(told.asked) == 5
    again = Told(told.answer)
    result = measured(tmp_path, "vqa2", Answering(again), most_left_out=0.2, **settings)
    assert not again.asked and result["counts"]["vqa2"]["scored"] == 4
    page = (tmp_path / "vqa2" / "result.html").read_text()
    measured(tmp_path, "vqa2", Answering(again), most_left_out=0.2, shown=1, **settings)
    assert not again.asked and len((tmp_path / "vqa2" / "result.html").read_text()) < len(page)
    with pytest.raises(UserError, match=r"made with other settings .piece: 2 there, 3 now"):
        measured(tmp_path, "vqa2", Answering(again), most_left_out=0.2, piece=3, **settings)


def test_a_result_says_what_it_was_made_with(tmp_path):
    folder = write_vqa(tmp_path / "data", [["cat"] * 10])
    models = Answering(Told(lambda *_: ["cat"]))
    settings = {"vqa2": f"vqa2:{folder}?split=val", "shown": 7}
    result = measured(tmp_path, "vqa2", models, PrecisionConfig(weights="int8"), **settings)
    assert result["settings"]["precision"] == {"weights": "int8", "cache": "auto"}
    assert result["settings"]["shown"] == 7 and result["settings"]["sampling"]["rule"] == "guided"
    assert result["fingerprints"] == {"vqa2": work_in(tmp_path, vqa2=settings["vqa2"]).fingerprint("vqa2")}
    assert result["models"]["decoder"] == "of d"
    assert '"weights": "int8"' in (tmp_path / "vqa2" / "result.md").read_text()
    # It is all that the folder is compared by.
    stage = json.loads((tmp_path / "vqa2" / "stage.json").read_text())
    compared = stage["settings"] | stage["extendable"]
    assert {"suite": "vqa2", "models": result["models"], "fingerprints": result["fingerprints"]} | result[
        "settings"
    ] == compared


@pytest.mark.parametrize(
    ("suite", "setting", "is_folder"),
    [
        ("text_to_image", "network_weights", False),
        ("text_to_image", "network_weights", True),
        ("text_to_image", "statistics", False),
        ("captioning", "meteor_jar", False),
        ("captioning", "meteor_jar", True),
        ("captioning", "meteor_paraphrases", False),
        ("scene_tasks", "before", True),
    ],
)
def test_other_contents_are_measured_anew(suite, setting, is_folder, files, tmp_path, monkeypatch):
    monkeypatch.setattr("cm3leon_jax.commands.evaluate_suites.source_fingerprint", lambda spec: "s")
    file = named = tmp_path / "file"
    if is_folder:
        named.mkdir()
        file = named / "weights.safetensors"
        (named / "config.json").write_text("{}")
    file.write_bytes(b"one")
    folder = write_vqa(tmp_path / "data", [["cat"] * 10])
    settings = {setting: str(named)} | dict.fromkeys(SUITES[suite].data[:1], f"vqa2:{folder}?split=val")
    models = Answering(source="scenes:x")
    result = measured(tmp_path, suite, models, **settings)
    assert setting in result["fingerprints"] | result["models"]
    measured(tmp_path, suite, models, **settings)
    assert len(files) == 1
    file.write_bytes(b"two")
    with pytest.raises(UserError, match=rf"made with other settings .*{setting}"):
        measured(tmp_path, suite, models, **settings)


def test_what_is_not_there_is_told_before_a_folder_is_begun(files, tmp_path):
    folder = write_vqa(tmp_path / "data", [["cat"] * 10])
    settings = {"coco_captions": f"vqa2:{folder}?split=val", "meteor_jar": str(tmp_path / "m.jar")}
    with pytest.raises(UserError, match=r"m.jar is not there; correct SuitesConfig.meteor_jar"):
        measured(tmp_path, "captioning", Answering(), **settings)
    assert not (tmp_path / "captioning").exists() and not files


def test_other_scenes_are_measured_anew(files, tmp_path, monkeypatch):
    of = {"scenes:x": "one"}
    monkeypatch.setattr("cm3leon_jax.commands.evaluate_suites.source_fingerprint", of.get)
    measured(tmp_path, "scene_tasks", Answering(source="scenes:x"))
    of["scenes:x"] = "two"
    with pytest.raises(UserError, match=r"fingerprints.source: 'one' there, 'two' now"):
        measured(tmp_path, "scene_tasks", Answering(source="scenes:x"))


def test_the_decoder_before_is_drawn_from_in_the_same_way(tmp_path, monkeypatch):
    loaded = []
    monkeypatch.setattr(Generator, "load", lambda *folders, **how: loaded.append((folders, how)) or len(loaded))
    monkeypatch.setattr(scene_tasks, "text_to_image_share", lambda generator, *_: {"of": generator})
    precision = PrecisionConfig(weights="int8")
    options = {"decoder": "after", "text_tokenizer": "t", "image_tokenizer": "i", "retriever": "r", "prepared": "p"}
    models = Models(OPTIONS | options, "devices", precision=precision, batch_size=3)
    work = work_in(tmp_path, models=models, before="before")
    assert scene_tasks._drawn_captions(work, models.generator, []) == {"before": {"of": 2}, "after": {"of": 1}}
    how = {"partitioning": "devices", "precision": precision, "batch_size": 3}
    assert loaded == [
        (("after", "t", "i"), {"retriever": "r", "prepared": "p"} | how),
        (("before", "t", "i"), {"retriever": None, "prepared": None} | how),
    ]
