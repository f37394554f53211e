"""Texts and pictures through a generator whose image tokenizer is a lookup table."""

import dataclasses
import subprocess
import sys

import numpy as np
import PIL.Image
import pytest
from tiny_generator import Alphabet, Bank, Blocks, Letters, Stored, tiny_generator

from cm3leon_jax.model.partitioning import MeshConfig, Partitioning, make_mesh
from cm3leon_jax.retrieval.selection import SelectionConfig
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.sampling.best_of import choose_best, clip_scores
from cm3leon_jax.sampling.library import Library
from cm3leon_jax.sampling.parts import HiddenCells, ImageHole
from cm3leon_jax.sampling.pictures import write_picture_grid
from cm3leon_jax.sampling.pipeline import Generator
from cm3leon_jax.sampling.prompts import TextHole
from cm3leon_jax.sampling.requests import hidden_cells
from cm3leon_jax.sampling.rules import SamplingConfig


@pytest.fixture(scope="module")
def generator(params):
    return tiny_generator(params)


SAMPLING = SamplingConfig(rule="guided", top_p=1.0, seed=3)


def test_text_to_image_with_retrieved_documents(generator):
    texts = ["cat", "dog"]
    found = generator.retrieve(texts, 2)
    # The rules of selection: the letter itself and those beside it are over 0.9, and so are two neighbours.
    assert [{document.caption for document in row} for row in found] == [{"a", "e"}, {"b", "f"}]
    assert found[0][0].image.shape == (8, 8, 3)
    images = generator.text_to_image(texts, retrieved=found, n=2, sampling=SAMPLING)
    assert images.shape == (2, 2, 8, 8, 3) and images.dtype == np.uint8
    np.testing.assert_array_equal(images, generator.text_to_image(texts, retrieved=2, n=2, sampling=SAMPLING))
    fewer = generator.text_to_image(texts, retrieved=[row[:1] for row in found], n=2, sampling=SAMPLING)
    assert (fewer != images).any()
    with pytest.raises(UserError, match="put it at the beginning"):
        generator.ask(["cat", found[0][0], ImageHole()])
    best = generator.best_of(texts, images)
    assert best.shape == (2, 8, 8, 3)


def test_documents_are_chosen_by_the_rules_that_the_data_was_prepared_with():
    alphabet, letters, codes = Alphabet(), Letters(), np.zeros(16, np.int32)
    shelf = [Stored(letter, letters.encode(letter), codes) for letter in "abcdefgh"]
    bank = Bank(alphabet.embed_texts([stored.caption for stored in shelf]))
    for threshold, expected in ((0.9, ["a", "e"]), (0.98, ["b", "d"]), (1.1, ["c"])):
        library = Library(
            alphabet, bank, shelf, Blocks(), SelectionConfig(threshold=threshold, text_threshold=threshold)
        )
        (found,) = library.retrieve(["cat"], len(expected))
        assert [document.caption for document in found] == expected


def test_image_to_text(generator):
    texts = generator.image_to_text(Blocks().decode(np.arange(32).reshape(2, 16) % 24), max_text=6, sampling=SAMPLING)
    assert len(texts) == 2 and all(isinstance(text, str) and len(text) <= 6 for text in texts)


def test_fill_image_leaves_what_is_not_hidden(generator):
    images = Blocks().decode(np.arange(32).reshape(2, 16) % 24)
    mask = np.zeros((8, 8), bool)
    mask[3:5, 4] = True
    hidden = np.stack([hidden_cells(mask, (4, 4))] * 2)
    assert hidden[0].nonzero()[0].tolist() == [1, 2] and hidden[0].nonzero()[1].tolist() == [2, 2]
    filled = generator.fill_image(["cat", "dog"], images, hidden, sampling=SAMPLING)
    touched = np.zeros((8, 8), bool)
    touched[2:6, 4:6] = True
    np.testing.assert_array_equal(filled[:, ~touched], images[:, ~touched])
    assert (filled[:, touched] != images[:, touched]).any()


def test_one_call_draws_what_parts_ask_for(generator):
    first, second = Blocks().decode(np.arange(32).reshape(2, 16) % 24)
    hidden = np.arange(16).reshape(4, 4) % 3 == 0
    found = generator.retrieve(["cat"], 1)[0]
    asked = [
        ["cat", ImageHole()],
        [*found, "cat", ImageHole()],
        [TextHole(6), first],
        ["c", TextHole(4), "t", HiddenCells(second, hidden)],
        ["cat", ImageHole(), TextHole(5), ImageHole()],
    ]
    results = generator.generate(asked, SAMPLING, samples=2)
    assert [[(len(one.images), len(one.texts)) for one in each] for each in results] == [
        *[[(1, 1)] * 2] * 4,
        [(2, 2)] * 2,
    ]
    alone = generator.text_to_image(["cat"], n=2, sampling=SAMPLING)[0]
    assert sorted(one.images[0].tobytes() for one in results[0]) == sorted(image.tobytes() for image in alone)
    np.testing.assert_array_equal(results[2][0].images[0], first)
    for one in results[3]:
        assert one.texts[0].startswith("c") and one.texts[0].endswith("t") and len(one.texts[0]) <= 6
        kept = ~hidden.repeat(2, axis=0).repeat(2, axis=1)
        np.testing.assert_array_equal(one.images[0][kept], second[kept])
    for each in results:  # the best first: by CLIP where there is a text
        assert each[0].score >= each[1].score
    expected = clip_scores(Alphabet(), ["cat"], np.stack([one.images[0] for one in results[0]])[None])[0]
    np.testing.assert_allclose([one.clip_score for one in results[0]], expected, atol=1e-6)
    assert results[2][0].logprob < 0


