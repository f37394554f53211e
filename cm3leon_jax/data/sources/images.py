"""Images of any kind -> uint8 RGB, and RGB of any size -> the square that a tokenizer takes."""

from __future__ import annotations

import contextlib
import io

import numpy as np
import PIL.Image
import PIL.ImageOps

# Grey levels of more than 8 bits: 65535 becomes 255.
_DEEP_GREY = ("I", "I;16", "I;16L", "I;16B", "I;16N")


MAX_PIXELS = 80_000_000  # several are decoded at once: 3 bytes each. Pillow's own limit is twice as high.


class UnreadableImage(Exception):
    """The bytes are not a whole image; the message is the reason."""


def decode_image(data: bytes, *, most_pixels: int = MAX_PIXELS, formats: tuple[str, ...] | None = None) -> np.ndarray:
    """An encoded image -> uint8 [height, width, 3].

    The first frame, turned as its EXIF orientation says, transparency over white. `formats`: Pillow's names of those
    that are read; all of them by default. Raises `UnreadableImage`.
    """
    if not data:
        raise UnreadableImage("the image file is empty (0 bytes)")
    try:
        with PIL.Image.open(io.BytesIO(data), formats=formats) as image:
            if image.width * image.height > most_pixels:
                raise UnreadableImage(f"the image has {image.width} x {image.height} pixels, more than {most_pixels:,}")
            image.load()
            _turn_upright(image)
            return np.asarray(_to_rgb(image))
    except UnreadableImage:
        raise
    except Exception as error:  # decoders meet broken bytes with errors of every type
        raise UnreadableImage(f"the image cannot be decoded ({_one_line(error)})") from None


FITS = ("crop", "pad", "stretch")


def fit_image(image: np.ndarray, resolution: int, fit: str = "crop") -> np.ndarray:
    """uint8 [H, W, 3] -> uint8 [resolution, resolution, 3], scaled bicubically with antialiasing.

    "crop": the shortest side becomes `resolution`, and the central square is kept. "pad": the longest side does, with
    white on both sides of the other. "stretch": both sides do.
    """
    height, width, _ = image.shape
    if height == width == resolution:
        return image
    whole = PIL.Image.fromarray(image)
    if fit == "pad":
        return np.asarray(
            PIL.ImageOps.pad(whole, (resolution, resolution), PIL.Image.Resampling.BICUBIC, color="white")
        )
    side = min(height, width)
    left, top = (width - side) / 2, (height - side) / 2
    box = None if fit == "stretch" else (left, top, left + side, top + side)
    return np.asarray(whole.resize((resolution, resolution), PIL.Image.Resampling.BICUBIC, box=box))


def _turn_upright(image: PIL.Image.Image) -> None:
    # Broken EXIF data does not make the pixels unusable.
    with contextlib.suppress(Exception):
        PIL.ImageOps.exif_transpose(image, in_place=True)


def _to_rgb(image: PIL.Image.Image) -> PIL.Image.Image:
    if image.mode in _DEEP_GREY:
        levels = np.asarray(image).astype(np.float32)
        return PIL.Image.fromarray(np.clip(np.rint(levels / 257), 0, 255).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = PIL.Image.new("RGBA", image.size, "white")
        return PIL.Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def _one_line(error: Exception) -> str:
    # PIL names the in-memory file by its address, which would make two runs' lists of bad inputs differ.
    if isinstance(error, PIL.UnidentifiedImageError):
        return "not an image of a known format"
    return " ".join(str(error).split()) or type(error).__name__
