"""Drawing and scoring with one decoder, in place of which there is one that draws what it was shown."""

import dataclasses
import json
import types

import numpy as np
import pytest

from benchmarks.claims import drawing as drawing_module
from benchmarks.claims.drawing import Drawing, missing
from benchmarks.claims.pictures import wanted_pictures
from benchmarks.claims.scores import read_scores
from benchmarks.claims.settings import guided
from benchmarks.claims.shown import write_picture
from benchmarks.claims.study import Study
from cm3leon_jax.data.creatures.folder import write_creatures
from cm3leon_jax.data.creatures.world import CreaturesConfig
from cm3leon_jax.data.sources import open_source
from cm3leon_jax.sampling.pipeline import Generator


class Copyist:
    """Knows every test picture by its caption, when a document is retrieved; else it draws nothing."""

    def __init__(self, source):
        split = source.split("test")
        self.pictures = {split[index].caption: split[index].image for index in range(len(split))}
        self.image_tokenizer = types.SimpleNamespace(encode=lambda images: images, decode=lambda codes: codes)
        self.retriever = types.SimpleNamespace(
            embed_texts=lambda texts: np.stack([self.pictures[text].reshape(-1) / 1e4 for text in texts]),
            embed_images=lambda images: images.reshape(len(images), -1) / 1e4,
        )

    def retrieve(self, texts, count):
        return [[types.SimpleNamespace(caption=text, image=self.pictures[text])] * count for text in texts]

    def text_to_image(self, texts, *, retrieved, n, sampling, label):
        assert sampling.rule == "guided" and label
        pictures = [
            self.pictures[text] if documents else np.full((64, 64, 3), 250, np.uint8)
            for text, documents in zip(texts, retrieved, strict=True)
        ]
        return np.stack(pictures)[:, None].repeat(n, axis=1)


@pytest.fixture
def study(tmp_path, monkeypatch):
    config = CreaturesConfig(creatures=30, bank_only=14, bank_only_share=0.5, parts=8, train=9, validation=9, test=20)
    write_creatures(tmp_path / "creatures_bank/data", config)
    study = Study(tmp_path, known=10, bank_only=8, many=10)
    copyist = Copyist(open_source(study.source("bank")))
    monkeypatch.setattr(Generator, "load", lambda *_, **__: copyist)
    return study


def test_each_drawing_is_scored_and_made_once(study, tmp_path):
    drawings = [Drawing("test", 10, 8, count, 2, guided(1.0)) for count in (0, 1, 2)]
    results = str(tmp_path / "drawings")
    assert missing([*drawings, drawings[0]], results) == drawings
    request = {"source": study.source("bank"), "decoder": "d", "models": {}, "prepared": "p", "directory": results}
    drawing_module.work(request | {"drawings": [dataclasses.asdict(drawing) for drawing in drawings]})
    assert missing(drawings, results) == []
    assert missing([dataclasses.replace(drawings[0], sampling=guided(2.0))], results)
    for drawing in drawings:
        scores = read_scores(drawing, [results, results])
        assert scores.asked["known"].sum() > 10 and scores.asked["bank_only"].sum() >= 8
        for group, asked in scores.asked.items():
            assert scores.right[group].shape == (2, 18, 2) and scores.clip.shape == (2, 18, 2)
            np.testing.assert_array_equal(scores.behind_tokenizer[group], asked)
            np.testing.assert_array_equal(scores.retrieved[group], asked * (drawing.retrieved > 0))
            np.testing.assert_array_equal(scores.right[group][1, :, 1], asked * (drawing.retrieved > 0))
    kept = np.load(drawings[1].path(results).with_suffix(".npz"))
    wanted = wanted_pictures(open_source(study.source("bank")), "test", 10, 8)
    np.testing.assert_array_equal(kept["drawn"], [wanted[index].image for index in (*range(8), *range(10, 18))])
    (tmp_path / "docs").mkdir()
    write_picture(study, tmp_path / "docs", drawings, results)
    assert (tmp_path / "docs/claims.png").stat().st_size > 1000
    assert json.loads(drawings[0].path(results).read_text())["seconds"] > 0
