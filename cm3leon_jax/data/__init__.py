"""Data: sources of images and captions -> prepared documents -> seqio tasks -> global batches."""
