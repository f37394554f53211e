"""CLIP in Flax (Radford et al. 2021), the retriever's bi-encoder (CM3Leon §2.1). Imports without TensorFlow."""

from cm3leon_jax.retrieval.clip.config import ClipConfig, RetrieverTrainingConfig
from cm3leon_jax.retrieval.clip.retriever import Retriever
from cm3leon_jax.retrieval.clip.train import train_retriever

__all__ = ["ClipConfig", "Retriever", "RetrieverTrainingConfig", "train_retriever"]
