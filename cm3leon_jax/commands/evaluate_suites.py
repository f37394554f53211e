"""`cm3leon evaluate --suite NAME` for suites on data that the user names."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from cm3leon_jax import __version__
from cm3leon_jax.commands.stage import commit, run_stage
from cm3leon_jax.evaluation.suites.config import SuitesConfig
from cm3leon_jax.evaluation.suites.fingerprints import contents, source_fingerprint
from cm3leon_jax.evaluation.suites.paper import write_paper
from cm3leon_jax.evaluation.suites.paper_rows import SUITES as PAPER_SUITES
from cm3leon_jax.evaluation.suites.table import PAPER, SUITES, Suite
from cm3leon_jax.evaluation.suites.work import Models, Work
from cm3leon_jax.evaluation.suites.writing import RESULT_FILE, About, write_result
from cm3leon_jax.runtime import hosts
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.runtime.files import local_path, read_json
from cm3leon_jax.sampling.rules import SamplingConfig
from cm3leon_jax.sampling.weights import PrecisionConfig


def evaluate_suite(
    name: str,
    directory: str,
    config: SuitesConfig,
    sampling: SamplingConfig,
    precision: PrecisionConfig,
    models: Models,
    split: str,
) -> None:
    """Runs one suite of the table into DIRECTORY/NAME, unless its result is there. Raises `UserError` where what it
    needs is missing."""
    suite = SUITES[name]
    _check(name, suite, config, models)
    work = Work(local_path(directory) / name, config, sampling, models, split)
    settings = _settings(suite, work) | {"precision": dataclasses.asdict(precision)}
    extendable = {each: getattr(config, each) for each in suite.extendable}
    prints, data = _models(suite, work), _data(suite, work)

    def run() -> None:
        result = suite.load()(work)
        if hosts.is_first():
            seeds = {"examples and intervals": config.seed, "sampling": sampling.seed}
            about = About(name, suite.summary, settings | extendable, seeds, prints, data, __version__, commit())
            write_result(work.directory, result, about)
            print(f"{name}: {work.directory}", flush=True)

    everything = settings | {"suite": name, "models": prints, "fingerprints": data}
    run_stage(work.directory, "evaluate", settings=everything, extendable=extendable, work=run)


def evaluate_paper(directory: str, config: SuitesConfig, run: Callable[[str], None]) -> None:
    """Calls `run` with each suite of the paper's tables whose data are named, then writes our row of the tables into
    DIRECTORY/paper and prints it. Raises `UserError` where no data are named."""
    wanted = [name for name in PAPER_SUITES if any(getattr(config, each) for each in SUITES[name].data)]
    if not wanted:
        known = ", ".join(f"SuitesConfig.{each}" for name in PAPER_SUITES for each in SUITES[name].data)
        raise UserError(f"suite paper needs a data set; name the sources of those that you have: {known}")
    for name in wanted:
        run(name)
    if hosts.is_first():
        folder = local_path(directory)
        made = {name: f"cm3leon evaluate --suite {name}" for name in wanted}
        results = {name: read_json(folder / name / RESULT_FILE, what="result", make_with=made[name]) for name in wanted}
        print(write_paper(folder / PAPER, results, config), end="", flush=True)


def _check(name: str, suite: Suite, config: SuitesConfig, models: Models) -> None:
    missing = [option for option in suite.needs if not models.options[option]]
    if missing:
        raise UserError(f"suite {name} needs --{missing[0]} VALUE (or evaluate.{missing[0]} = VALUE in a gin file)")
    if suite.data and not any(getattr(config, each) for each in suite.data):
        first, *others = (f"SuitesConfig.{each}" for each in suite.data)
        also = f" (or {', '.join(others)})" if others else ""
        raise UserError(f"suite {name} needs a data set; name its source: --gin.{first}=SOURCE{also}")


def _settings(suite: Suite, work: Work) -> dict[str, Any]:
    """What the result depends on, but for models and data: of the many settings those that the suite reads."""
    fields = dataclasses.asdict(work.config)
    chosen = {name: fields[name] for name in (*suite.data, *suite.reads)}
    chosen = {name: list(value) if isinstance(value, tuple) else value for name, value in chosen.items()}
    if "source" in (*suite.needs, *suite.takes):
        chosen["source"] = work.models.options["source"]
    return chosen | {"sampling": dataclasses.asdict(work.sampling), "split": work.split}


def _models(suite: Suite, work: Work) -> dict[str, str]:
    """Name -> fingerprint of every model that the suite may use, and of prepared data."""
    from cm3leon_jax.runtime.model_folder import model_fingerprint

    found = work.models.fingerprints((*suite.needs, *suite.takes))
    named = {each: getattr(work.config, each) for each in suite.decoders}
    return found | {each: model_fingerprint(where) for each, where in named.items() if where}


def _data(suite: Suite, work: Work) -> dict[str, str]:
    """Name -> fingerprint of the data sets that are named, and of other files. Raises `UserError`."""
    found = {each: work.fingerprint(each) for each in suite.data if getattr(work.config, each)}
    if "source" in (*suite.needs, *suite.takes):
        found["source"] = source_fingerprint(work.models.options["source"])
    named = {each: getattr(work.config, each) for each in suite.files}
    return found | {each: contents(path, f"SuitesConfig.{each}") for each, path in named.items() if path}