def test_editing(generator):
    images = Blocks().decode(np.arange(32).reshape(2, 16) % 24)
    edited = generator.edit_image(["cat", "dog"], images, n=2, sampling=SAMPLING)
    assert edited.shape == (2, 2, 8, 8, 3)
    other = generator.edit_image(["cat", "dog"], images[::-1], n=2, sampling=SAMPLING)
    assert (edited != other).any()


def test_unfinished_pictures_are_grey_where_nothing_is_drawn(generator):
    seen = []
    asked = [generator.ask_text_to_image("cat"), generator.ask_image_to_text(Blocks().decode(np.zeros((1, 16)))[0])]
    generator.run(asked, SAMPLING, watch=lambda unfinished: seen.append(unfinished) or [])
    rows = [unfinished for unfinished in seen if unfinished.generations[0].prompt == 0]
    assert [unfinished.step for unfinished in rows] == [4, 8, 12]
    for number, unfinished in enumerate(rows, start=1):
        picture = generator.pictures(unfinished.generations[:1])[0]
        assert (picture[2 * number :] == 208).all() and not (picture[: 2 * number] == 208).any()
    assert all(isinstance(generator.text(u.generations[0]), str) for u in seen if u.generations[0].prompt == 1)


def test_best_of_n_takes_what_is_closest():
    pictures = Blocks().decode(np.repeat([[7], [2], [3], [9]], 16, axis=1)).reshape(2, 2, 8, 8, 3)
    scores = clip_scores(Alphabet(), ["c", "j"], pictures)
    np.testing.assert_allclose(scores[0, 1], 1, atol=1e-6)
    np.testing.assert_array_equal(choose_best(pictures, scores), pictures[[0, 1], [1, 1]])


def test_other_weights_draw_other_pictures(generator, params):
    changed = generator.with_params({**params, "embedding": {k: v[::-1] for k, v in params["embedding"].items()}})
    texts = ["cat", "dog"]
    one, two = (g.text_to_image(texts, retrieved=2, sampling=SAMPLING) for g in (generator, changed))
    assert (one != two).any()


def test_bad_requests_are_the_users_error(params, config, vocabulary):
    plain = Generator(
        config, vocabulary, params, Letters(), Blocks(), partitioning=Partitioning(make_mesh(MeshConfig()))
    )
    with pytest.raises(UserError, match="retrieve 0"):
        plain.text_to_image(["cat"], retrieved=1)
    with pytest.raises(UserError, match="name a retriever"):
        plain.best_of(["cat"], np.zeros((1, 2, 8, 8, 3), np.uint8))
    with pytest.raises(UserError, match="mask"):
        plain.fill_image(["cat"], np.zeros((1, 8, 8, 3), np.uint8), np.zeros((1, 8, 8), bool))
    with pytest.raises(UserError, match="write what it should show"):
        plain.text_to_image([""])
    with pytest.raises(UserError, match="nothing is to be drawn"):
        plain.ask(["cat"])
    with pytest.raises(UserError, match="nothing is to be drawn"):
        plain.ask([])
    with pytest.raises(UserError, match="the token grid"):
        plain.ask(["cat", HiddenCells(np.zeros((8, 8, 3), np.uint8), np.ones((8, 8), bool))])
    with pytest.raises(UserError, match="name those of the model"):
        Generator(config, dataclasses.replace(vocabulary, image_size=9), params, Letters(), Blocks())


def test_a_grid_of_pictures_is_written(tmp_path):
    images = Blocks().decode(np.arange(32).reshape(2, 16) % 24)
    path = tmp_path / "grid.png"
    write_picture_grid(
        path, [[images[0], images[1]], [None, images[0]]], captions=["a " * 60, "b"], headings=["one", "two"], cell=32
    )
    picture = np.asarray(PIL.Image.open(path))
    assert picture.shape[2] == 3 and [p.name for p in tmp_path.iterdir()] == ["grid.png"]
    assert (picture == 255).all(axis=2).mean() > 0.2 and len(np.unique(picture)) > 20


def test_sampling_needs_no_tensorflow():
    check = "import cm3leon_jax.sampling.pipeline, sys; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
