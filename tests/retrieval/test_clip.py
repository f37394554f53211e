"""CLIP: its inputs, its training, and the retriever folder. `test_published.py` compares it with Hugging Face's."""

import dataclasses
import json
import subprocess
import sys

import jax
import numpy as np
import pytest

from cm3leon_jax.retrieval.clip.config import ClipConfig, RetrieverTrainingConfig
from cm3leon_jax.retrieval.clip.encoders import abstract_params, init_params
from cm3leon_jax.retrieval.clip.inputs import kept, kept_patches, resize, tokenize
from cm3leon_jax.retrieval.clip.recall import cross_modal_recall
from cm3leon_jax.retrieval.clip.retriever import Retriever
from cm3leon_jax.retrieval.clip.train import contrastive_loss, train_retriever
from cm3leon_jax.runtime.devices import batch_sharded, data_mesh, put_batch
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.runtime.metrics import read_metrics
from cm3leon_jax.runtime.settings import LoopConfig
from cm3leon_jax.tokenizers.text import TextTokenizerConfig, train_text_tokenizer
from cm3leon_jax.vocabulary import EOS_ID, PAD_ID

COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "white": (255, 255, 255)}
HALVES = ("left", "right")
PAIRS = [(colour, half) for colour in COLOURS for half in HALVES]
CAPTIONS = [f"a {colour} patch on the {half}" for colour, half in PAIRS]
TINY = ClipConfig(
    embedding_dim=16,
    context_length=12,
    text_width=32,
    text_layers=1,
    text_heads=2,
    image_resolution=16,
    patch_size=8,
    image_width=32,
    image_layers=1,
    image_heads=2,
)
STEPS = 60
TRAINING = RetrieverTrainingConfig(batch_size=8, peak_learning_rate=3e-3, warmup_steps=5, weight_decay=0.01)


def picture(index: int, seed: int = 0) -> np.ndarray:
    colour, half = PAIRS[index]
    image = np.random.default_rng((seed, index)).integers(0, 60, (16, 16, 3)).astype(np.uint8)
    image[:, slice(0, 8) if half == "left" else slice(8, 16)] = COLOURS[colour]
    return image


def batch_of_step(step: int):
    return np.stack([picture(index, step) for index in range(len(PAIRS))]), CAPTIONS


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    config = TextTokenizerConfig(size=320, model_type="bpe")
    return train_text_tokenizer(CAPTIONS, config, tmp_path_factory.mktemp("tokenizer") / "text")


def train(directory, tokenizer, batches=batch_of_step):
    loop = LoopConfig(steps=STEPS, log_every=1, checkpoint_every=30)
    return train_retriever(TINY, TRAINING, loop, batches, tokenizer, directory, batch_of_step(10_000))


@pytest.fixture(scope="module")
def trained(tokenizer, tmp_path_factory):
    directory = tmp_path_factory.mktemp("retriever")
    return train(directory, tokenizer), directory


# --- architecture -----------------------------------------------------------------------------------------------------


def test_default_is_vit_b_32():
    params = abstract_params(ClipConfig(vocab_size=49_408))
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 151_277_313  # OpenAI's ViT-B/32


