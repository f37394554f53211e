"""What files of published VQGANs may hold, and what is wrong with them on one line."""

import dataclasses
import json
import re
import shutil

import numpy as np
import pytest
import safetensors.numpy
import yaml
from published_vqgan import (
    SMALL,
    hugging_face_config,
    random_params,
    taming_config,
    taming_tensors,
    write_checkpoint,
    write_hugging_face,
    write_taming,
)

from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.runtime.model_folder import flatten
from cm3leon_jax.tokenizers.image.autoencoder import init_params
from cm3leon_jax.tokenizers.image.config import ImageTokenizerConfig
from cm3leon_jax.tokenizers.image.published.architecture import infer_config
from cm3leon_jax.tokenizers.image.published.export import export_hugging_face
from cm3leon_jax.tokenizers.image.published.load import load_published, params_of
from cm3leon_jax.tokenizers.image.published.names import recognises
from cm3leon_jax.tokenizers.image.tokenizer import ImageTokenizer


@pytest.fixture(scope="module")
def params():
    return random_params(SMALL)


@pytest.fixture
def taming(params, tmp_path):
    """A file of safetensors with its YAML file beside it."""
    return write_taming(tmp_path, params)


@pytest.fixture
def hugging_face(params, tmp_path):
    write_hugging_face(tmp_path, params)
    return tmp_path


def check_params(tokenizer: ImageTokenizer, expected: dict) -> None:
    found, expected = flatten(tokenizer.params), flatten(expected)
    assert found.keys() == expected.keys()
    for path, value in found.items():
        assert value.dtype == np.float32
        np.testing.assert_array_equal(value, expected[path])


@pytest.mark.parametrize("form", ["taming", "hugging_face", "model.vqmodel.", "checkpoint"])
def test_forms(form, params, tmp_path):
    weights = tmp_path
    if form == "taming":
        weights = write_taming(tmp_path, params)
    elif form == "checkpoint":
        write_checkpoint(tmp_path / "vqgan.ckpt", taming_tensors(params))
        (tmp_path / "vqgan.yaml").write_text(yaml.safe_dump(taming_config(SMALL)))
    else:
        write_hugging_face(tmp_path, params, prefix=form if form.endswith(".") else "")
    tokenizer = load_published(weights)
    assert tokenizer.config == SMALL
    check_params(tokenizer, params)
    # Attention belongs to levels, whatever their widths at another resolution.
    larger = load_published(weights, resolution=64).config
    assert larger == dataclasses.replace(SMALL, resolution=64, attention_resolutions=(32, 16))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_types(dtype, params, taming):
    tensors = {name: tensor.astype(dtype) for name, tensor in taming_tensors(params).items()}
    safetensors.numpy.save_file(tensors, taming)
    embedding = load_published(taming).codebook
    np.testing.assert_array_equal(embedding, params["quantize"]["embedding"].astype(dtype).astype(np.float32))


def test_exported_folders_come_back(params, tmp_path):
    config = dataclasses.replace(SMALL, attention_resolutions=(16, 8, 7))  # of which the last is no level's
    export_hugging_face(ImageTokenizer(config, params), tmp_path / "first")
    tokenizer = load_published(tmp_path / "first")
    assert tokenizer.config == SMALL
    check_params(tokenizer, params)
    export_hugging_face(tokenizer, tmp_path / "second")
    files = sorted(file.name for file in (tmp_path / "first").iterdir())
    assert files == ["config.json", "model.safetensors", "preprocessor_config.json"]
    for file in files:
        assert (tmp_path / "first" / file).read_bytes() == (tmp_path / "second" / file).read_bytes()
    # The model folder of this project gives the same again.
    tokenizer.save(tmp_path / "ours")
    check_params(ImageTokenizer.load(tmp_path / "ours"), params)


@pytest.mark.parametrize(
    ("setting", "value"), [("patch_size", 2), ("norm_groups", 16), ("norm_groups", 0), ("compute_dtype", "bfloat16")]
)
def test_what_hugging_face_cannot_express_is_named(setting, value, tmp_path):
    config = dataclasses.replace(SMALL, num_codes=4, **{setting: value})
    with pytest.raises(UserError, match=f"^{setting} is {value!r}") as error:
        export_hugging_face(ImageTokenizer(config, init_params(config, 0)), tmp_path / "made")
    assert "\n" not in str(error.value) and not (tmp_path / "made").exists()


