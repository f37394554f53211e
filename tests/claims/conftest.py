"""The study is no part of the package: it is found from the root of the repository."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))
