"""A source -> prepared documents: tokenized, embedded, deduplicated, with neighbours, in shards; on Apache Beam."""

from cm3leon_jax.data.prepare.config import PrepareConfig

__all__ = ["PrepareConfig"]
