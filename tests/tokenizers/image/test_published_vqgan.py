"""Published VQGANs as image tokenizers, and image tokenizers for others: equal to transformers' on the same weights."""

import dataclasses

import jax
import numpy as np
import pytest
from published_vqgan import (
    CHAMELEON,
    SMALL,
    Reference,
    random_params,
    taming_tensors,
    write_checkpoint,
    write_taming,
)

from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.tokenizers.image.autoencoder import bind
from cm3leon_jax.tokenizers.image.published.export import export_hugging_face
from cm3leon_jax.tokenizers.image.published.load import load_published
from cm3leon_jax.tokenizers.image.tokenizer import ImageTokenizer


def random_images(size: int, count: int) -> np.ndarray:
    """Blots of colour under noise, uint8 [count, size, size, 3]."""
    random = np.random.default_rng(0)
    blots = random.integers(0, 256, (count, 4, 4, 3)).repeat(size // 4, 1).repeat(size // 4, 2)
    return np.clip(blots + random.normal(0, 30, blots.shape), 0, 255).astype(np.uint8)


def check_equal(tokenizer: ImageTokenizer, reference: Reference, images: np.ndarray, different: int) -> None:
    codes = tokenizer.encode(images)
    assert len(np.unique(codes)) >= different
    np.testing.assert_array_equal(codes, reference.codes(images))

    @jax.jit
    def decode(params, codes):
        module = bind(tokenizer.config, params)
        return module.decode(module.quantize.vectors(codes).reshape(len(codes), *tokenizer.grid, -1))

    pixels = np.asarray(decode(tokenizer.params, codes))
    assert np.ptp(pixels) > 0.5
    np.testing.assert_allclose(pixels, reference.pixels(codes), atol=1e-4)


def test_equals_the_reference_and_travels_back(tmp_path):
    transformers = pytest.importorskip("transformers", reason="needs transformers, as a reference")
    from transformers.models.chameleon.image_processing_pil_chameleon import ChameleonImageProcessorPil

    params, images = random_params(SMALL), random_images(32, 4)
    tokenizer = load_published(write_taming(tmp_path, params))
    assert tokenizer.config == SMALL
    check_equal(tokenizer, Reference(SMALL, taming_tensors(params)), images, different=20)

    export_hugging_face(tokenizer, tmp_path / "exported")
    exported, information = transformers.ChameleonVQVAE.from_pretrained(tmp_path / "exported", output_loading_info=True)
    assert not information["missing_keys"] and not information["mismatched_keys"]
    assert all(name.startswith("decoder.") for name in information["unexpected_keys"])
    pixels = ChameleonImageProcessorPil.from_pretrained(tmp_path / "exported")(list(images), return_tensors="pt")
    codes = exported.encode(pixels["pixel_values"]).image_tokens.numpy().reshape(4, -1)
    np.testing.assert_array_equal(codes, tokenizer.encode(images))

    exported.save_pretrained(tmp_path / "without_decoder")
    with pytest.raises(UserError, match=r"lacks the decoder's weights.*vqgan\.ckpt"):
        load_published(tmp_path / "without_decoder")


def test_equals_the_reference_at_the_size_of_chameleon(tmp_path):
    """Its whole network; 256 pixels on a side in place of 512, which take four times as long."""
    params, images = random_params(CHAMELEON), random_images(256, 1)
    tensors = taming_tensors(params)
    write_checkpoint(tmp_path / "vqgan.ckpt", tensors)
    tokenizer = load_published(tmp_path / "vqgan.ckpt", resolution=256)
    (tmp_path / "vqgan.ckpt").unlink()  # 300 MB, which pytest would keep
    assert tokenizer.config == dataclasses.replace(CHAMELEON, resolution=256)
    check_equal(tokenizer, Reference(CHAMELEON, tensors), images, different=100)
