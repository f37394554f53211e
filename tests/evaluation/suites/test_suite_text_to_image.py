"""Pictures from captions: distances of known pictures, CLIP's choice, documents, and statistics of something else."""

import numpy as np
import pytest
from stand_ins import Told, pairs_folder, work_in
from tiny_generator import tiny_generator

from cm3leon_jax.evaluation.fid.distances import DistanceConfig, distances
from cm3leon_jax.evaluation.fid.statistics import FeatureStatistics, Origin
from cm3leon_jax.evaluation.fid.statistics_files import save_statistics
from cm3leon_jax.evaluation.suites import comparing
from cm3leon_jax.evaluation.suites import text_to_image as suite
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.sampling.rules import SamplingConfig

CAPTIONS = [["cat", "dog"], ["owl"], ["fox"], ["bee", "ant"], ["cow"], ["pig"], ["hen"], ["elk"]] * 5


class Corners:
    """The brightness of the two upper corners."""

    name, fingerprint, dim = "inception", "corners", 2

    def __call__(self, images):
        return images[:, 0, [0, -1], 0].astype(np.float32)


@pytest.fixture(autouse=True)
def network(monkeypatch):
    monkeypatch.setattr(comparing, "load_network", lambda name, weights: Corners())


@pytest.fixture
def source(tmp_path):
    return pairs_folder(tmp_path / "pairs", CAPTIONS)


def drawn_from(text):
    image = np.full((8, 8, 3), 5 * (ord(text[0]) - ord("a")), np.uint8)
    image[:, -1] = ord(text[1])
    return image


def settings(source, **others):
    return {"text_to_image": source, "network_weights": "w", "retrieved": (0,), "split": "train"} | others


def test_distances_are_those_of_the_pictures(source, tmp_path):
    generator = Told(lambda request, number: drawn_from(request.query) // (number + 1))
    work = work_in(tmp_path / "out", generator, **settings(source, shown=2, samples=3))
    result = suite.text_to_image(work)
    asked = [request.query for request in generator.asked]
    data = work.open("text_to_image")
    assert all(of_one[0] in asked or of_one[-1] in asked for of_one in CAPTIONS[:8])
    references = [data.image(each.place, 8) for each in suite.one_caption_each(data.examples, 0, 0)]
    assert len(asked) == len(references) and {request.samples for request in generator.asked} == {3}
    (expected,) = distances(references, map(drawn_from, asked), Corners(), DistanceConfig(draws=0))
    fid, similarity = result.figures
    assert (fid.data, fid.name, fid.examples) == ("0 retrieved documents", "FID", len(asked))
    assert fid.value == pytest.approx(expected.value) and similarity.value == pytest.approx(0.5)
    assert len(result.shown) == 2 and result.shown[0].title == asked[0]
    np.testing.assert_array_equal(result.shown[0].pictures[0][1], drawn_from(asked[0]))
    assert "references: the" in result.notes[0] and "log-probability" in result.notes[1]


def test_one_caption_of_each_picture_is_drawn_by_the_seed(source, tmp_path):
    data = work_in(tmp_path, **settings(source)).open("text_to_image")
    everything = suite.one_caption_each(data.examples, 0, 0)
    assert len({each.picture for each in everything}) == len(everything)
    some = suite.one_caption_each(data.examples, 3, 1)
    assert len(some) == 3 and some == suite.one_caption_each(data.examples, 3, 1)
    assert [each.caption for each in everything] != [
        each.caption for each in suite.one_caption_each(data.examples, 0, 5)
    ]


def test_a_tiny_model_with_documents_end_to_end(source, tmp_path):
    sampling = SamplingConfig(rule="mixed")
    work = work_in(
        tmp_path / "out",
        tiny_generator(),
        sampling=sampling,
        **settings(source, retrieved=(0, 2), samples=2, examples=4, clip_distances=False),
    )
    result = suite.text_to_image(work)
    assert [(each.data, each.name) for each in result.figures] == [
        (f"{count} retrieved documents", name) for count in (0, 2) for name in ("FID", "CLIP similarity")
    ]
    assert "chosen by CLIP" in result.notes[1] and len(result.shown[0].pictures) == 3
    # The references' statistics are kept for the next number of documents.
    assert (tmp_path / "out" / "references_inception.npz").exists()


def test_statistics_of_something_else_are_refused_before_drawing(source, tmp_path):
    generator = Told(lambda request, number: drawn_from(request.query))
    rng = np.random.default_rng(0)
    for name, origin, words in (
        ("network", Origin("clip", "x", (8, 8)), "another network"),
        ("weights", Origin("inception", "x", (8, 8)), "another weights"),
        ("size", Origin("inception", "corners", (16, 16)), "another resolution"),
    ):
        statistics = FeatureStatistics(2, origin)
        statistics.update(rng.normal(size=(5, 2)))
        save_statistics(tmp_path / f"{name}.npz", statistics)
        with pytest.raises(UserError, match=words):
            work = work_in(tmp_path / "out", generator, **settings(source, statistics=str(tmp_path / f"{name}.npz")))
            suite.text_to_image(work)
    with pytest.raises(UserError, match=r"set SuitesConfig.network_weights"):
        suite.text_to_image(work_in(tmp_path / "out", generator, **settings(source, network_weights="")))
    with pytest.raises(UserError, match="--prepared DATA and --retriever"):
        suite.text_to_image(work_in(tmp_path / "out", generator, **settings(source, retrieved=(0, 1))))
    assert not generator.asked
