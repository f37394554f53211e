"""The one joint vocabulary: what each id means.

From id 0 up: control (pad 0, eos 1, unk 2), the other text pieces, image codes (one contiguous range), `<break>`,
`<eoss>`, sentinels, and padding. CM3Leon's has 65,536 ids of text, images and others before these three (§2.2); the
order is ours.
"""

from __future__ import annotations

import dataclasses

import numpy as np

PAD_ID = 0
EOS_ID = 1
UNK_ID = 2
NUM_CONTROL = 3


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """Sizes of the parts. The defaults are the paper's but for its 1,024 ids of unknown use (see `CM3LEON`)."""

    text_size: int = 56_320  # SentencePiece's own count: its first three pieces are pad, eos and unk
    image_size: int = 8_192  # codes of the image tokenizer
    num_sentinels: int = 512
    multiple_of: int = 128  # the embedding's rows divide evenly over tensor-parallel shards
    num_others: int = 0  # ids that are never used

    def __post_init__(self) -> None:
        if self.text_size <= NUM_CONTROL or self.image_size < 1 or self.num_sentinels < 1 or self.multiple_of < 1:
            raise ValueError(f"a vocabulary needs text pieces, image codes and sentinels: {self}")

    @classmethod
    def sized(
        cls, *, text_size: int, image_size: int, num_sentinels: int, multiple_of: int, num_others: int | None = None
    ) -> Vocabulary:
        """Of tokenizers of these sizes. Without `num_others`, the paper's where both sizes are the paper's, else 0."""
        if num_others is None:
            is_papers = (text_size, image_size) == (CM3LEON.text_size, CM3LEON.image_size)
            num_others = CM3LEON.num_others if is_papers else 0
        return cls(text_size, image_size, num_sentinels, multiple_of, num_others)

    @property
    def image_offset(self) -> int:
        """Id of image code 0."""
        return self.text_size

    @property
    def break_id(self) -> int:
        """`<break>`: stands between text and image, and between documents."""
        return self.text_size + self.image_size

    @property
    def eoss_id(self) -> int:
        """`<eoss>`: ends a span that was moved to the tail of the sequence."""
        return self.break_id + 1

    @property
    def sentinel_offset(self) -> int:
        return self.break_id + 2

    @property
    def used(self) -> int:
        """Ids that mean something; the rest is padding."""
        return self.sentinel_offset + self.num_sentinels

    @property
    def size(self) -> int:
        """Rows of the embedding table."""
        return -(-(self.used + self.num_others) // self.multiple_of) * self.multiple_of

    def sentinel_id(self, index: int) -> int:
        if not 0 <= index < self.num_sentinels:
            raise ValueError(f"sentinel {index} of {self.num_sentinels}")
        return self.sentinel_offset + index

    def is_text(self, ids: np.ndarray) -> np.ndarray:
        """True where an id is a text piece (unk included; pad and eos are control)."""
        ids = np.asarray(ids)
        return (ids >= UNK_ID) & (ids < self.text_size)

    def is_image(self, ids: np.ndarray) -> np.ndarray:
        ids = np.asarray(ids)
        return (ids >= self.image_offset) & (ids < self.break_id)

    def is_sentinel(self, ids: np.ndarray) -> np.ndarray:
        ids = np.asarray(ids)
        return (ids >= self.sentinel_offset) & (ids < self.used)

    def image_ids(self, codes: np.ndarray) -> np.ndarray:
        """Image codes [...] in 0..image_size-1 -> joint ids, int32."""
        codes = np.asarray(codes, np.int32)
        if codes.size and not (codes.min() >= 0 and codes.max() < self.image_size):
            raise ValueError(f"image codes lie in {codes.min()}..{codes.max()}, not in 0..{self.image_size - 1}")
        return codes + np.int32(self.image_offset)

    def image_codes(self, ids: np.ndarray) -> np.ndarray:
        """Joint ids of image tokens [...] -> codes, int32."""
        ids = np.asarray(ids, np.int32)
        if not self.is_image(ids).all():
            raise ValueError("ids that are not image tokens")
        return ids - np.int32(self.image_offset)


# The paper's: 56,320 text + 8,192 image + 1,024 others = 65,536 ids, then `<break>`, `<eoss>` and 512 sentinels.
CM3LEON = Vocabulary(num_others=1_024)
