import dataclasses
import json

import jax
import numpy as np
import pytest
from PIL import Image
from tiny_tokenizer import LOOP, TINY, TRAINING, batch_of_step, squares

from cm3leon_jax.runtime.checkpoints import Checkpoints
from cm3leon_jax.runtime.devices import batch_sharded, data_mesh, put_batch
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.runtime.loop import LoopConfig
from cm3leon_jax.runtime.metrics import read_metrics
from cm3leon_jax.tokenizers.image.train import train_image_tokenizer
from cm3leon_jax.tokenizers.image.training import Trainer, to_uint8, to_unit


def test_bytes_survive_the_unit_interval():
    values = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(to_uint8(to_unit(values)), values)


def test_a_run_leaves_what_it_should_and_learns(trained):
    _, directory = trained
    rows = read_metrics(directory / "training")
    loss = [row["train/reconstruction_loss"] for row in rows if "train/reconstruction_loss" in row]
    assert len(loss) == LOOP.steps
    assert np.mean(loss[-3:]) < 0.6 * loss[0]
    assert any("eval/psnr_db" in row for row in rows)
    assert set(json.loads((directory / "evaluation.json").read_text())) >= {"psnr_db", "ssim", "codebook_perplexity"}
    assert Image.open(directory / "reconstructions.png").size[0] > 100


def test_the_discriminator_joins_at_its_step(trained):
    _, directory = trained
    rows = [row for row in read_metrics(directory / "training") if "train/loss" in row]
    weights = {row["step"]: row.get("train/adversarial_weight", 0) for row in rows}
    start = TRAINING.discriminator_start
    assert all((weight > 0) == (step > start) for step, weight in weights.items())


def test_the_codebook_starts_at_its_step(trained):
    _, directory = trained
    rows = [row for row in read_metrics(directory / "training") if "train/loss" in row]
    assert all((row["train/perplexity"] > 1.5) == (row["step"] > TRAINING.quantize_from_step) for row in rows)


def test_a_stopped_run_continues_exactly(trained, tmp_path):
    """Stopped at a checkpoint in the middle by an error in the data, as a kill would."""
    tokenizer, _ = trained

    def breaking(step):
        if step == 8:
            raise RuntimeError("killed")
        return batch_of_step(step)

    images = squares(10_000, 12)
    with pytest.raises(RuntimeError, match="killed"):
        train_image_tokenizer(TINY, TRAINING, LOOP, breaking, tmp_path, images)
    assert not (tmp_path / "model").exists()
    with Checkpoints(tmp_path / "training") as checkpoints:
        assert checkpoints.latest_step() == 5
    continued = train_image_tokenizer(TINY, TRAINING, LOOP, batch_of_step, tmp_path, images)
    assert continued.fingerprint == tokenizer.fingerprint


def test_codes_learned_by_gradient_and_the_same_on_one_device_as_on_two():
    """The batch is split over the devices, and nothing in a step depends on how."""
    training = dataclasses.replace(TRAINING, codebook="loss", quantize_from_step=0, warmup_steps=0)
    trainer = Trainer(TINY, training, 4)
    state, images = jax.jit(trainer.start_codebook)(trainer.init_state(), batch_of_step(0)), batch_of_step(1)
    step = jax.jit(trainer.train_step, static_argnames="adversarial")
    alone, metrics = step(state, images, adversarial=False)
    together, _ = step(state, put_batch(images, batch_sharded(data_mesh())), adversarial=False)
    # Adam's first update is the gradient's sign, so where the gradient is nothing but rounding, updates may differ.
    close = jax.tree.map(lambda a, b: np.isclose(a, b, atol=1e-5).mean(), alone["params"], together["params"])
    assert min(jax.tree.leaves(close)) > 0.97
    assert float(metrics["code_loss"]) > 0
    before = state["params"]["quantize"]["embedding"]
    assert float(np.abs(alone["params"]["quantize"]["embedding"] - before).max()) > 0


def test_a_batch_that_does_not_divide():
    training = dataclasses.replace(TRAINING, batch_size=7)
    with pytest.raises(UserError, match="batch_size 7"):
        train_image_tokenizer(TINY, training, LoopConfig(steps=1), batch_of_step, "unused", squares(0, 2))
