"""A source and models that need no weights, for the tests of preparing; other processes can import them."""

import dataclasses
import hashlib
import time

import numpy as np

from cm3leon_jax.data.prepare.job import Models
from cm3leon_jax.data.sources import BadExample, SourceExample
from cm3leon_jax.data.sources.split_shards import shards_of_splits

DIM = 8


def vector(*parts):
    """A unit vector that is a pure function of the parts."""
    seed = int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=8).digest(), "little")
    values = np.random.default_rng(seed).normal(size=DIM).astype(np.float32)
    return values / np.linalg.norm(values)


@dataclasses.dataclass
class Words:
    """A token a word."""

    fingerprint: str = "words"
    size: int = 100

    def encode(self, text):
        return np.array([3 + len(word) for word in text.split() if word != "#"], np.int32)

    def encode_parts(self, parts):
        return [self.encode(part) for part in parts]

    def decode(self, ids):
        return " ".join(self.pieces(ids))

    def pieces(self, ids):
        return [f"<{'x' * (index - 3)}>" for index in ids]


@dataclasses.dataclass
class Means:
    """Four codes: the mean of each quarter of an 8x8 image."""

    fingerprint: str = "means"
    resolution: int = 8
    num_codes: int = 256
    grid: tuple = (2, 2)
    calls: int = 0

    def encode(self, images):
        self.calls += 1
        return images.reshape(-1, 2, 4, 2, 4, 3).mean((2, 4, 5)).astype(np.int32).reshape(-1, 4)

    def decode(self, codes):
        gray = codes.reshape(-1, 2, 2).repeat(4, 1).repeat(4, 2)
        return np.stack([gray] * 3, -1).astype(np.uint8)


@dataclasses.dataclass
class Hashes:
    """Embeddings at random, equal for equal things; dropping makes others."""

    fingerprint: str = "hashes"
    dim: int = DIM

    def embed_texts(self, texts, drop_tokens=0.0, seed=0):
        return np.stack([vector(text, drop_tokens, seed * bool(drop_tokens)) for text in texts])

    def embed_images(self, images, drop_patches=0.0, seed=0):
        return np.stack([vector(image.tobytes(), drop_patches, seed * bool(drop_patches)) for image in images])

    def combine(self, text, image):
        mean = text + image
        return mean / np.linalg.norm(mean, axis=1, keepdims=True)


def image_of(number):
    return np.random.default_rng(number).integers(0, 256, (8, 10, 3), dtype=np.uint8)


class Split:
    """Example i has image and caption number `numbers[i]`; equal numbers are exact duplicates."""

    def __init__(self, name, numbers, captions=None, bad=()):
        self.name, self.numbers, self.captions_, self.bad = name, list(numbers), captions or {}, set(bad)

    @property
    def fingerprint(self):
        return repr((self.numbers, self.captions_, self.bad))

    def __len__(self):
        return len(self.numbers)

    def __getitem__(self, index):
        id = f"{self.name}/{index}"
        if index in self.bad:
            raise BadExample(id, "broken")
        number = self.numbers[index]
        return SourceExample(id, image_of(number), self.captions_.get(index, f"caption {number}"), {"number": number})


class Source:
    name = "numbers"
    splits = ("train", "validation")

    def __init__(self, train, validation=None):
        held_out = Split("validation", range(1000, 1007)) if validation is None else validation
        self._splits = {"train": train, "validation": held_out}

    def split(self, name):
        return self._splits[name]

    def shards(self, examples):
        return shards_of_splits(self, examples)


def numbers(count=50):
    return Source(Split("train", range(count)))


def models():
    return Models(Words(), Means(), Hashes())


class SlowMeans(Means):
    def encode(self, images):
        time.sleep(0.2)
        return super().encode(images)


def slow_models():
    return Models(Words(), SlowMeans(), Hashes())
