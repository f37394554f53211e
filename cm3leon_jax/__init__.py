"""CM3Leon in JAX: retrieval-augmented CM3 pretraining, instruction tuning and generation over text and image tokens."""

__version__ = "0.1.0"
