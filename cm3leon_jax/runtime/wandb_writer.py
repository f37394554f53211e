"""Metrics and pictures to Weights & Biases, where `wandb` is installed."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from PIL import Image

from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.runtime.files import Path, as_path, fingerprint


class WandbWriter:
    """A run of `project`, named after its folder: started again, the same run goes on."""

    def __init__(self, project: str, directory: Path, config: dict):
        try:
            import wandb
        except ImportError:
            raise UserError(
                "LoopConfig.wandb_project is set, but wandb is not installed; `pip install cm3leon_jax[wandb]`"
            ) from None
        self._wandb = wandb
        place = as_path(directory) if "://" in str(directory) else as_path(directory).absolute()
        self._run = wandb.init(
            project=project, name=place.parent.name, id=fingerprint(str(place)), resume="allow", config=config
        )

    def write(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def picture(self, step: int, name: str, path: Path) -> None:
        with as_path(path).open("rb") as file, Image.open(file) as image:
            self._run.log({name: self._wandb.Image(np.asarray(image))}, step=step)

    def close(self) -> None:
        self._run.finish()
