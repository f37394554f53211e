"""How large the documents of a split are."""

from __future__ import annotations

import numpy as np

from cm3leon_jax.data.shards import PreparedData
from cm3leon_jax.pages.histogram import histogram
from cm3leon_jax.pages.pieces import section
from cm3leon_jax.runtime.progress import progress

_MOST = 20_000  # documents that are read


def sizes_section(data: PreparedData, split: str) -> str:
    documents = data.split(split)
    places = np.unique(np.linspace(0, len(documents), _MOST, endpoint=False, dtype=int))
    read = [
        documents[int(place)].documents
        for place in progress(places, label="sizes", total=len(places), unit="documents", delay=2.0)
    ]
    texts = [sum(len(part.text) for part in parts) for parts in read]
    images = [sum(len(part.image) > 0 for part in parts) for parts in read]
    sample = f" {len(places):,} of them were read, spread evenly." if len(places) < len(documents) else ""
    return section(
        "sizes",
        "Sizes",
        f"Of the {len(documents):,} documents of “{split}”.{sample}",
        '<div class="charts">',
        histogram("Text tokens a document", texts, x_label="text tokens", counted="documents"),
        histogram("Images a document", images, x_label="images", counted="documents"),
        "</div>",
    )
