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


def test_pictures_that_cannot_be_decoded_are_left_out_before_drawing(source, tmp_path):
    for number in (1, 2, 4):
        (tmp_path / "pairs" / f"{number}.png").write_bytes(b"no picture")
    generator = Told(lambda request, number: drawn_from(request.query))
    with pytest.raises(UserError, match=r"3 of \d+ pictures of folder:.* cannot be used \(the first: 1.png"):
        suite.text_to_image(work_in(tmp_path / "out", generator, **settings(source)))
    assert not generator.asked
    # The same folder: what was computed of the references is used again, and what was left out is still known.
    for _ in range(2):
        work = work_in(tmp_path / "out", generator, **settings(source, most_left_out=0.5, shown=3))
        result, count = suite.text_to_image(work), len(generator.asked)
        assert result.counts["text_to_image"].left_out == {"the picture cannot be decoded": 3}
        assert result.counts["text_to_image"].scored == count and f"the {count - 3} pictures" in result.notes[0]
    data = work.open("text_to_image")
    captions = suite.one_caption_each(data.examples, 0, 0)
    good = [each for each in captions if each.picture not in ("1.png", "2.png", "4.png")]
    drawn = map(drawn_from, [each.caption for each in captions])
    (expected,) = distances([data.image(each.place, 8) for each in good], drawn, Corners(), DistanceConfig(draws=0))
    assert result.figures[0].value == pytest.approx(expected.value)
    assert [each.title for each in result.shown] == [each.caption for each in good[:3]]


def test_distances_by_two_of_a_kind_have_names_of_their_own(source, tmp_path, monkeypatch):
    class Clip(Corners):
        name = "clip"

        def __init__(self, fingerprint):
            self.fingerprint = fingerprint

    monkeypatch.setattr(comparing, "load_network", lambda name, weights: Clip("weights"))
    monkeypatch.setattr(comparing, "clip_features", lambda retriever: Clip("retriever"))
    generator = Told(lambda request, number: drawn_from(request.query))
    generator.retriever = object()
    work = work_in(tmp_path / "out", generator, **settings(source, network="clip", shown=0))
    names = [each.name for each in suite.text_to_image(work).figures]
    assert names == ["CLIP-FD", "CMMD", "CLIP-FD by the retriever", "CMMD by the retriever", "CLIP similarity"]


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
    statistics = FeatureStatistics(3)  # as pytorch-fid's, which say nothing of their origin
    statistics.update(rng.normal(size=(5, 3)))
    save_statistics(tmp_path / "dims.npz", statistics)
    with pytest.raises(UserError, match="statistics of 3 numbers an image, and features of 2"):
        suite.text_to_image(
            work_in(tmp_path / "out", generator, **settings(source, statistics=str(tmp_path / "dims.npz")))
        )
    with pytest.raises(UserError, match=r"set SuitesConfig.network_weights"):
        suite.text_to_image(work_in(tmp_path / "out", generator, **settings(source, network_weights="")))
    with pytest.raises(UserError, match="--prepared DATA and --retriever"):
        suite.text_to_image(work_in(tmp_path / "out", generator, **settings(source, retrieved=(0, 1))))
    assert not generator.asked
