"""docs/launch.md's first recipe for real: four workers train the demo's model, are preempted, come back, and end with
the very loss of a run that nothing happened to."""

import json
import pathlib
import sys

import pytest

from cm3leon_jax.runtime.metrics import read_metrics

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "data"))

STEPS = 60
# The demo's run made small, in number of layers and length; everything else is the demo's.
SMALL = {
    "DecoderConfig.num_layers": 1,
    "DecoderConfig.d_model": 32,
    "DecoderConfig.num_heads": 2,
    "StreamConfig.length": 192,
    "StreamConfig.batch_size": 4,
    "StreamConfig.lanes": 4,
    "StreamConfig.chapter_steps": 16,
    "OptimizerConfig.warmup_steps": 10,
    "train/LoopConfig.steps": STEPS,
    "train/LoopConfig.log_every": 5,
    "train/LoopConfig.evaluate_every": STEPS,
    "train/LoopConfig.checkpoint_every": 15,
}


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """What `bash launch/demo.sh` leaves for training, made small: prepared data and its two tokenizers."""
    from prepared_folder import VOCABULARY, write_prepared

    from cm3leon_jax.tokenizers.image.config import ImageTokenizerConfig
    from cm3leon_jax.tokenizers.image.tokenizer import untrained
    from cm3leon_jax.tokenizers.text import TextTokenizerConfig, train_text_tokenizer

    folder = tmp_path_factory.mktemp("demo")
    captions = [f"a {colour} {shape}" for colour in ("red", "green", "blue") for shape in ("circle", "star", "square")]
    text = train_text_tokenizer(captions, TextTokenizerConfig(size=290), folder / "text")
    image = untrained(
        ImageTokenizerConfig(
            resolution=16, patch_size=4, channels=4, channel_multipliers=(1,), num_res_blocks=1,
            attention_resolutions=(), norm_groups=2, latent_channels=4, code_dim=4, num_codes=VOCABULARY.image_size,
        )
    )  # fmt: skip
    image.save(folder / "image")
    data = write_prepared(folder, train=64, validation=4)
    manifest = json.loads((data / "manifest.json").read_text())
    manifest["fingerprints"] = {"text": text.fingerprint, "image": image.fingerprint, "retriever": "none"}
    (data / "manifest.json").write_text(json.dumps(manifest))
    return folder


@pytest.fixture
def launch(cloud, demo, tmp_path):
    cloud.workers(
        CM3LEON_ENVIRONMENT=str(pathlib.Path(sys.prefix)),
        CM3LEON_RETRY_SECONDS="1",
        JAX_PLATFORMS="cpu",
        CM3LEON_PREPARED="1",
        XLA_FLAGS="--xla_force_host_platform_device_count=1 --xla_backend_optimization_level=0"
        " --xla_llvm_disable_expensive_passes=true",
        OMP_NUM_THREADS="1",
        JAX_COMPILATION_CACHE_DIR=str(tmp_path / "compiled"),  # the same programs in every start
        JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS="0",
        JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES="-1",
        TF_CPP_MIN_LOG_LEVEL="3",
    )
    where = ["--type", "v4-32", "--zone", "us-central2-b", "--spot", "--bucket", str(cloud.shared)]
    data = ["--prepared", str(demo), "--text_tokenizer", str(demo / "text"), "--image_tokenizer", str(demo / "image")]
    small = [f"--gin.{name}={value}" for name, value in SMALL.items()]
    return lambda name: cloud.start(
        name, *where, "--config", "runs/demo", "--", *data, "--no-codebook_start", "--sample_captions", "0", *small
    )


def losses(cloud, name):
    rows = read_metrics(cloud.shared / name / "train/training")
    return {row["step"]: row["train/loss"] for row in rows if "train/loss" in row}


def test_four_workers_are_preempted_come_back_and_end_with_the_exact_loss(cloud, launch):
    undisturbed = launch("undisturbed")
    output, errors = undisturbed.communicate(timeout=600)
    assert undisturbed.returncode == 0, output + errors + cloud.consoles()
    expected = losses(cloud, "undisturbed")
    assert max(expected) == STEPS and expected[STEPS] < expected[5]

    preempted = launch("preempted")
    cloud.wait_until(lambda: max(losses(cloud, "preempted"), default=0) >= STEPS // 3, seconds=600)
    assert cloud.run("preempted", "simulate-preemption").returncode == 0
    assert max(losses(cloud, "preempted")) < STEPS
    output, errors = preempted.communicate(timeout=600)
    assert preempted.returncode == 0, output + errors + cloud.consoles()
    assert "the slice was preempted; creating it again" in errors
    assert len(cloud.calls("create preempted")) == 2
    ends = sorted(path.name for path in (cloud.shared / "preempted/attempts/0002").glob("*.exit-*"))
    assert ends == [f"worker-{worker:03d}.exit-0" for worker in range(4)]
    assert losses(cloud, "preempted") == expected
