"""What a finished study is: its world, its decoders, and how long it took."""

from __future__ import annotations

import functools
import os
import pathlib
import platform
import time
from typing import Any

from benchmarks.claims.fine_tuning import records_outside
from benchmarks.claims.settings import BEST_OF, CHOICES, Sampling
from benchmarks.claims.study import Study
from cm3leon_jax.commands.stage import STAGE_FILE
from cm3leon_jax.runtime.files import fingerprint, read_json
from cm3leon_jax.runtime.model_folder import model_fingerprint


def facts(study: Study, chosen: dict[str, Sampling]) -> dict[str, Any]:
    """What the page says of the study beside its claims. `chosen`: how it samples, by the purpose."""
    from cm3leon_jax.data.creatures.folder import read_creatures
    from cm3leon_jax.model.config import DecoderConfig, parameter_count

    world = read_creatures(study.path("creatures_bank/data"))
    trained = read_json(f"{study.decoder('retrieval', 0)}/{STAGE_FILE}", what="stage record", make_with="cm3leon train")
    return {
        "size": study.size,
        "seeds": study.seeds,
        "parameters": parameter_count(DecoderConfig(**trained["settings"]["model"])),
        "steps": trained["extendable"]["loop"]["steps"],
        "creatures": world.creatures + world.bank_only,
        "bank_only": world.bank_only,
        "parts": world.parts,
        "validation": study.validation,
        "best_of": BEST_OF,
        "weights": {name: each["guidance_scale"] for name, each in chosen.items() if CHOICES[name].samples == 1},
        "hours": hours(study),
        "machine": f"{os.cpu_count()} cores ({platform.machine()})",
        "written": time.strftime("%Y-%m-%d"),
    }


def hours(study: Study) -> float:
    """What making all of it took, the demo that the fourth claim starts from included, whoever made it."""
    records = [*study.directory.rglob(STAGE_FILE), *records_outside(study)]
    stages = [read_json(path, what="stage record", make_with="cm3leon") for path in records]
    return (sum(stage["seconds"] for stage in stages) + _drawing_seconds(study)) / 3600


@functools.cache
def made_with(study: Study, variant: str, seed: int) -> str:
    """A few letters that name a decoder, and the documents that are retrieved for it."""
    from cm3leon_jax.data.shards import PreparedData

    decoder = model_fingerprint(f"{study.decoder(variant, seed)}/model")
    return fingerprint(decoder, PreparedData(study.prepared("bank")).fingerprint)[:8]


def _drawing_seconds(study: Study) -> float:
    return sum(
        read_json(path, what="scores", make_with="python -m benchmarks.claims")["seconds"]
        for path in pathlib.Path(study.path("drawings")).glob("*/*.json")
    )
