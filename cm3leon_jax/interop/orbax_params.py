"""Parameters alone as an Orbax checkpoint: any JAX program restores it, onto any mesh."""

from __future__ import annotations

import contextlib
import pathlib
from collections.abc import Iterator

import jax
import orbax.checkpoint as ocp
from jax.sharding import SingleDeviceSharding

from cm3leon_jax.interop.folder import PARAMS_FOLDER, Opened, read_description
from cm3leon_jax.interop.opt.export import DTYPES
from cm3leon_jax.interop.orbax_stream import open_stream, save_stream
from cm3leon_jax.model.config import DecoderConfig
from cm3leon_jax.model.decoder import Params, abstract_params, logical_axes
from cm3leon_jax.model.partitioning import UNPARTITIONED, Partitioning
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.runtime.files import Path, as_path
from cm3leon_jax.runtime.model_folder import flatten
from cm3leon_jax.runtime.tensor_stream import StoredTensor
from cm3leon_jax.vocabulary import Vocabulary


def write_orbax(folder: pathlib.Path, stored: dict[str, StoredTensor], *, dtype: str) -> None:
    """Writes `params/` into an existing folder: a nested dict of arrays, named as in `model/layers.py`.

    Of the parameters, one matrix of one layer at a time is in memory.
    """
    save_stream(folder / PARAMS_FOLDER, stored, DTYPES[dtype])


def open_orbax(directory: Path) -> Opened:
    """A decoder whose parameters stay in their files, to be read as float32: an export, perhaps trained further.

    Raises `UserError` where the folder is not what `write_orbax` and `cm3leon.json` made.
    """
    path = as_path(directory)
    config, vocabulary = read_description(path)
    with _refusal(path):
        found = open_stream(path / PARAMS_FOLDER)
        for name, leaf in flatten(abstract_params(config)).items():
            if name not in found or found[name].shape != leaf.shape:
                shape = list(found[name].shape) if name in found else "missing"
                raise ValueError(f"{name} is {shape}, and by the description {list(leaf.shape)}")
        if others := found.keys() - flatten(abstract_params(config)).keys():
            raise ValueError(f"{min(others)} is no parameter")
    return Opened(config, vocabulary, found)


def read_orbax(directory: Path, partitioning: Partitioning = UNPARTITIONED) -> tuple[DecoderConfig, Vocabulary, Params]:
    """-> (config, vocabulary, parameters on the devices of the mesh, in the type that they were saved in).

    Raises `UserError` where the folder is not what `write_orbax` and `cm3leon.json` made.
    """
    path = as_path(directory)
    config, vocabulary = read_description(path)
    shardings = jax.tree.map(lambda _: SingleDeviceSharding(jax.devices()[0]), abstract_params(config))
    if partitioning.mesh is not None:
        shardings = partitioning.tree(logical_axes(config))
    with ocp.StandardCheckpointer() as checkpointer, _refusal(path):
        saved = checkpointer.metadata(path.absolute() / PARAMS_FOLDER).item_metadata.tree
        target = jax.tree.map(
            lambda shape, kept, sharding: jax.ShapeDtypeStruct(shape.shape, kept.dtype, sharding=sharding),
            abstract_params(config),
            saved,
            shardings,
        )
        return config, vocabulary, checkpointer.restore(path.absolute() / PARAMS_FOLDER, target)


@contextlib.contextmanager
def _refusal(path: pathlib.Path) -> Iterator[None]:
    try:
        yield
    except (ValueError, FileNotFoundError, AttributeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{path / PARAMS_FOLDER} does not hold this decoder's parameters ({reason})") from None
