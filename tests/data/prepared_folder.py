"""A small folder of prepared data, without tokenizers or retrievers: random captions and codes of real lengths."""

import dataclasses

import numpy as np

from cm3leon_jax.data.records import PreparedDocument, encode_document
from cm3leon_jax.data.shards import FORMAT, MANIFEST_FILE, describe_shard, shard_name, write_shard
from cm3leon_jax.documents import Document
from cm3leon_jax.runtime.files import write_json
from cm3leon_jax.vocabulary import UNK_ID, Vocabulary

VOCABULARY = Vocabulary(text_size=300, image_size=64, num_sentinels=32, multiple_of=64)


def write_prepared(directory, *, image_tokens=16, text_lengths=(3, 12), seed=0, sources=None, **sizes):
    """Writes splits of the given sizes ("train" among them). Document i's first text id is its own, up to 290. Those of
    splits of text have no image, interleaved ones two pairs and a text."""
    rng = np.random.default_rng(seed)
    splits = {}
    for split, size in sizes.items():
        records = [
            encode_document(_document(split, index, sizes["train"], image_tokens, text_lengths, rng))
            for index in range(size)
        ]
        path = directory / shard_name(split, 0, 1)
        write_shard(path, records)
        splits[split] = {"shards": [describe_shard(path)]}
    manifest = {
        "format": FORMAT,
        "sources": sources or [{"name": "random", "weight": None, "splits": {}}],
        "splits": splits,
        "vocabulary": dataclasses.asdict(VOCABULARY),
    }
    write_json(directory / MANIFEST_FILE, manifest)
    return directory


def _document(split, index, train_size, image_tokens, text_lengths, rng):
    others = [place for place in rng.permutation(train_size)[:5] if not (split == "train" and place == index)]
    neighbours = np.array(others[:4], np.int32)
    text = rng.integers(UNK_ID + 1, VOCABULARY.text_size, rng.integers(*text_lengths))
    text[0] = UNK_ID + 1 + index % 290
    image = rng.integers(0, VOCABULARY.image_size, image_tokens).astype(np.int32)
    following = ()
    if split.endswith(".text"):
        image, neighbours = image[:0], neighbours[:0]
    if split.endswith(".interleaved"):
        following, neighbours = (Document(text[:2], image[::-1]), Document(text[:1])), neighbours[:0]
    return PreparedDocument(
        id=f"{split}{index}",
        caption="",
        text=text.astype(np.int32),
        image=image,
        text_embedding=np.ones(1, np.float32),
        image_embedding=np.ones(1, np.float32),
        neighbours_by_image=neighbours[:2],
        neighbours_by_text=neighbours[2::-2],  # one of them is found by image too
        scores_by_image=np.ones(len(neighbours[:2]), np.float32),
        scores_by_text=np.ones(len(neighbours[2::-2]), np.float32),
        metadata={},
        following=following,
    )
