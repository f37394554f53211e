import dataclasses
import subprocess
import sys

import jax
import numpy as np
import pytest

from cm3leon_jax.model.decoder import logical_axes
from cm3leon_jax.model.folder import load_decoder, open_decoder, open_initial_params, placed_params, save_decoder
from cm3leon_jax.model.partitioning import MeshConfig, Partitioning, make_mesh
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.vocabulary import Vocabulary

VOCABULARY = Vocabulary(text_size=20, image_size=16, num_sentinels=4, multiple_of=64)


def test_a_saved_decoder_comes_back_whole(tmp_path, config, params):
    save_decoder(tmp_path / "model", config, VOCABULARY, params)
    loaded_config, vocabulary, loaded = load_decoder(tmp_path / "model")
    assert (loaded_config, vocabulary) == (config, VOCABULARY)
    jax.tree.map(np.testing.assert_array_equal, loaded, params)


def test_weights_of_another_config_are_refused(tmp_path, scanned, params):
    save_decoder(tmp_path / "model", scanned.__class__(**{**vars(scanned), "num_layers": 2}), VOCABULARY, params)
    with pytest.raises(UserError, match="do not fit its config: layers/attention/key is"):
        load_decoder(tmp_path / "model")
    with pytest.raises(UserError, match="no decoder config"):
        load_decoder(tmp_path / "nothing")


def test_training_starts_from_a_decoder_of_its_own_size_alone(tmp_path, config, params):
    save_decoder(tmp_path / "model", config, VOCABULARY, params)
    tensors = open_initial_params(tmp_path / "model", config, VOCABULARY)
    partitioning = Partitioning(make_mesh(MeshConfig(data=1, fsdp=2)))
    placed = placed_params(tensors, partitioning.tree(logical_axes(config)))
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(placed), params)
    with pytest.raises(UserError, match="num_heads"):
        open_initial_params(tmp_path / "model", dataclasses.replace(config, num_heads=2 * config.num_heads), VOCABULARY)
    with pytest.raises(UserError, match="another vocabulary"):
        open_initial_params(tmp_path / "model", config, dataclasses.replace(VOCABULARY, num_others=1))


def test_the_model_and_the_training_step_need_no_tensorflow():
    program = (
        "import sys, cm3leon_jax.model.folder, cm3leon_jax.model.cache, cm3leon_jax.training.step, "
        "cm3leon_jax.training.evaluate; assert 'tensorflow' not in sys.modules and 'seqio' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize("store", ["bucket", "bucket_by_tensorflow"])
def test_parameters_come_from_an_object_store_part_by_part(request, store, config, params):
    request.getfixturevalue(store)
    save_decoder("gs://bucket/model", config, VOCABULARY, params)
    _, _, tensors = open_decoder("gs://bucket/model")
    partitioning = Partitioning(make_mesh(MeshConfig(data=1, fsdp=2)))
    placed = placed_params(tensors, partitioning.tree(logical_axes(config)))
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(placed), params)
