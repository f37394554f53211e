"""`cm3leon creatures`."""

from __future__ import annotations

from cm3leon_jax.data.creatures.world import CreaturesConfig


def creatures(directory: str, config: CreaturesConfig) -> None:
    """Makes up a world of named creatures in DIRECTORY/data, for the source creatures:DIRECTORY/data.

    DIRECTORY/examples.png shows a few. Pictures are drawn whenever they are read; nothing else is kept."""
    from cm3leon_jax.commands.stage import run_stage
    from cm3leon_jax.data.creatures.folder import write_creatures
    from cm3leon_jax.data.sources import open_source
    from cm3leon_jax.sampling.pictures import write_picture_grid

    def work() -> None:
        write_creatures(f"{directory}/data", config)
        split = open_source(f"creatures:{directory}/data").split("train")
        shown = [split[index] for index in range(min(8, len(split)))]
        captions = [example.caption for example in shown]
        write_picture_grid(f"{directory}/examples.png", [[example.image] for example in shown], captions=captions)

    run_stage(directory, "creatures", settings=config.to_dict(), extendable={}, work=work)
