"""`cm3leon plan`."""

from __future__ import annotations

from cm3leon_jax.data.settings import PretrainingConfig, StreamConfig
from cm3leon_jax.model.config import DecoderConfig
from cm3leon_jax.model.partitioning import AxisRules, MeshConfig
from cm3leon_jax.runtime.hardware import HardwareConfig
from cm3leon_jax.runtime.settings import LoopConfig
from cm3leon_jax.sampling.weights import PrecisionConfig
from cm3leon_jax.training.optimizer import OptimizerConfig
from cm3leon_jax.training.step import StepConfig


def plan(
    model: DecoderConfig,
    hardware: HardwareConfig,
    mesh: MeshConfig,
    rules: AxisRules,
    optimizer: OptimizerConfig,
    step: StepConfig,
    stream: StreamConfig,
    pretraining: PretrainingConfig,
    loop: LoopConfig,
    precision: PrecisionConfig,
    slice: str = "",
    search: bool = False,
    sampler: bool = False,
    sampler_rows: int = 4,
    sampler_tensor: int = 0,
    json: str = "",
) -> None:
    """Compiles the training step for a TPU slice that is not there, and tells what it needs and how fast it will be:

      cm3leon plan --gin_file models/7b --gin_file hardware/v5p_256 --gin_file runs/pretrain

    --slice TYPE plans for another slice than the hardware file's; --search looks for the fastest rows at once, remat
    policy and mesh that fit; --json FILE keeps the plan. What does not fit is planned with the smallest change that
    makes it fit, and ends with status 2. --sampler plans the sampling program as well: --sampler_rows images drawn at
    once by each copy of the model, a copy on --sampler_tensor chips (0: as few as it fits), with weights and cache as
    PrecisionConfig says. How the estimates are made, and where they fail: docs/planning.md."""
    import pathlib

    import jax

    from cm3leon_jax.planning.chips import parse_slice
    from cm3leon_jax.planning.compile import DoesNotFit
    from cm3leon_jax.planning.plan import describe, plan_training
    from cm3leon_jax.planning.run import PlannedRun
    from cm3leon_jax.planning.sampler import IMAGE_TOKENS, PlannedSampler, describe_sampler, plan_sampler
    from cm3leon_jax.planning.search import fastest, smallest_change
    from cm3leon_jax.runtime.errors import UserError
    from cm3leon_jax.runtime.files import write_json

    jax.config.update("jax_enable_compilation_cache", False)  # what is compiled for another machine cannot be read back
    name = slice or hardware.slice
    if not name:
        raise UserError("plan needs a slice: --gin_file hardware/v5p_256 (or another slice's), or --slice v5p-256")
    target = parse_slice(name)
    if json and not pathlib.Path(json).absolute().parent.is_dir():
        raise UserError(f"--json {json}: its folder does not exist; make it first")
    options = tuple(hardware.compiler_options.items())
    run = PlannedRun(
        model,
        mesh,
        rules,
        optimizer,
        step,
        stream.batch_size,
        stream.length,
        options,
        retrieved_max=pretraining.retrieved_max,
    )
    if search:
        found = fastest(run, target, loop.steps)
    else:
        print(f"Compiling the training step for {target.name} ({target.chips} chips); a minute or two …", flush=True)
        try:
            found = plan_training(run, target, loop.steps)
        except DoesNotFit as error:
            print(f"It {error}. Looking for the smallest change that makes it fit …", flush=True)
            smaller = smallest_change(run, target, loop.steps)
            advice = f"set {' and '.join(smaller['changes'])}" if smaller else "nothing but a larger slice helps"
            message = f"the step does not fit {target.name}: it {error}; {advice}"
            if smaller:
                print(describe(smaller))
            if json:
                write_json(json, (smaller or {}) | {"error": message})
            raise UserError(message) from None
    print(describe(found))
    if sampler:
        print("\nCompiling the sampling program …", flush=True)
        planned = PlannedSampler(
            model,
            sampler_tensor,
            sampler_rows,
            prompt=model.max_length - IMAGE_TOKENS,
            precision=precision,
            compiler_options=options,
        )
        found["sampler"] = plan_sampler(planned, target)
        print(describe_sampler(found["sampler"]))
    if json:
        write_json(json, found)
