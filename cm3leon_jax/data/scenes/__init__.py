"""The embedded data of the demo: a procedural world of scenes with captions, and exact scores for images of it."""
