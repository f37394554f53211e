"""`cm3leon evaluate` on held-out scenes: how its models are loaded, and what its result depends on."""

import json
import types

import pytest

from cm3leon_jax.commands.evaluate import evaluate
from cm3leon_jax.evaluation.config import EvaluationConfig
from cm3leon_jax.evaluation.suites.config import SuitesConfig
from cm3leon_jax.evaluation.suites.work import Models
from cm3leon_jax.model.partitioning import AxisRules, MeshConfig
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.sampling.pipeline import Generator
from cm3leon_jax.sampling.rules import SamplingConfig
from cm3leon_jax.sampling.weights import PrecisionConfig

NAMES = ("decoder", "text_tokenizer", "image_tokenizer", "retriever", "prepared", "source")


@pytest.fixture
def scenes(tmp_path, monkeypatch):
    """Runs the command on stand-ins; `loaded` lists how models were read, `prints` what they are."""
    found = types.SimpleNamespace(loaded=[], prints=dict.fromkeys(NAMES, "1"))
    generator = types.SimpleNamespace(image_tokenizer=types.SimpleNamespace(resolution=8), retriever=None, config=None)
    bank = types.SimpleNamespace(manifest={"memory_bank": {"recall_at_10": 0.5}})
    work, scores = "cm3leon_jax.evaluation.suites.work.", "cm3leon_jax.evaluation."
    monkeypatch.setattr(Generator, "load", lambda *folders, **how: found.loaded.append(how) or generator)
    monkeypatch.setattr(f"{work}Models.prepared", bank)
    monkeypatch.setattr(
        Models, "fingerprints", lambda self, options: {each: found.prints[each] for each in options if each != "source"}
    )
    monkeypatch.setattr(f"{scores}suites.fingerprints.source_fingerprint", lambda spec: found.prints["source"])
    monkeypatch.setattr(
        "cm3leon_jax.data.sources.open_source", lambda spec: types.SimpleNamespace(split=lambda name: [])
    )
    monkeypatch.setattr(f"{scores}held_out.held_out_scenes", lambda *_: [])
    monkeypatch.setattr(f"{scores}evaluate.evaluate_scenes", lambda *_, **__: {})
    monkeypatch.setattr("cm3leon_jax.model.config.parameter_count", lambda config: 7)
    (tmp_path / "decoder" / "model").mkdir(parents=True)

    def run(**options):
        given = {name: str(tmp_path / name / "model") for name in NAMES} | options
        evaluate(
            str(tmp_path / "out"),
            SamplingConfig(),
            PrecisionConfig(weights="int8"),
            MeshConfig(data=1, tensor=2),
            AxisRules(heads=None),
            EvaluationConfig(),
            SuitesConfig(),
            **given,
        )
        return json.loads((tmp_path / "out" / "results.json").read_text())

    found.run = run
    return found


def test_the_models_are_those_of_the_options(scenes):
    scenes.run(batch_size=5)
    (how,) = scenes.loaded
    assert how["batch_size"] == 5 and how["precision"].weights == "int8"
    assert how["partitioning"].mesh.shape["tensor"] == 2 and how["partitioning"].rules.heads is None


def test_a_decoder_without_held_out_losses(scenes, tmp_path):
    assert scenes.run()["details"] == {}
    (tmp_path / "decoder" / "evaluation.json").write_text('{"loss": 1.5}')
    assert scenes.run()["details"] == {}  # finished; nothing to do
    (tmp_path / "out" / "stage.json").unlink()
    assert scenes.run()["details"] == {"held_out": {"loss": 1.5}}


def test_damaged_losses_are_told_before_models_are_read(scenes, tmp_path):
    (tmp_path / "decoder" / "evaluation.json").write_text("{")
    with pytest.raises(UserError, match=r"held-out losses at .* cannot be read"):
        scenes.run()
    assert not scenes.loaded


@pytest.mark.parametrize("name", NAMES)
def test_other_models_or_scenes_are_measured_anew(scenes, name):
    scenes.run()
    scenes.prints[name] = "2"
    with pytest.raises(UserError, match=rf"made with other settings .*{name}: '1' there, '2' now"):
        scenes.run()


def test_settings_that_make_no_sense():
    for wrong in (
        {"examples": 0},
        {"examples": -1},
        {"shown": -1},
        {"retrieved_variants": (0, -1)},
        {"best_of_rule": "best"},
    ):
        with pytest.raises(UserError, match=f"EvaluationConfig.{next(iter(wrong))}"):
            EvaluationConfig(**wrong)
