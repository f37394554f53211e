"""Parameters alone as an Orbax checkpoint: any JAX program restores it, onto any mesh."""

from __future__ import annotations

import pathlib

import jax
import ml_dtypes
import numpy as np
import orbax.checkpoint as ocp
from jax.sharding import SingleDeviceSharding

from cm3leon_jax.interop.folder import PARAMS_FOLDER, read_description
from cm3leon_jax.model.config import DecoderConfig
from cm3leon_jax.model.decoder import Params, abstract_params, logical_axes
from cm3leon_jax.model.partitioning import UNPARTITIONED, Partitioning
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.runtime.files import Path, as_path
from cm3leon_jax.runtime.model_folder import unflatten
from cm3leon_jax.runtime.tensor_stream import StoredTensor
from cm3leon_jax.vocabulary import Vocabulary


def write_orbax(folder: pathlib.Path, stored: dict[str, StoredTensor], *, dtype: str) -> None:
    """Writes `params/` into an existing folder: a nested dict of arrays, named as in `model/layers.py`.

    Orbax writes what is in memory: a float32 parameter is mapped there from its file, one of bfloat16 is made there.
    """
    params = {name: _array(tensor, dtype) for name, tensor in stored.items()}
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save((folder / PARAMS_FOLDER).absolute(), unflatten(params))


def _array(tensor: StoredTensor, dtype: str) -> np.ndarray:
    mapped = np.memmap(tensor.file, tensor.dtype, "r", tensor.offset, tensor.shape)
    return mapped.astype(ml_dtypes.bfloat16) if dtype == "bfloat16" else mapped


def read_orbax(directory: Path, partitioning: Partitioning = UNPARTITIONED) -> tuple[DecoderConfig, Vocabulary, Params]:
    """-> (config, vocabulary, parameters on the devices of the mesh, in the type that they were saved in).

    Raises `UserError` where the folder is not what `write_orbax` and `cm3leon.json` made.
    """
    path = as_path(directory)
    config, vocabulary = read_description(path)
    shardings = jax.tree.map(lambda _: SingleDeviceSharding(jax.devices()[0]), abstract_params(config))
    if partitioning.mesh is not None:
        shardings = partitioning.tree(logical_axes(config))
    with ocp.StandardCheckpointer() as checkpointer:
        try:
            saved = checkpointer.metadata(path.absolute() / PARAMS_FOLDER).item_metadata.tree
            target = jax.tree.map(
                lambda shape, kept, sharding: jax.ShapeDtypeStruct(shape.shape, kept.dtype, sharding=sharding),
                abstract_params(config),
                saved,
                shardings,
            )
            return config, vocabulary, checkpointer.restore(path.absolute() / PARAMS_FOLDER, target)
        except (ValueError, FileNotFoundError, AttributeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise UserError(f"{path / PARAMS_FOLDER} does not hold this decoder's parameters ({reason})") from None
