"""VQGANs that others trained as image tokenizers, and image tokenizers for others: Hugging Face's `ChameleonVQVAE`, and
taming-transformers' and Meta Chameleon's checkpoints."""
