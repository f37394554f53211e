"""What a finished study is: its world, its decoders, how long it took, and what could be reached at best."""

from __future__ import annotations

import os
import pathlib
import platform
import time
from typing import Any

import numpy as np

from benchmarks.claims.pictures import right, wanted_pictures
from benchmarks.claims.settings import BEST_OF, CHOICES, Sampling
from benchmarks.claims.study import Study
from cm3leon_jax.runtime.files import read_json


def ceiling(study: Study) -> float:
    """Share of the test pictures' creatures that the judge knows behind the image tokenizer."""
    from cm3leon_jax.data.sources import open_source
    from cm3leon_jax.tokenizers.image.tokenizer import ImageTokenizer

    source: Any = open_source(study.source("bank"))
    wanted = wanted_pictures(source, "test", study.known, study.bank_only)
    tokenizer = ImageTokenizer.load(study.models["image_tokenizer"])
    behind = tokenizer.decode(tokenizer.encode(np.stack([want.image for want in wanted])))
    hits = right(wanted, behind[:, None], source.world)
    return sum(int(each.sum()) for each in hits.values()) / sum(len(want.sightings) for want in wanted)


def facts(study: Study, chosen: dict[str, Sampling]) -> dict[str, Any]:
    """What the page says of the study beside its claims. `chosen`: how it samples, by the purpose."""
    from cm3leon_jax.data.creatures.folder import read_creatures
    from cm3leon_jax.model.config import DecoderConfig, parameter_count

    world = read_creatures(study.path("creatures_bank/data"))
    stages = [read_json(path, what="stage record", make_with="cm3leon") for path in study.directory.rglob("stage.json")]
    trained = read_json(f"{study.decoder('retrieval', 0)}/stage.json", what="stage record", make_with="cm3leon train")
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
        "hours": (sum(stage["seconds"] for stage in stages) + _drawing_seconds(study)) / 3600,
        "machine": f"{os.cpu_count()} cores ({platform.machine()})",
        "written": time.strftime("%Y-%m-%d"),
    }


def _drawing_seconds(study: Study) -> float:
    return sum(
        read_json(path, what="scores", make_with="python -m benchmarks.claims")["seconds"]
        for path in pathlib.Path(study.path("drawings")).glob("*/*.json")
    )
