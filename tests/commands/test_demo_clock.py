import pathlib
import re

import gin
import pytest

from cm3leon_jax import gin_names
from cm3leon_jax.cli import GIN_CONFIGS
from cm3leon_jax.commands.demo import STAGES
from cm3leon_jax.commands.demo_clock import Clock, DemoConfig

BUDGET = DemoConfig(step=(0.2, 0.4), scenes=(20, 30), prepare=(60, 70), train=(400, 800), evaluate=(80, 100))


def test_stages_take_their_budget_times_what_a_step_takes():
    clock = Clock(BUDGET, "float32", 0.8)
    assert clock.seconds("train", {}) == 1600
    assert clock.seconds_left(["train", "evaluate"], {}) == 1800
    assert Clock(BUDGET, "bfloat16", 0.1).seconds("prepare", {}) == 30
    assert clock.seconds("inspect", {}) == 0


def test_what_stages_took_corrects_the_others_but_not_training():
    clock = Clock(BUDGET, "bfloat16", 0.2)
    finished = {"scenes": 30.0, "prepare": 90.0}
    assert clock.seconds("evaluate", finished) == pytest.approx(80 * 120 / 80)
    assert clock.seconds("train", finished) == 400
    assert clock.seconds_left(["scenes", "train"], finished) == 400
    assert clock.seconds("evaluate", finished | {"train": 9000.0}) == pytest.approx(120)


@pytest.mark.parametrize("name", ["demo", "demo_quick"])
def test_every_stage_has_a_budget_and_contributing_shows_it(name):
    gin_names.register(gin)
    with gin.unlock_config():
        gin.clear_config()
        gin.add_config_file_search_path(str(GIN_CONFIGS))
        gin.parse_config_file(f"runs/{name}.gin")
        budget = gin.get_configurable("DemoConfig")()
        gin.clear_config()
    text = (pathlib.Path(__file__).parent.parent.parent / "CONTRIBUTING.md").read_text()
    for stage in ("speed", *(stage.command for stage in STAGES)):
        seconds = getattr(budget, stage.replace("-", "_"))
        assert min(seconds) > 0, stage
        row = re.search(rf"^\| `{stage}` \|(.*)\|$", text, re.MULTILINE)
        columns = {"demo": slice(0, 2), "demo_quick": slice(2, 4)}[name]
        assert row and [float(cell) for cell in row[1].split("|")[columns]] == list(seconds), stage
