"""The image tokenizer: a VQGAN, image <-> a grid of codes (CM3Leon §2.1: 256x256 pixels -> 1024 of 8192 codes)."""
