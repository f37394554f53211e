"""A generator of a tiny decoder with random weights. Its tokenizers are tables: what is drawn can be read."""

import dataclasses
import string

import jax
import numpy as np

from cm3leon_jax.model.config import DecoderConfig
from cm3leon_jax.model.decoder import init_params
from cm3leon_jax.retrieval.selection import SelectionConfig
from cm3leon_jax.sampling.library import Library
from cm3leon_jax.sampling.pipeline import Generator
from cm3leon_jax.vocabulary import Vocabulary

VOCABULARY = Vocabulary(text_size=30, image_size=24, num_sentinels=8, multiple_of=16)
CONFIG = DecoderConfig(
    vocab_size=VOCABULARY.size, num_layers=2, d_model=32, num_heads=2, max_length=96, compute_dtype="float32"
)


def random_params():
    """Its output projections are not zero, as they are at initialisation."""
    leaves, tree = jax.tree.flatten(init_params(CONFIG, jax.random.key(0)))
    rng = np.random.default_rng(0)
    return jax.tree.unflatten(tree, [(rng.normal(size=leaf.shape) * 0.4).astype(np.float32) for leaf in leaves])


class Blocks:
    """Code c is a grey block of 2 x 2 pixels, 10 c bright; 4 x 4 of them are an image."""

    num_codes, grid, tokens_per_image, resolution = 24, (4, 4), 16, 8

    def encode(self, images):
        return np.minimum(images[:, ::2, ::2, 0] // 10, 23).reshape(len(images), 16).astype(np.int32)

    def decode(self, codes):
        blocks = (np.asarray(codes).reshape(-1, 4, 4) * 10).astype(np.uint8)
        return np.repeat(blocks.repeat(2, axis=1).repeat(2, axis=2)[..., None], 3, axis=-1)


class Letters:
    """a is 3, b is 4, …; 2 is any other character."""

    size = 30

    def encode(self, text):
        return np.array([ord(letter) - ord("a") + 3 if "a" <= letter <= "z" else 2 for letter in text], np.int32)

    def encode_parts(self, parts):
        return [self.encode(part) for part in parts]

    def decode(self, ids):
        return "".join(chr(int(index) - 3 + ord("a")) for index in ids)


@dataclasses.dataclass(frozen=True)
class Stored:
    caption: str
    text: np.ndarray
    image: np.ndarray


class Alphabet:
    """An encoder: a text is where its first letter stands on a circle; an image likewise, by its first pixel."""

    def embed_texts(self, texts):
        return self._on_circle([ord(text[0]) - ord("a") for text in texts])

    def embed_images(self, images):
        return self._on_circle([image[0, 0, 0] // 10 for image in images])

    def _on_circle(self, places):
        angles = np.array(places) / 26 * 2 * np.pi
        return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


class Bank:
    def __init__(self, embeddings):
        self.embeddings, self.count = embeddings, len(embeddings)

    def search(self, queries, k):
        # Rounded, so that letters equally far on both sides tie on every processor: then the first comes first.
        scores = (queries @ self.embeddings.T).round(5)
        ids = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        return ids.astype(np.int32), np.take_along_axis(scores, ids, axis=1)

    def embeddings_of(self, ids):
        return self.embeddings[ids]


def tiny_generator(params=None, **options) -> Generator:
    """With a memory bank of the 26 letters."""
    letters, blocks, alphabet = Letters(), Blocks(), Alphabet()
    captions = string.ascii_lowercase
    shelf = [Stored(c, letters.encode(c), np.full(16, index % 24, np.int32)) for index, c in enumerate(captions)]
    rules = SelectionConfig(text_threshold=0.9)
    library = Library(alphabet, Bank(alphabet.embed_texts(captions)), shelf, blocks, rules)
    params = random_params() if params is None else params
    options = {"retriever": alphabet, "library": library, "batch_size": 4} | options
    return Generator(CONFIG, VOCABULARY, params, letters, blocks, **options)
