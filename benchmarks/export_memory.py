"""Peak memory of `cm3leon export` and `import` on a decoder of random weights: prints one JSON line.

python benchmarks/export_memory.py --model 760m [--work FOLDER]

Each command is a process of its own. What a process needs without weights is measured on a decoder of one narrow layer;
the goal for the rest is 1.3 times the parameters of one layer.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator

import gin
import numpy as np

from cm3leon_jax.cli import GIN_CONFIGS
from cm3leon_jax.gin_names import register
from cm3leon_jax.model.config import DecoderConfig, parameter_count
from cm3leon_jax.model.decoder import abstract_params
from cm3leon_jax.model.folder import write_decoder
from cm3leon_jax.runtime.model_folder import flatten
from cm3leon_jax.runtime.tensor_stream import NewTensor
from cm3leon_jax.vocabulary import CM3LEON, Vocabulary

SMALL = DecoderConfig(num_layers=1, d_model=8, num_heads=1, vocab_size=CM3LEON.size, max_length=8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", default="760m", help="a gin file of gin_configs/models")
    parser.add_argument("--work", help="where the folders are made (three times the model's size); a temporary folder")
    arguments = parser.parse_args()
    register(gin)
    gin.parse_config_file(str(GIN_CONFIGS / "models" / f"{arguments.model}.gin"))
    config = gin.get_configurable("DecoderConfig")()
    with tempfile.TemporaryDirectory(dir=arguments.work) as folder:
        work = pathlib.Path(folder)
        small, large = ({} for _ in range(2))
        for name, each, found in (("small", SMALL, small), (arguments.model, config, large)):
            model, opt, orbax = (str(work / f"{name}_{part}") for part in ("model", "opt", "orbax"))
            write_random(model, each)
            found["export"] = peak_bytes("export", f"--decoder={model}", f"--directory={opt}")
            found["import"] = peak_bytes("import", f"--weights={opt}", f"--directory={opt}_back")
            subprocess.run(["rm", "-r", opt, f"{opt}_back"], check=True)
            options = ("--format=orbax", f"--decoder={model}", f"--directory={orbax}")
            found["export_orbax"] = peak_bytes("export", *options)
            found["import_orbax"] = peak_bytes("import", f"--weights={orbax}", f"--directory={orbax}_back")
    layer = 12 * config.d_model**2 * 4
    result = {
        "model": arguments.model,
        "parameters": parameter_count(config),
        "layer_bytes": layer,
        "overhead_bytes": small,
        "peak_bytes": large,
        "layers_in_memory": {name: round((large[name] - small[name]) / layer, 2) for name in large},
        "goal": 1.3,
    }
    print(json.dumps(result))


def write_random(
    directory: str, config: DecoderConfig, vocabulary: Vocabulary = CM3LEON, *, scale: float = 1.0
) -> None:
    """A decoder's folder; no matrix is zero."""
    float32 = np.dtype(np.float32)
    tensors = {
        name: NewTensor(leaf.shape, float32, functools.partial(random_rows, seed, leaf.shape, scale))
        for seed, (name, leaf) in enumerate(flatten(abstract_params(config)).items())
    }
    write_decoder(directory, config, vocabulary, tensors)


def random_rows(seed: int, shape: tuple[int, ...], scale: float) -> Iterator[np.ndarray]:
    rng = np.random.default_rng(seed)
    for _ in range(shape[0]):
        yield rng.standard_normal((1, *shape[1:]), np.float32) * np.float32(scale)


def peak_bytes(*arguments: str) -> int:
    """The largest resident size of one command."""
    process = subprocess.Popen([sys.executable, "-m", "cm3leon_jax", *arguments], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise RuntimeError(f"{arguments} ended with status {status}")
    return usage.ru_maxrss * 1024


if __name__ == "__main__":
    main()