def test_imports_without_tensorflow():
    code = (
        "import sys, cm3leon_jax.retrieval.clip, cm3leon_jax.retrieval.selection; sys.exit('tensorflow' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# --- inputs -----------------------------------------------------------------------------------------------------------


def test_tokens_end_with_eos_and_are_cut(tokenizer):
    tokens, lengths = tokenize(["", CAPTIONS[0], " ".join(CAPTIONS)], tokenizer, context_length=12)
    ids = tokenizer.encode(CAPTIONS[0])
    np.testing.assert_array_equal(lengths, [1, len(ids) + 1, 12])
    np.testing.assert_array_equal(tokens[0], [EOS_ID] + [PAD_ID] * 11)
    np.testing.assert_array_equal(tokens[1, : len(ids)], ids)
    assert (tokens[np.arange(3), lengths - 1] == EOS_ID).all()


def test_dropout_leaves_out_the_share(tokenizer):
    ids = tokenizer.encode(" ".join(CAPTIONS))[:100]
    assert len(ids) == 48
    tokens, lengths = tokenize([" ".join(CAPTIONS)] * 2, tokenizer, context_length=77, drop=0.2, seed=3)
    np.testing.assert_array_equal(lengths, [48 - 10 + 1] * 2)
    assert (tokens[0] != tokens[1]).any()  # another draw for each row …
    again, _ = tokenize([" ".join(CAPTIONS)] * 2, tokenizer, context_length=77, drop=0.2, seed=3)
    np.testing.assert_array_equal(tokens, again)  # … and the same for the same seed
    remaining = iter(ids.tolist())
    assert all(index in remaining for index in tokens[0, :38].tolist())  # in their order
    assert len(kept(1, 0.9, np.random.default_rng(0))) == 1
    assert kept_patches(3, 64, 0.2, seed=0).shape == (3, 51)
    with pytest.raises(ValueError, match="share"):
        kept(5, 1.0, np.random.default_rng(0))


def test_resize_cuts_the_centre_out():
    image = np.zeros((20, 60, 3), np.uint8)
    image[:, 20:40] = 255
    resized = resize([image, image[:, :20]], 10)
    assert resized.shape == (2, 10, 10, 3) and resized.dtype == np.uint8
    assert resized[0, :, 1:-1].min() > 230 and resized[1].max() == 0
    assert resize(np.zeros((0, 5, 7, 3), np.uint8), 10).shape == (0, 10, 10, 3)


def test_cross_modal_recall():
    identity = np.eye(10, dtype=np.float32)
    names = [str(index) for index in range(10)]
    assert set(cross_modal_recall(identity, identity, names).values()) == {1.0}
    assert set(cross_modal_recall(identity, np.roll(identity, 1, axis=0), names).values()) == {0.0}
    constant = np.ones_like(identity)  # says the same about everything: half of nine rivals are ahead
    assert set(cross_modal_recall(constant, constant, names).values()) == {0.0, 1.0}
    assert cross_modal_recall(constant, constant, names)["text_to_image_recall_at_1"] == 0.0
    swapped = identity[[1, 0, *range(2, 10)]]
    assert cross_modal_recall(identity, swapped, ["same", "same", *names[2:]])["image_to_text_recall_at_1"] == 1.0


# --- training ---------------------------------------------------------------------------------------------------------


def test_loss_equals_numpy_and_does_not_depend_on_the_devices(tokenizer):
    config = dataclasses.replace(TINY, vocab_size=tokenizer.size)
    params = init_params(config, 0)
    images, captions = batch_of_step(0)
    tokens, lengths = tokenize(captions, tokenizer, config.context_length)
    batch = {"images": images, "tokens": tokens, "lengths": lengths}
    retriever = Retriever(config, params, tokenizer)
    logits = np.exp(params["logit_scale"]) * retriever.embed_texts(captions) @ retriever.embed_images(images).T
    by_text, by_image = (
        np.log(np.exp(each).sum(axis=1)) - np.diagonal(each) for each in (logits.astype(np.float64), logits.T)
    )
    mesh = data_mesh()
    assert mesh.size == 2
    sharded = put_batch(batch, batch_sharded(mesh))
    assert sharded["images"].sharding == batch_sharded(mesh)
    loss, _ = jax.jit(contrastive_loss, static_argnames="config")(params, sharded, config=config)
    np.testing.assert_allclose(loss, (by_text.mean() + by_image.mean()) / 2, rtol=1e-5)


def test_training_learns_and_writes_its_folders(trained):
    retriever, directory = trained
    results = json.loads((directory / "evaluation.json").read_text())
    assert results["pairs"] == 8
    assert results["text_to_image_recall_at_1"] == results["image_to_text_recall_at_1"] == 1.0
    metrics = read_metrics(directory / "training")
    assert metrics[-1]["eval/text_to_image_recall_at_1"] == 1.0
    assert all(row.get("train/logit_scale", 0) <= 100.001 for row in metrics)
    texts, images = retriever.embed_texts(CAPTIONS), retriever.embed_images(batch_of_step(77)[0])
    documents = retriever.combine(texts, images)
    for vectors in (texts, images, documents):
        assert vectors.dtype == np.float32 and vectors.shape == (8, retriever.dim)
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    # A document without an image has its text's embedding, which `combine` normalises once more.
    np.testing.assert_allclose(retriever.combine(texts, np.zeros_like(texts)), texts, rtol=1e-5)


def test_resumed_training_equals_uninterrupted(trained, tokenizer, tmp_path):
    def interrupted(step: int):
        if step >= 40:
            raise KeyboardInterrupt
        return batch_of_step(step)

    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, tokenizer, interrupted)
    assert not (tmp_path / "model").exists()
    train(tmp_path, tokenizer)
    losses = [
        {row["step"]: row["train/loss"] for row in read_metrics(directory / "training") if "train/loss" in row}
        for directory in (trained[1], tmp_path)
    ]
    assert len(losses[0]) == STEPS and losses[0] == losses[1]
    weights = [(directory / "model/weights.safetensors").read_bytes() for directory in (trained[1], tmp_path)]
    assert weights[0] == weights[1]