def test_names_are_recognised(params):
    names = list(taming_tensors(params))
    assert recognises(names) and recognises(f"first_stage_model.{name}" for name in names)
    assert not recognises([]) and not recognises(["encoder.conv_in.weight", "vision.quantize.embedding.weight"])


def test_resolution_must_be_known(taming):
    (taming.parent / "vqgan.yaml").rename(taming.parent / "model.yaml")
    assert load_published(taming).config == SMALL
    shutil.copy(taming.parent / "model.yaml", taming.parent / "other.yaml")  # now neither is the weights' own
    with pytest.raises(UserError, match="says the VQGAN's resolution"):
        load_published(taming)
    assert load_published(taming, resolution=32).config == SMALL
    for resolution, words in ((30, "not a multiple of 4"), (0, "resolution of 0"), (-32, "resolution of -32")):
        with pytest.raises(UserError, match=words):
            load_published(taming, resolution=resolution)


def check_one_line(weights, words: list[str]) -> None:
    with pytest.raises(UserError) as error:
        load_published(weights)
    assert "\n" not in str(error.value)
    for word in words:
        assert word in str(error.value)


NORM, EMBEDDING = "decoder.up.1.block.0.norm1.weight", "quantize.embedding.weight"
INPUT, LEVEL = "encoder.conv_in.weight", "encoder.down.1.block.0.conv1.weight"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.pop(NORM), [f"lack {NORM} (1 such"]),
        (lambda t: t.pop("quant_conv.bias"), ["lack quant_conv.bias"]),
        (lambda t: t.pop("encoder.conv_out.weight"), ["lack encoder.conv_out.weight"]),
        (lambda t: t.pop("encoder.down.0.block.0.conv1.weight"), ["lack encoder.down.0.block.0.conv1.weight"]),
        (lambda t: t.pop(EMBEDDING), ["not those of a VQGAN", "decoder.conv_in.bias"]),
        (lambda t: t.update({"quantize.used": t[NORM]}), ["beyond", "quantize.used"]),
        (
            lambda t: t.update({"encoder.down.0.attn.0.q.weight": t[NORM]}),
            ["at [16, 8] where", "at [32, 16, 8]"],
        ),
        (
            lambda t: t.update({"encoder.down.0.block.1.conv1.weight": t[LEVEL]}),
            ["lack encoder.down.1.block.1.conv1.weight"],
        ),
        (lambda t: t.update({"a\nb": t[NORM]}), ["'a\\nb'"]),
        (lambda t: t.update({NORM: t[NORM][:5]}), [NORM, "[5] where [96] is due"]),
        (lambda t: t.update({INPUT: t[INPUT][:, :2]}), ["images of 2 channels"]),
        (lambda t: t.update({INPUT: t[INPUT][0]}), [INPUT, "[3, 3, 3] where 4 axes"]),
        (lambda t: t.update({INPUT: t[INPUT][:0]}), [INPUT, "[0, 3, 3, 3]"]),
        (lambda t: t.update({LEVEL: t[LEVEL][:40]}), ["32, 40, 96 channels", "multiples of 32"]),
        (lambda t: t.update({EMBEDDING: t[EMBEDDING].astype(np.int8)}), [EMBEDDING, "int8"]),
        (lambda t: t.update({f"other.{name}": t[name] for name in (INPUT, EMBEDDING)}), ["2 VQGANs ('', 'other.', …)"]),
    ],
)
def test_tensors_that_do_not_fit(change, words, taming):
    tensors = safetensors.numpy.load_file(taming)
    change(tensors)
    safetensors.numpy.save_file(tensors, taming)
    check_one_line(taming, words)


def test_what_only_training_needs_is_passed_over(params, taming):
    tensors = taming_tensors(params)
    others = ("loss.discriminator.main.0.weight", "model_ema.decay", "quantize.embedding.cluster_size")
    safetensors.numpy.save_file(tensors | {name: np.ones(3, np.int64) for name in others}, taming)
    check_params(load_published(taming), params)


