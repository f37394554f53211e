"""The script of docs/sampling.md, run as it stands with a tiny generator in the place of the demo's."""

import dataclasses
import pathlib
import re

import numpy as np
import tiny_generator
from PIL import Image

from cm3leon_jax.sampling.pipeline import Generator

PAGE = pathlib.Path(__file__).parents[2] / "docs/sampling.md"


def test_the_documented_script_draws_describes_fills_and_answers(tmp_path, monkeypatch):
    # Long enough for a question in letters, one a token.
    monkeypatch.setattr(tiny_generator, "CONFIG", dataclasses.replace(tiny_generator.CONFIG, max_length=192))
    monkeypatch.setattr(Generator, "load", lambda *_, **__: tiny_generator.tiny_generator())
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.full((20, 30, 3), 90, np.uint8)).save("picture.png")
    (script,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    found: dict = {}
    exec(script, found)
    assert found["drawn"][0].images[0].shape == found["behind_documents"][0].images[0].shape == (8, 8, 3)
    assert found["drawn"][0].clip_score >= found["drawn"][3].clip_score and len(found["drawn"]) == 4
    assert found["described"][0].texts[0] and found["answer"].answer[0]
    np.testing.assert_array_equal(found["filled"][0].images[0][4:], found["picture"][4:])
