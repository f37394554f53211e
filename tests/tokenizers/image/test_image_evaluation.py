import numpy as np
import pytest

from cm3leon_jax.tokenizers.image import evaluation
from cm3leon_jax.tokenizers.image.evaluation import evaluate_image_tokenizer, reconstruction_picture


def noisy(level):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (3, 24, 24, 3)).astype(np.uint8)
    return images, np.clip(images + rng.normal(0, level, images.shape), 0, 255).round().astype(np.uint8)


def test_psnr():
    black, grey = np.zeros((1, 4, 4, 3), np.uint8), np.full((1, 4, 4, 3), 51, np.uint8)
    assert evaluation.psnr(black, grey)[0] == pytest.approx(20 * np.log10(5), rel=1e-5)
    assert np.isinf(evaluation.psnr(black, black)[0])


def test_ssim_is_one_for_equals_and_falls_with_noise():
    images, little = noisy(10)
    _, much = noisy(80)
    np.testing.assert_allclose(evaluation.ssim(images, images), 1)
    assert (evaluation.ssim(images, little) > evaluation.ssim(images, much)).all()
    # By hand: for two constants the similarity is the luminance term alone.
    black, grey = np.full((1, 16, 16, 3), 50, np.uint8), np.full((1, 16, 16, 3), 100, np.uint8)
    c1 = (0.01 * 255) ** 2
    assert evaluation.ssim(black, grey)[0] == pytest.approx((2 * 50 * 100 + c1) / (50**2 + 100**2 + c1))


def test_code_statistics():
    statistics = evaluation.code_statistics(np.array([[0, 0, 1, 1], [2, 2, 3, 3]]), 8)
    assert statistics == {"codebook_entropy_bits": 2.0, "codebook_perplexity": 4.0, "codebook_usage": 0.5}


def test_picture_holds_originals_above_reconstructions():
    originals, others = noisy(40)
    picture = reconstruction_picture(originals, others, columns=2)
    np.testing.assert_array_equal(picture[2:26, 2:26], originals[0])
    np.testing.assert_array_equal(picture[28:52, 2:26], others[0])
    np.testing.assert_array_equal(picture[56:80, 2:26], originals[2])


def test_evaluation_of_a_tokenizer(trained):
    tokenizer, _ = trained
    images = np.full((5, 16, 16, 3), 200, np.uint8)
    result = evaluate_image_tokenizer(tokenizer, images)
    assert set(result) == {
        "psnr_db",
        "ssim",
        "codebook_entropy_bits",
        "codebook_perplexity",
        "codebook_usage",
    }
    assert all(np.isfinite(value) for value in result.values())
