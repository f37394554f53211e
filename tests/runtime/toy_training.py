"""A small training run for tests to kill:
`python toy_training.py DIRECTORY STEPS [HOLD] [LARGEST FILE] [PLATEAU STEPS]`.

Each step's batch, loss and learning rate go to DIRECTORY/seen.jsonl, in full precision, before the next step starts.
Behind the step HOLD, JSON of [the learning rate's scale, the step], it waits for the file DIRECTORY/go_on.
"""

import json
import pathlib
import resource
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np

from cm3leon_jax.runtime.errors import EXIT_START_AGAIN, StartAgain
from cm3leon_jax.runtime.loop import LoopConfig, TrainingLoop


def make_batches(position):
    """A stream whose next batch depends on all before it, so that only an exact position gives the same."""
    state = {"step": 0, "sum": 1} if position is None else dict(position)
    while True:
        state = {"step": state["step"] + 1, "sum": (state["sum"] * 31 + state["step"]) % 1009}
        yield np.full(5, state["sum"] / 1009, np.float32), dict(state)


def main(directory: str, steps: int, hold: list | None = None, largest_file: int = 0, plateau_steps: int = 0) -> None:
    seen = open(pathlib.Path(directory) / "seen.jsonl", "a")  # noqa: SIM115 - held open to the end
    if largest_file:  # as a full disk: writing more fails, in whichever thread does it
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))

    @jax.jit
    def update(state, batch):
        loss = jnp.sum((state["w"] - batch) ** 2)
        noise = 0.01 * jax.random.normal(jax.random.fold_in(jax.random.key(0), state["step"]), (5,))
        w = state["w"] - 0.3 * state["learning_rate_scale"] * (state["w"] - batch) + noise
        return {**state, "w": w, "step": state["step"] + 1}, {"loss": loss}

    def train_step(state, batch):
        new, metrics = update(state, batch)
        row = {"step": int(new["step"]), "batch": float(batch[0]), "loss": float(metrics["loss"]).hex()}
        row["scale"] = float(state["learning_rate_scale"])
        seen.write(json.dumps(row) + "\n")
        seen.flush()
        while hold == [row["scale"], row["step"]] and not (pathlib.Path(directory) / "go_on").exists():
            time.sleep(0.01)
        return new, metrics

    try:
        TrainingLoop(
            config=LoopConfig(steps=steps, log_every=5, checkpoint_every=10, plateau_steps=plateau_steps),
            train_step=train_step,
            make_batches=make_batches,
            directory=directory,
            label="toy",
            saved_config={"toy": 1},
        ).run(
            {
                "w": jnp.full(5, 100.0),
                "step": jnp.zeros((), jnp.int32),
                "learning_rate_scale": jnp.ones(()),
                "ballast": jax.random.normal(jax.random.key(1), (2**20,)),
            }
        )
    except StartAgain:
        sys.exit(EXIT_START_AGAIN)


if __name__ == "__main__":
    main(
        sys.argv[1],
        int(sys.argv[2]),
        *(json.loads(value) for value in sys.argv[3:4]),
        *(int(value) for value in sys.argv[4:]),
    )
