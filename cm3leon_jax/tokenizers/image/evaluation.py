"""How good a tokenizer is: PSNR, SSIM, use of the codebook, and a picture of originals beside reconstructions."""

from __future__ import annotations

import numpy as np

from cm3leon_jax.tokenizers.image.tokenizer import ImageTokenizer

SSIM_WINDOW = 11  # pixels, with a Gaussian of this standard deviation, as in Wang et al. 2004
SSIM_SIGMA = 1.5


def psnr(originals: np.ndarray, others: np.ndarray) -> np.ndarray:
    """uint8 [N, H, W, 3] twice -> decibels [N]; infinite where two images are equal."""
    difference = originals.astype(np.float32) - others.astype(np.float32)
    with np.errstate(divide="ignore"):
        return 10 * np.log10(255.0**2 / np.mean(difference**2, axis=(1, 2, 3)))


def ssim(originals: np.ndarray, others: np.ndarray) -> np.ndarray:
    """uint8 [N, H, W, 3] twice -> structural similarity [N] (Wang et al. 2004), the mean of the three channels."""
    x, y = originals.astype(np.float64), others.astype(np.float64)
    mean_x, mean_y = _blurred(x), _blurred(y)
    variance_x = _blurred(x * x) - mean_x**2
    variance_y = _blurred(y * y) - mean_y**2
    covariance = _blurred(x * y) - mean_x * mean_y
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    similarity = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    similarity /= (mean_x**2 + mean_y**2 + c1) * (variance_x + variance_y + c2)
    return similarity.mean(axis=(1, 2, 3))


def _blurred(images: np.ndarray) -> np.ndarray:
    """Gaussian window over [N, H, W, C], only where it fits whole."""
    offsets = np.arange(SSIM_WINDOW) - SSIM_WINDOW // 2
    window = np.exp(-(offsets**2) / (2 * SSIM_SIGMA**2))
    window /= window.sum()
    for axis in (1, 2):
        length = images.shape[axis] - SSIM_WINDOW + 1
        shifted = (np.take(images, np.arange(start, start + length), axis=axis) for start in range(SSIM_WINDOW))
        images = sum(weight * part for weight, part in zip(window, shifted, strict=True))
    return images


def code_statistics(codes: np.ndarray, num_codes: int) -> dict[str, float]:
    """Codes [N, T] -> their entropy in bits, perplexity (codes in even use), and the share of codes that occur."""
    counts = np.bincount(codes.reshape(-1), minlength=num_codes)
    shares = counts[counts > 0] / counts.sum()
    entropy = float(-(shares * np.log2(shares)).sum())
    return {
        "codebook_entropy_bits": entropy,
        "codebook_perplexity": 2.0**entropy,
        "codebook_usage": float((counts > 0).mean()),
    }


def evaluate_image_tokenizer(tokenizer: ImageTokenizer, images: np.ndarray) -> dict[str, float]:
    """Held-out images uint8 [N, R, R, 3] -> mean `psnr_db` and `ssim`, and `code_statistics`."""
    codes = tokenizer.encode(images)
    reconstructions = tokenizer.decode(codes)
    return {
        "psnr_db": float(np.minimum(psnr(images, reconstructions), 100).mean()),
        "ssim": float(ssim(images, reconstructions).mean()),
        **code_statistics(codes, tokenizer.num_codes),
    }


def reconstruction_picture(originals: np.ndarray, reconstructions: np.ndarray, *, columns: int = 8) -> np.ndarray:
    """uint8 [N, R, R, 3] twice -> one picture uint8 [H, W, 3]: rows of originals, each above its reconstructions."""
    count, size = len(originals), originals.shape[1]
    gap = max(2, size // 32)
    columns = min(columns, count)
    rows = -(-count // columns)
    picture = np.full((rows * (2 * size + 3 * gap) + gap, columns * (size + gap) + gap, 3), 255, np.uint8)
    for index in range(count):
        row, column = divmod(index, columns)
        top, left = gap + row * (2 * size + 3 * gap), gap + column * (size + gap)
        picture[top : top + size, left : left + size] = originals[index]
        top += size + gap
        picture[top : top + size, left : left + size] = reconstructions[index]
    return picture
