"""Benchmarks are scripts: their modules are found in their folder."""

import pathlib
import sys

sys.path.append(str(pathlib.Path(__file__).parents[2] / "benchmarks"))
