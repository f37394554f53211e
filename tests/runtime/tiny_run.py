"""One process of a tiny training run, for tests to start several of: `python tiny_run.py JSON`.

The JSON names a mode, a directory and what goes wrong. TensorFlow is not imported: a start takes seconds.
"""

import json
import pathlib
import sys
import time

import numpy as np

from cm3leon_jax.cli import exit_status
from cm3leon_jax.runtime import hosts
from cm3leon_jax.runtime.agreement import check_same
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.runtime.settings import LoopConfig

ROWS, LENGTH = 8, 24


def rows_of_step(step: int) -> dict[str, np.ndarray]:
    """The rows of this process: counting sequences."""
    starts = np.random.default_rng([7, step]).integers(3, 50, (ROWS, 1))
    own = slice(hosts.index() * ROWS // hosts.count(), (hosts.index() + 1) * ROWS // hosts.count())
    tokens = ((starts + np.arange(LENGTH + 1)) % 48 + 2).astype(np.int32)[own]
    ones = np.ones_like(tokens[:, 1:])
    positions = ones * np.arange(LENGTH, dtype=np.int32)
    return {
        "tokens": tokens[:, :-1],
        "targets": tokens[:, 1:],
        "positions": positions,
        "segments": ones,
        "weights": ones.astype(np.float32),
    }


def settings(tensor: int):
    """(decoder, vocabulary, training); the parameters are split over all devices."""
    from cm3leon_jax.model.config import DecoderConfig
    from cm3leon_jax.model.partitioning import MeshConfig
    from cm3leon_jax.training.optimizer import OptimizerConfig
    from cm3leon_jax.training.step import StepConfig
    from cm3leon_jax.training.train import TrainingConfig
    from cm3leon_jax.vocabulary import Vocabulary

    vocabulary = Vocabulary(text_size=24, image_size=24, num_sentinels=4, multiple_of=64)
    decoder = DecoderConfig(
        vocab_size=vocabulary.size,
        num_layers=1,
        d_model=32,
        num_heads=4,
        max_length=LENGTH,
        init_std=0.1,
        compute_dtype="float32",
    )
    training = TrainingConfig(
        optimizer=OptimizerConfig(learning_rate=3e-3, warmup_steps=2),
        step=StepConfig(loss_chunk=8),
        mesh=MeshConfig(data=1, fsdp=-1, tensor=tensor),
    )
    return decoder, vocabulary, training


def train(
    directory: str,
    steps: int,
    pause: float = 0.0,
    hold_at: int = 0,
    hang_at: int = 0,
    watchdog: float = 300.0,
    tensor: int = 1,
    init_from: str = "",
) -> None:
    """`hold_at`: before this step's batch all wait for the file `directory`/go_on. `hang_at`: the last process sleeps
    for ever before this step's batch."""
    from cm3leon_jax.model.folder import open_initial_params
    from cm3leon_jax.training.train import train_decoder

    def make_batches(position):
        step = 0 if position is None else position["step"]
        while True:
            time.sleep(pause)
            while step + 1 == hold_at and not (pathlib.Path(directory) / "go_on").exists():
                time.sleep(0.01)
            if hang_at and step + 1 == hang_at and hosts.index() == hosts.count() - 1:
                time.sleep(1e6)
            yield rows_of_step(step), {"step": step + 1}
            step += 1

    loop = LoopConfig(steps=steps, log_every=1, checkpoint_every=4, watchdog_floor_seconds=watchdog)
    decoder, vocabulary, training = settings(tensor)
    options = {"codebook": np.random.default_rng(0).normal(size=(24, 8))}
    if init_from:
        options["initial_params"] = open_initial_params(init_from.format(hosts.index()), decoder, vocabulary)
    train_decoder(decoder, vocabulary, training, loop, make_batches, directory, **options)


def place(model: str, report: str) -> None:
    """Starts from the weights of a decoder: writes by how much anonymous memory grew at its peak, and what was read, of
    each process. Memory is looked at every millisecond."""
    import threading

    from cm3leon_jax.model.decoder import logical_axes
    from cm3leon_jax.model.folder import open_decoder, placed_params
    from cm3leon_jax.model.partitioning import MeshConfig, Partitioning, make_mesh

    def anonymous() -> int:
        lines = pathlib.Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))

    def bytes_read() -> int:
        return int(pathlib.Path("/proc/self/io").read_text().splitlines()[0].split()[1])

    partitioning = Partitioning(make_mesh(MeshConfig(data=1, fsdp=-1)))
    config, _, tensors = open_decoder(model)
    shardings = partitioning.tree(logical_axes(config))
    placed_params(tensors, {"embedding": shardings["embedding"]})  # what JAX makes at its first use is not the weights'
    before, read_before, peak, ended = anonymous(), bytes_read(), [0], threading.Event()

    def look() -> None:
        while not ended.wait(0.001):
            peak[0] = max(peak[0], anonymous())

    thread = threading.Thread(target=look)
    thread.start()
    params = placed_params(tensors, shardings)
    import jax

    jax.block_until_ready(params)
    ended.set()
    thread.join()
    facts = {"grew": max(peak[0], anonymous()) - before, "read": bytes_read() - read_before}
    checked = float(jax.jit(lambda tree: sum(leaf.sum() for leaf in jax.tree.leaves(tree)))(params))
    pathlib.Path(report, f"{hosts.index()}.json").write_text(json.dumps(facts | {"sum": checked}))


def differ(directory: str) -> None:
    """The processes were given different settings."""
    check_same({"optimizer": {"learning_rate": 0.1 if hosts.index() == 1 else 0.2}, "directory": directory})


def wrong_input(by: int) -> None:
    """One process finds something wrong, while the others wait for what it was to tell or send them."""
    if hosts.index() == by:
        raise UserError(f"wrong input, found by process {by}")
    hosts.gather("waiting")


def bug(by: int) -> None:
    if hosts.index() == by:
        raise ZeroDivisionError("a bug")
    hosts.gather("waiting")


def main(mode: str, **arguments) -> int:
    def work() -> None:
        hosts.join()
        globals()[mode](**arguments)

    return exit_status(work)


if __name__ == "__main__":
    sys.exit(main(**json.loads(sys.argv[1])))
