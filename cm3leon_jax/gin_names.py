"""What gin files may name: the config dataclasses, and the commands' functions. Everything else is an error."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import inspect
from collections.abc import Iterator
from typing import Any

from cm3leon_jax.commands import COMMANDS

# Modules of settings alone, which import neither JAX nor TensorFlow beyond dtypes.
_CONFIGS = {
    "ScenesConfig": "data.scenes.examples",
    "WorldConfig": "data.scenes.world",
    "CaptionConfig": "data.scenes.captions",
    "CreaturesConfig": "data.creatures.world",
    "TextTokenizerConfig": "tokenizers.text",
    "ImageTokenizerConfig": "tokenizers.image.config",
    "ImageTokenizerTraining": "tokenizers.image.config",
    "ClipConfig": "retrieval.clip.config",
    "RetrieverTrainingConfig": "retrieval.clip.config",
    "PrepareConfig": "data.prepare.config",
    "SelectionConfig": "retrieval.selection",
    "MemoryBankConfig": "retrieval.memory_bank",
    "PretrainingConfig": "data.settings",
    "FinetuningConfig": "data.settings",
    "ObjectiveConfig": "data.objective",
    "StreamConfig": "data.settings",
    "DecoderConfig": "model.config",
    "MeshConfig": "model.partitioning",
    "AxisRules": "model.partitioning",
    "HardwareConfig": "runtime.hardware",
    "OptimizerConfig": "training.optimizer",
    "LoopConfig": "runtime.settings",
    "StepConfig": "training.step",
    "SamplingConfig": "sampling.rules",
    "PrecisionConfig": "sampling.weights",
    "DemoConfig": "commands.demo_clock",
    "EvaluationConfig": "evaluation.config",
    "SuitesConfig": "evaluation.suites.config",
}


def configurable_names() -> list[str]:
    return [*_CONFIGS, *(command.target.split(":")[1] for command in COMMANDS.values())]


def parameter_names(configurable: str) -> list[str]:
    """The parameters that can be bound of a registered name ("module.Name" or "Name")."""
    name = configurable.split(".")[-1]
    return [item for found, object_ in _objects() if found == name for item in inspect.signature(object_).parameters]


@functools.cache
def register(gin: Any) -> None:
    """Makes every name known to gin, once a process. To be called before gin files are read."""
    # Gin takes a folder for a package of configs, and fails at one that is none: in a folder with `runs/` in it,
    # `runs/demo.gin` would not be found in gin_configs/. Only its reader of plain files is kept.
    del gin.config._FILE_READERS[1:]
    for name, configurable in _objects():
        gin.external_configurable(configurable, name=name, module=None)


def _objects() -> Iterator[tuple[str, Any]]:
    for name, module in _CONFIGS.items():
        found = getattr(importlib.import_module(f"cm3leon_jax.{module}"), name)
        assert dataclasses.is_dataclass(found)
        yield name, found
    for command in COMMANDS.values():
        module, function = command.target.split(":")
        yield function, getattr(importlib.import_module(f"cm3leon_jax.commands.{module}"), function)
