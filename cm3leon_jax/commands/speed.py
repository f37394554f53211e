"""`cm3leon speed`."""

from __future__ import annotations

from cm3leon_jax.data.settings import StreamConfig
from cm3leon_jax.model.config import DecoderConfig
from cm3leon_jax.model.partitioning import AxisRules, MeshConfig
from cm3leon_jax.runtime.hardware import HardwareConfig
from cm3leon_jax.runtime.settings import LoopConfig
from cm3leon_jax.training.optimizer import OptimizerConfig
from cm3leon_jax.training.step import StepConfig


def speed(
    model: DecoderConfig,
    hardware: HardwareConfig,
    mesh: MeshConfig,
    rules: AxisRules,
    optimizer: OptimizerConfig,
    step: StepConfig,
    stream: StreamConfig,
    loop: LoopConfig,
    steps: int = 8,
    json: str = "",
) -> None:
    """Times the training steps of a run on this machine, without its data: tokens/s, and how long the run will take.

    The gin files are those of `cm3leon train`. --steps are timed after the first one, which is compiled; --json FILE
    keeps the figures."""
    import jax

    from cm3leon_jax.evaluation.results import duration
    from cm3leon_jax.runtime import hosts
    from cm3leon_jax.runtime.compute_dtype import Use
    from cm3leon_jax.runtime.errors import check_at_least
    from cm3leon_jax.runtime.files import write_json
    from cm3leon_jax.training.speed import measure_speed
    from cm3leon_jax.training.throughput import throughput
    from cm3leon_jax.training.train import TrainingConfig

    check_at_least(1, steps=steps)
    model = model.computing_in(Use.DECODER_TRAINING, jax.default_backend())
    training = TrainingConfig(optimizer=optimizer, step=step, mesh=mesh, rules=rules, hardware=hardware)
    measured = measure_speed(model, training, rows=stream.batch_size, length=stream.length, steps=steps)
    tokens = stream.batch_size * stream.length
    rates = throughput(model, stream.length, tokens / measured.step_seconds, jax.device_count())
    result = {"compute_dtype": model.compute_dtype, "tokens_per_step": tokens, **measured._asdict(), **rates}
    result |= {"devices": f"{jax.device_count()} {jax.devices()[0].device_kind}", "steps": loop.steps}
    if not hosts.is_first():
        return
    if json:
        write_json(json, result)
    mfu = f", MFU {rates['mfu']:.0%}" if "mfu" in rates else ""
    print(
        f"{rates['tokens_per_second']:,.0f} tokens/s in {model.compute_dtype} on {result['devices']}{mfu}: "
        f"{measured.step_seconds:.3g} s for a step of {tokens:,} tokens, {measured.compile_seconds:.0f} s to compile; "
        f"{loop.steps:,} steps take {duration(loop.steps * measured.step_seconds)}",
        flush=True,
    )
