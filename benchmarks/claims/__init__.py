"""What the paper claims, tested at the scale that can be run here: `python -m benchmarks.claims`."""
