"""`cm3leon scenes`."""

from __future__ import annotations

from cm3leon_jax.data.scenes.captions import CaptionConfig
from cm3leon_jax.data.scenes.examples import ScenesConfig
from cm3leon_jax.data.scenes.world import WorldConfig


def scenes(directory: str, scenes: ScenesConfig, world: WorldConfig, captions: CaptionConfig) -> None:
    """Renders the embedded data set into DIRECTORY: scenes with captions, exact descriptions and maps."""
    import dataclasses

    from cm3leon_jax.commands.stage import run_stage
    from cm3leon_jax.data.scenes.builder import prepare_scenes

    config = dataclasses.replace(scenes, world=world, captions=captions)
    run_stage(
        directory,
        "scenes",
        settings=config.to_dict(),
        extendable={},
        work=lambda: prepare_scenes(f"{directory}/data", config),
    )