def test_any_tensor_of_a_wrong_shape_is_named(params):
    tensors = taming_tensors(params)
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    for name in tensors:
        for shape in ((), (2, 2, 2, 2)):
            with pytest.raises(UserError, match=re.escape(f"{name} is of shape {list(shape)} where ")):
                params_of(tensors | {name: np.zeros(shape, np.float32)}, SMALL)
            try:
                config = infer_config(shapes | {name: shape}, 32)
            except UserError as error:
                assert "\n" not in str(error)
            else:
                assert isinstance(config, ImageTokenizerConfig)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"model_type": "janus"}, ["type 'janus'", "'chameleon_vqgan'"]),
        ({"base_channels": 64}, ["base_channels = 64 where the weights have 32"]),
        ({"channel_multiplier": [1, 2]}, ["channel_multiplier = [1, 2]", "(1, 2, 3)"]),
        ({"num_res_blocks": 2}, ["num_res_blocks = 2"]),
        ({"latent_channels": None}, ["latent_channels = None"]),
        ({"embed_dim": "12"}, ["embed_dim = '12'"]),
        ({"num_embeddings": 8192}, ["num_embeddings = 8192", "50"]),
        ({"attn_resolutions": [8]}, ["attention at [8]", "at [16, 8]"]),
        ({"attn_resolutions": 8}, ["does not describe a VQGAN"]),
        ({"attn_type": None}, ["attn_type = None", "'vanilla'"]),
        ({"double_latent": True}, ["double_latent = True"]),
        ({"in_channels": 4}, ["in_channels = 4"]),
        ({"resolution": "512"}, ["resolution = '512'"]),
        ({"resolution": 0}, ["resolution = 0"]),
        ({"resolution": True}, ["resolution = True"]),
    ],
)
def test_configs_of_other_weights(settings, words, hugging_face):
    (hugging_face / "config.json").write_text(json.dumps(hugging_face_config(SMALL) | settings))
    check_one_line(hugging_face, words)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("model: {params: {ddconfig: {ch: 32}}}", ["resolution = None"]),
        ("model: {params: {ddconfig: {ch: 64, resolution: 32}}}", ["ch = 64 where the weights have 32"]),
        ("model: {params: {ddconfig: [1]}}", ["vqgan.yaml cannot be read", "ddconfig"]),
        ("model: {params: {}}", ["'ddconfig'"]),
        ("model: 3", ["cannot be read"]),
        ("", ["cannot be read"]),
        ("a: &a [1]\nb: *a", ["has aliases"]),
        ("[" * 60_000, ["sections in sections"]),
        ("a: [\n\n", ["cannot be read"]),
        ("!!python/object/apply:os.getcwd []", ["cannot be read"]),
        ("x" * (1 << 21), ["more than 65536 bytes"]),
        ("\udcff", ["cannot be read"]),
    ],
)
def test_yaml_files(text, words, taming):
    (taming.parent / "vqgan.yaml").write_bytes(text.encode(errors="surrogateescape"))
    check_one_line(taming, words)


def test_latent_diffusion_around_a_vqgan(params, tmp_path):
    tensors = {f"first_stage_model.{name}": tensor for name, tensor in taming_tensors(params).items()}
    safetensors.numpy.save_file(
        tensors | {"model.diffusion.weight": np.ones(2, np.float32)}, tmp_path / "x.safetensors"
    )
    config = {"model": {"params": {"first_stage_config": taming_config(SMALL)["model"]}}}
    (tmp_path / "x.yaml").write_text(yaml.safe_dump(config))
    tokenizer = load_published(tmp_path)
    assert tokenizer.config == SMALL
    check_params(tokenizer, params)


def test_files_that_are_not_there(taming, hugging_face, tmp_path):
    check_one_line(tmp_path / "absent", ["no weights at"])
    check_one_line(tmp_path / "absent.ckpt", ["no weights at"])
    check_one_line("gs://bucket/vqgan", ["must be a local folder"])
    folder = tmp_path / "folder"
    folder.mkdir()
    check_one_line(folder, ["no weights in", "vqgan.ckpt"])
    (folder / "a.ckpt").write_bytes(b"")
    check_one_line(folder, ["a.ckpt is not a file that torch.save"])
    (folder / "b.pt").write_bytes(b"")
    check_one_line(folder, ["holds a.ckpt, b.pt and more"])
    (hugging_face / "config.json").write_text("{")
    taming.unlink()
    (tmp_path / "vqgan.yaml").unlink()
    check_one_line(hugging_face, ["config.json cannot be read"])
    (hugging_face / "model.safetensors").write_bytes(b"12")
    check_one_line(hugging_face, ["model.safetensors cannot be read"])
