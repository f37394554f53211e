"""How far generated images are from real ones as distributions: FID, CLIP-FD and CMMD. Imports without TensorFlow."""
