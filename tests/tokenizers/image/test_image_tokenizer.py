import dataclasses
import json
import subprocess
import sys

import jax
import numpy as np
import pytest
from tiny_tokenizer import TINY, squares

from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.runtime.model_folder import flatten
from cm3leon_jax.tokenizers.image.autoencoder import abstract_params, bind, init_params
from cm3leon_jax.tokenizers.image.config import ImageTokenizerConfig
from cm3leon_jax.tokenizers.image.tokenizer import ImageTokenizer


def test_paper_size_without_computing_it():
    config = ImageTokenizerConfig()
    params = abstract_params(config)
    codes = jax.eval_shape(
        lambda p, x: bind(config, p).encode(x), params, jax.ShapeDtypeStruct((2, 256, 256, 3), np.float32)
    )
    assert (codes.shape, codes.dtype) == ((2, 1024), np.int32)
    vectors = jax.ShapeDtypeStruct((2, 32, 32, 256), np.float32)
    assert jax.eval_shape(lambda p, v: bind(config, p).decode(v), params, vectors).shape == (2, 256, 256, 3)
    flat = {name: leaf.shape for name, leaf in flatten(params).items()}
    assert flat["quantize/embedding"] == (8192, 256)
    assert flat["encoder/conv_in/kernel"] == (3, 3, 3, 128)
    assert flat["encoder/down/3/attn/1/q/kernel"] == (1, 1, 512, 512)
    assert flat["encoder/down/2/block/0/nin_shortcut/kernel"] == (1, 1, 128, 256)
    assert flat["decoder/up/3/block/2/conv2/kernel"] == (3, 3, 512, 512)
    assert flat["decoder/up/1/upsample/conv/kernel"] == (3, 3, 128, 128)
    assert "decoder/up/0/upsample/conv/kernel" not in flat
    assert "encoder/down/3/downsample/conv/kernel" not in flat


def test_fresh_parameters_have_the_abstract_shapes():
    drawn, expected = flatten(init_params(TINY, seed=0)), flatten(abstract_params(TINY))
    assert {name: leaf.shape for name, leaf in drawn.items()} == {name: leaf.shape for name, leaf in expected.items()}
    assert np.std(drawn["decoder/conv_in/kernel"]) == pytest.approx(1 / np.sqrt(9 * 8), rel=0.1)


def test_shapes_and_types(trained):
    tokenizer, _ = trained
    codes = tokenizer.encode(squares(0, 5))
    assert (codes.shape, codes.dtype) == ((5, tokenizer.tokens_per_image), np.int32)
    assert tokenizer.grid == (8, 8) and tokenizer.resolution == 16 and tokenizer.num_codes == 32
    images = tokenizer.decode(codes)
    assert (images.shape, images.dtype) == ((5, 16, 16, 3), np.uint8)
    assert tokenizer.encode(squares(0, 0)).shape == (0, 64)
    assert tokenizer.decode(codes[:0]).shape == (0, 16, 16, 3)


def test_a_batch_equals_its_images_alone(trained):
    tokenizer, _ = trained
    images = squares(0, 7)
    codes = tokenizer.encode(images)
    np.testing.assert_array_equal(codes, np.concatenate([tokenizer.encode(images[i : i + 1]) for i in range(7)]))
    # Batches of other sizes are other programs: a value halfway between two bytes may become either.
    differences = tokenizer.decode(codes)[2:3].astype(int) - tokenizer.decode(codes[2:3])
    assert np.abs(differences).max() <= 1 and np.mean(differences != 0) < 0.01


def test_loaded_tokenizer_is_the_saved_one(trained, tmp_path):
    tokenizer, directory = trained
    loaded = ImageTokenizer.load(directory / "model")
    # What it computes in, the same on every machine, whatever it was trained in.
    assert loaded.config == dataclasses.replace(TINY, compute_dtype="float32")
    assert loaded.fingerprint == tokenizer.fingerprint != ""
    images = squares(3, 6)
    np.testing.assert_array_equal(loaded.encode(images), tokenizer.encode(images))
    other = tokenizer.with_params(init_params(TINY, seed=5))
    other.save(tmp_path / "other")
    assert other.fingerprint != tokenizer.fingerprint


def test_wrong_arguments(trained):
    tokenizer, _ = trained
    with pytest.raises(ValueError, match="expected uint8"):
        tokenizer.encode(np.zeros((1, 16, 16, 3), np.float32))
    with pytest.raises(ValueError, match="expected uint8"):
        tokenizer.encode(np.zeros((1, 32, 32, 3), np.uint8))
    with pytest.raises(ValueError, match="expected 0 to 31"):
        tokenizer.decode(np.full((1, 64), 32))
    with pytest.raises(ValueError, match="64"):
        tokenizer.decode(np.zeros((1, 63), np.int32))


def test_bad_folders(trained, tmp_path):
    tokenizer, _ = trained
    with pytest.raises(UserError, match="train-image-tokenizer"):
        ImageTokenizer.load(tmp_path / "nothing")
    tokenizer.save(tmp_path / "model")
    config = json.loads((tmp_path / "model/config.json").read_text())
    (tmp_path / "model/config.json").write_text(json.dumps(config | {"num_codes": 64}))
    with pytest.raises(UserError, match="do not fit"):
        ImageTokenizer.load(tmp_path / "model")
    (tmp_path / "model/config.json").write_text(json.dumps(config | {"kind": "retriever"}))
    with pytest.raises(UserError, match="retriever"):
        ImageTokenizer.load(tmp_path / "model")


def test_imports_without_tensorflow():
    code = "import sys, cm3leon_jax.tokenizers.image.train; sys.exit('tensorflow' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
