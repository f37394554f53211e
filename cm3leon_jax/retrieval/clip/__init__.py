"""CLIP in Flax (Radford et al. 2021), the retriever's bi-encoder (CM3Leon §2.1). Imports without TensorFlow."""
