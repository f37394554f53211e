"""What folders of published CLIPs may hold, and what is wrong with them on one line."""

import json
import re
import shutil

import numpy as np
import pytest
import safetensors.numpy
from byte_pairs import SENTENCES, learn
from published_clip import (
    TINY,
    hugging_face_config,
    hugging_face_tensors,
    make_open_clip,
    open_clip_config,
    openai_tensors,
    random_params,
    write_folder,
)

from cm3leon_jax.cli import main
from cm3leon_jax.retrieval.clip.bpe import BytePairTokenizer
from cm3leon_jax.retrieval.clip.published.load import load_published, params_of
from cm3leon_jax.retrieval.clip.published.names import HUGGING_FACE, OPENAI
from cm3leon_jax.retrieval.clip.retriever import Retriever
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.runtime.model_folder import flatten


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A folder that can be imported; to be copied before it is changed."""
    folder = tmp_path_factory.mktemp("published")
    write_folder(folder)
    return folder


@pytest.fixture
def folder(published, tmp_path):
    return shutil.copytree(published, tmp_path / "copy")


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_types_and_shards(dtype, tmp_path):
    expected = write_folder(tmp_path, dtype=dtype)
    tensors = hugging_face_tensors(TINY, expected)
    tensors = {name: tensor.astype(dtype) for name, tensor in tensors.items()}
    tensors["text_model.embeddings.position_ids"] = np.arange(77)[None]  # which older files hold as well
    places = {name: f"model-0000{index % 2 + 1}-of-00002.safetensors" for index, name in enumerate(tensors)}
    (tmp_path / "model.safetensors").unlink()
    for file in set(places.values()):
        shard = {name: tensor for name, tensor in tensors.items() if places[name] == file}
        safetensors.numpy.save_file(shard, tmp_path / file)
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    for weights in (tmp_path, tmp_path / "model.safetensors.index.json"):
        found = flatten(load_published(weights)._params)
        assert found.keys() == expected.keys()
        for path, value in found.items():
            assert value.dtype == np.float32
            np.testing.assert_array_equal(value, expected[path])


def test_the_retriever_folder_stands_alone(folder, tmp_path):
    before = load_published(folder / "model.safetensors")
    before.save(tmp_path / "retriever")
    shutil.rmtree(folder)
    after = Retriever.load(tmp_path / "retriever")
    assert isinstance(after.tokenizer, BytePairTokenizer) and len(after.fingerprint) == 16
    np.testing.assert_array_equal(after.embed_texts(SENTENCES), before.embed_texts(SENTENCES))
    # Another tokenizer, another retriever.
    vocabulary, merges = learn()
    shutil.rmtree(tmp_path / "retriever/text_tokenizer")
    BytePairTokenizer(vocabulary, merges[:-1]).save(tmp_path / "retriever/text_tokenizer")
    assert Retriever.load(tmp_path / "retriever").fingerprint != after.fingerprint


def test_pixel_statistics_of_the_file_count(folder):
    (folder / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.5] * 3, "image_std": [0.25] * 3}))
    config = load_published(folder).config
    assert config.image_mean == (0.5, 0.5, 0.5) and config.image_std == (0.25, 0.25, 0.25)


def change_config(folder, change) -> None:
    config = json.loads((folder / "config.json").read_text())
    change(config)
    (folder / "config.json").write_text(json.dumps(config))


def change_tensors(folder, change) -> None:
    tensors = safetensors.numpy.load_file(folder / "model.safetensors")
    change(tensors)
    safetensors.numpy.save_file(tensors, folder / "model.safetensors")


def test_old_configs_say_settings_twice(folder):
    change_config(folder, lambda config: config.update(text_config_dict=config.pop("text_config")))
    assert load_published(folder).config == TINY


PROJECTION, EMBEDDING = "visual_projection.weight", "vision_model.embeddings.class_embedding"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda folder: shutil.rmtree(folder), ["no weights at", "name a .safetensors file"]),
        (lambda folder: (folder / "model.safetensors").unlink(), ["no weights in", "must hold model.safetensors"]),
        (
            lambda folder: (folder / "model.safetensors").rename(folder / "pytorch_model.bin"),
            ["pytorch_model.bin is a pickle", "save_pretrained"],
        ),
        (
            lambda folder: (folder / "model.safetensors").write_bytes(
                (folder / "model.safetensors").read_bytes()[:-1000]
            ),
            ["model.safetensors cannot be read", "again"],
        ),
        (lambda folder: (folder / "model.safetensors").write_bytes(b""), ["model.safetensors cannot be read"]),
        (lambda folder: (folder / "config.json").unlink(), ["lacks config.json"]),
        (lambda folder: (folder / "config.json").write_text("[]"), ["is not the config of a CLIP"]),
        (lambda folder: (folder / "config.json").write_text("{"), ["config.json cannot be read"]),
        (lambda folder: (folder / "vocab.json").unlink(), ["lacks CLIP's tokenizer", "tokenizer.json"]),
        (
            lambda folder: (
                BytePairTokenizer(*learn(800)).save(folder / "other")
                or shutil.copy(folder / "other/vocab.json", folder)
            ),
            ["has 800 tokens", f"knows {TINY.vocab_size}"],
        ),
        (lambda folder: change_config(folder, lambda c: c.update(model_type="siglip")), ["type 'siglip'", "'clip'"]),
        (lambda folder: change_config(folder, lambda c: c["text_config"].update(hidden_act="relu")), ["hidden_act"]),
        (
            lambda folder: change_config(folder, lambda c: c["vision_config"].update(layer_norm_eps=1e-6)),
            ["layer_norm_eps = 1e-06"],
        ),
        (
            lambda folder: change_config(folder, lambda c: c["vision_config"].update(intermediate_size=100)),
            ["MLPs of 4.0 and 2.5 times"],
        ),
        (
            lambda folder: change_config(folder, lambda c: c["text_config"].update(hidden_size="32")),
            ["hidden_size = '32'", "whole number"],
        ),
        (
            lambda folder: change_config(folder, lambda c: c["vision_config"].update(num_hidden_layers=4)),
            ["lack vision_model.encoder.layers.3", "16 such"],
        ),
        (
            lambda folder: change_config(folder, lambda c: c["vision_config"].update(num_hidden_layers=2)),
            ["beyond what its config says", "vision_model.encoder.layers.2"],
        ),
        (
            lambda folder: change_config(folder, lambda c: c.update(projection_dim=20)),
            ["projection", "shape", "does not fit the config"],
        ),
        (lambda folder: change_tensors(folder, lambda t: t.pop(PROJECTION)), [f"lack {PROJECTION}"]),
        (lambda folder: change_tensors(folder, lambda t: t.pop(EMBEDDING)), ["not those of a CLIP"]),
        (
            lambda folder: change_tensors(folder, lambda t: t.update({PROJECTION: t[PROJECTION][None]})),
            [PROJECTION, "[1, 24, 40] does not fit"],
        ),
        (
            lambda folder: change_tensors(folder, lambda t: t.update({PROJECTION: t[PROJECTION].astype(np.int8)})),
            [PROJECTION, "int8", "float16"],
        ),
    ],
)
def test_what_is_wrong_is_one_line(change, words, folder):
    change(folder)
    with pytest.raises(UserError) as error:
        load_published(folder)
    assert "\n" not in str(error.value)
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize("naming", [HUGGING_FACE, OPENAI], ids=["hugging_face", "openai"])
def test_any_tensor_of_a_wrong_shape_is_named(naming):
    tensors = hugging_face_tensors(TINY, random_params(TINY))
    tensors = tensors if naming is HUGGING_FACE else openai_tensors(tensors)
    for name in tensors:
        for shape in ((), (2,), (3,), (3, 3), (2, 2, 2, 2)):
            if name == "logit_scale" and not shape:
                continue
            with pytest.raises(UserError, match=re.escape(f"{name} of shape {list(shape)} does not fit")):
                params_of(tensors | {name: np.zeros(shape, np.float32)}, naming, TINY)


@pytest.mark.parametrize(
    ("index", "words"),
    [
        ({}, "no weight_map"),
        ({"weight_map": {"logit_scale": "../model.safetensors"}}, "outside its folder"),
        ({"weight_map": {"logit_scale": "absent.safetensors"}}, "absent.safetensors; copy"),
        ({"weight_map": {"absent": "part.safetensors"}}, "lacks the tensor absent"),
    ],
)
def test_broken_shards(index, words, folder):
    (folder / "model.safetensors").rename(folder / "part.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match=words):
        load_published(folder)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda config: config.update(vision_cfg={"timm_model_name": "vit"}), "timm_model_name = 'vit'"),
        (lambda config: config.update(custom_text=True), "custom_text"),
        (lambda config: config["vision_cfg"].update(layers=[3, 4, 6, 3]), "layers"),
        (lambda config: config["vision_cfg"].update(mlp_ratio=4.9231), "4.9231"),
        (lambda config: config.pop("embed_dim"), "embed_dim = None"),
    ],
)
def test_open_clips_that_are_built_otherwise(change, words, folder):
    make_open_clip(folder)
    config = open_clip_config(TINY)
    change(config["model_cfg"])
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=words):
        load_published(folder)


def test_open_clip_needs_its_config(folder):
    make_open_clip(folder)
    (folder / "open_clip_config.json").unlink()
    with pytest.raises(UserError, match=r"lacks open_clip_config\.json"):
        load_published(folder)
    # Hugging Face's says the same, where a folder has both.
    (folder / "config.json").write_text(json.dumps(hugging_face_config(TINY)))
    assert load_published(folder).config == TINY


def test_named_pickles_are_refused(folder, tmp_path):
    for name in ("model.pt", "pytorch_model.bin", "model.ckpt", "model.pth"):
        with pytest.raises(UserError, match="pickle"):
            load_published(folder / name)
    assert main(["import", "--weights", f"{folder}/m.pt", "--directory", f"{tmp_path}/made"]) == 2
    assert not (tmp_path / "made").exists()