def test_folder_is_self_contained(trained, tmp_path):
    retriever, directory = trained
    (directory / "model").rename(tmp_path / "moved")
    try:
        moved = Retriever.load(tmp_path / "moved", batch_size=4)
        assert moved.fingerprint == retriever.fingerprint and len(moved.fingerprint) == 16
        np.testing.assert_allclose(moved.embed_texts(CAPTIONS), retriever.embed_texts(CAPTIONS), atol=1e-6)
        assert moved.embed_texts([]).shape == (0, 16) == moved.embed_images(np.zeros((0, 9, 9, 3), np.uint8)).shape
        wide = [picture(0).repeat(3, axis=0).repeat(3, axis=1)] * 3
        assert moved.embed_images(wide, drop_patches=0.25).shape == (3, 16)
    finally:
        (tmp_path / "moved").rename(directory / "model")


def test_query_dropout_moves_embeddings(trained):
    retriever, _ = trained
    images = batch_of_step(5)[0]
    for embed, inputs in ((retriever.embed_texts, CAPTIONS), (retriever.embed_images, images)):
        option = "drop_tokens" if inputs is CAPTIONS else "drop_patches"
        dropped = embed(inputs, **{option: 0.25}, seed=1)
        assert np.abs(dropped - embed(inputs)).max() > 1e-3
        np.testing.assert_allclose(dropped, embed(inputs, **{option: 0.25}, seed=1), atol=1e-6)


def test_bad_input(trained, tokenizer, tmp_path):
    with pytest.raises(UserError, match="train-retriever"):
        Retriever.load(tmp_path / "nothing")
    for wrong in ({"patch_size": 5}, {"text_heads": 5}, {"context_length": 1}, {"compute_dtype": "float16"}):
        with pytest.raises(UserError):
            dataclasses.replace(TINY, **wrong)
    odd = (batch_of_step(0)[0][:7], CAPTIONS[:7])
    with pytest.raises(UserError, match="does not divide over 2 devices"):
        train_retriever(TINY, TRAINING, LoopConfig(steps=1), lambda _: odd, tokenizer, tmp_path / "odd", odd)


def test_bfloat16_gives_nearly_the_same(tokenizer):
    config = dataclasses.replace(TINY, vocab_size=tokenizer.size)
    params = init_params(config, 0)
    images = batch_of_step(0)[0]
    full, half = (
        Retriever(dataclasses.replace(config, compute_dtype=dtype), params, tokenizer)
        for dtype in ("float32", "bfloat16")
    )
    for before, after in (
        (full.embed_images(images), half.embed_images(images)),
        (full.embed_texts(CAPTIONS), half.embed_texts(CAPTIONS)),
    ):
        assert after.dtype == np.float32 and 0 < np.abs(after - before).max() < 0.05
