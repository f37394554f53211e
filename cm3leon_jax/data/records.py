"""A prepared document, and the bytes that it is on disk.

A record is a msgpack map; its arrays are raw little-endian bytes. Ids are kept as uint16 where they fit, embeddings and
scores as float16 (the cosine of two unit vectors moves by less than 1e-3), metadata as JSON.
"""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import msgpack
import numpy as np

from cm3leon_jax.documents import Document


@dataclasses.dataclass(frozen=True, eq=False)
class PreparedDocument:
    """An image with its caption, or, in the splits of such, a document that is more or less than that: without an image
    (its codes and embedding are empty, or zeros), without a text, or with several of them. Arrays are read-only."""

    id: str
    caption: str
    text: np.ndarray  # int32 [T], ids of the text tokenizer, which are joint ids
    image: np.ndarray  # int32 [N], codes of the image tokenizer
    text_embedding: np.ndarray  # float32 [D], unit norm
    image_embedding: np.ndarray  # float32 [D], unit norm
    # Documents of the split "train", best first; the two lists may overlap.
    neighbours_by_image: np.ndarray  # int32 [≤ k]
    neighbours_by_text: np.ndarray  # int32 [≤ k]
    scores_by_image: np.ndarray  # float32, one for each neighbour
    scores_by_text: np.ndarray  # float32
    metadata: dict[str, Any]  # the source's provenance
    following: tuple[Document, ...] = ()  # of an interleaved document, its texts and images after the first
    # Documents of the split "train" with the same image, or a near copy of it: they are never its neighbours.
    same_image: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, np.int32))  # int32 [m]

    @property
    def documents(self) -> tuple[Document, ...]:
        """The whole document, a text and an image at a time."""
        return Document(self.text, self.image), *self.following


_ARRAYS = {
    "text": np.int32,
    "image": np.int32,
    "text_embedding": np.float32,
    "image_embedding": np.float32,
    "neighbours_by_image": np.int32,
    "neighbours_by_text": np.int32,
    "scores_by_image": np.float32,
    "scores_by_text": np.float32,
}


def encode_document(document: PreparedDocument) -> bytes:
    """-> one record. Equal documents give equal bytes."""
    fields: dict[str, Any] = {"id": document.id, "caption": document.caption}
    fields |= {name: pack_array(getattr(document, name)) for name in _ARRAYS}
    fields["metadata"] = json.dumps(document.metadata)
    if document.same_image.size:
        fields["same_image"] = pack_array(document.same_image)
    if document.following:
        fields["following"] = [[pack_array(each.text), pack_array(each.image)] for each in document.following]
    return msgpack.packb(fields)


def decode_document(record: bytes) -> PreparedDocument:
    fields = msgpack.unpackb(record)
    for name, dtype in _ARRAYS.items():
        fields[name] = unpack_array(fields[name], dtype)
    if "same_image" in fields:
        fields["same_image"] = unpack_array(fields["same_image"], np.int32)
    fields["metadata"] = json.loads(fields["metadata"])
    fields["following"] = tuple(
        Document(unpack_array(text, np.int32), unpack_array(image, np.int32))
        for text, image in fields.get("following", ())
    )
    return PreparedDocument(**fields)


def pack_array(values: np.ndarray) -> list:
    """A vector -> [dtype, bytes], in the smallest of the types that the format has."""
    values = np.asarray(values)
    if values.dtype.kind == "f":
        dtype = "<f2"
    else:
        dtype = "<u2" if not values.size or (values.min() >= 0 and values.max() < 2**16) else "<i4"
    return [dtype, values.astype(dtype).tobytes()]


def unpack_array(packed: list, dtype: type) -> np.ndarray:
    array: np.ndarray = np.frombuffer(packed[1], packed[0]).astype(dtype)
    array.setflags(write=False)
    return array
