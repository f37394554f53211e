"""A decoder as Hugging Face's OPT and back: equal logits, equal continuations, equal bytes."""

import dataclasses
import json
import os
import shutil

import jax
import ml_dtypes
import numpy as np
import PIL.Image
import pytest
import safetensors.numpy
from documented import documented, run
from tiny_decoder import CONFIG, IMAGES, VOCABULARY, export, import_, random_params

from cm3leon_jax.model.decoder import hidden_states, logits
from cm3leon_jax.model.folder import load_decoder, save_decoder
from cm3leon_jax.sampling import prompts
from cm3leon_jax.sampling.generate import generate
from cm3leon_jax.sampling.pipeline import Generator
from cm3leon_jax.sampling.rules import SamplingConfig
from cm3leon_jax.tokenizers.image.tokenizer import untrained
from cm3leon_jax.tokenizers.text import TextTokenizerConfig, train_text_tokenizer
from cm3leon_jax.vocabulary import Vocabulary


@pytest.fixture(scope="module")
def params():
    return random_params(CONFIG)


@pytest.fixture
def model(tmp_path, params):
    save_decoder(tmp_path / "model", CONFIG, VOCABULARY, params)
    return tmp_path / "model"


def opt_of(folder):
    torch = pytest.importorskip("torch", reason="needs PyTorch, as a reference")
    transformers = pytest.importorskip("transformers", reason="needs transformers, as a reference")
    found, info = transformers.OPTForCausalLM.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
    assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    return found.eval(), torch


@pytest.mark.parametrize("activation", ["gelu", "relu"])
def test_from_pretrained_gives_our_logits_and_our_greedy_continuation(tmp_path, params, activation, capsys):
    config = dataclasses.replace(CONFIG, activation=activation)
    save_decoder(tmp_path / "model", config, VOCABULARY, params)
    assert export(tmp_path / "model", tmp_path / "opt") == 0
    assert (
        "layers/attention/query   [3, 32, 32] -> model.decoder.layers.0…2.self_attn.q_proj" in capsys.readouterr().out
    )
    opt, torch = opt_of(tmp_path / "opt")

    tokens = np.random.default_rng(1).integers(0, VOCABULARY.size, (2, 20))
    forward = jax.jit(lambda ids: logits(params, hidden_states(params, ids, config=config)))
    with torch.no_grad():
        theirs = opt(torch.from_numpy(tokens)).logits.numpy()
    np.testing.assert_allclose(forward(tokens), theirs, atol=1e-4)

    ids = np.zeros((2, 32), np.int32)
    ids[:, :20] = tokens
    for step in range(20, 32):
        ids[:, step] = np.argmax(np.asarray(forward(ids))[:, step - 1], axis=-1)
    opt.generation_config.eos_token_id = None  # random weights draw it at any time
    drawn = opt.generate(torch.from_numpy(tokens), max_new_tokens=12, do_sample=False)
    np.testing.assert_array_equal(drawn.numpy(), ids)


def test_there_and_back_gives_the_same_bytes(tmp_path, model):
    assert export(model, tmp_path / "opt") == 0 and import_(tmp_path / "opt", tmp_path / "back") == 0
    for file in ("config.json", "weights.safetensors"):
        assert (tmp_path / "back/model" / file).read_bytes() == (model / file).read_bytes()
    assert export(tmp_path / "back/model", tmp_path / "again") == 0
    for file in (tmp_path / "opt").iterdir():
        assert (tmp_path / "again" / file.name).read_bytes() == file.read_bytes()


def test_the_documented_script_draws_with_transformers_alone(tmp_path, model, params):
    pytest.importorskip("transformers", reason="needs transformers, as a reference")
    untrained(IMAGES).save(tmp_path / "images")
    assert export(model, tmp_path / "opt", f"--image_tokenizer={tmp_path}/images") == 0
    script = documented("torch.multinomial", tmp_path / "opt")
    drawn = "torch.multinomial(guided.softmax(-1), 1)"
    assert script.count(drawn) == 1  # the most probable code in its place
    found = run(script.replace(drawn, "guided.argmax()") + "\nprint(json.dumps(codes))", tmp_path)
    asked = prompts.text_to_image(np.array([5, 6, 7]), [], image_tokens=16, vocabulary=VOCABULARY)
    sampling = SamplingConfig(rule="guided", guidance_scale=3.0, top_p=1e-6)
    assert found == generate(params, CONFIG, VOCABULARY, [asked], sampling)[0].image.tolist()


def test_the_documented_script_describes_a_picture_with_transformers_alone(tmp_path):
    pytest.importorskip("transformers", reason="needs transformers, as a reference")
    captions = [f"{size} {colour} dot" for size in ("small", "big") for colour in ("red", "blue")] * 30
    settings = TextTokenizerConfig(size=40, model_type="bpe", byte_fallback=False)
    texts = train_text_tokenizer(captions, settings, tmp_path / "texts")
    vocabulary = Vocabulary(text_size=texts.size, image_size=IMAGES.num_codes, num_sentinels=8, multiple_of=16)
    config = dataclasses.replace(CONFIG, vocab_size=vocabulary.size, max_length=128)
    weights = random_params(config)
    save_decoder(tmp_path / "model", config, vocabulary, weights)
    images = untrained(IMAGES)
    images.save(tmp_path / "images")
    picture = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    PIL.Image.fromarray(picture).save(tmp_path / "picture.png")
    tokenizers = (f"--text_tokenizer={tmp_path}/texts", f"--image_tokenizer={tmp_path}/images")
    assert export(tmp_path / "model", tmp_path / "opt", *tokenizers) == 0
    found = run(documented("picture.png", tmp_path / "opt") + "\nprint(json.dumps(caption))", tmp_path)
    generator = Generator(config, vocabulary, weights, texts, images)
    assert found == generator.image_to_text(picture[None], sampling=SamplingConfig(rule="greedy"), max_text=64)[0]


def test_image_tokenizers_are_imported_by_the_same_command(tmp_path, model, capsys):
    untrained(IMAGES).save(tmp_path / "images")
    assert export(model, tmp_path / "opt", f"--image_tokenizer={tmp_path}/images") == 0
    assert import_(tmp_path / "opt/image_tokenizer", tmp_path / "back") == 0
    assert "image tokenizer in" in capsys.readouterr().out
    for file in ("config.json", "weights.safetensors"):
        assert (tmp_path / "back/model" / file).read_bytes() == (tmp_path / "images" / file).read_bytes()
    folded = dataclasses.replace(IMAGES, patch_size=2, channel_multipliers=(1,))
    untrained(folded).save(tmp_path / "folded")
    assert export(model, tmp_path / "none", f"--image_tokenizer={tmp_path}/folded") == 2
    assert "patch_size is 2" in capsys.readouterr().err and not (tmp_path / "none").exists()
    (tmp_path / "broken.pt").write_bytes(b"PK")
    for weights, message in (
        (tmp_path / "broken.pt", "broken.pt"),
        (tmp_path / "opt/typo", "there is nothing at"),
        ("gs://bucket/opt", "must be a local folder"),
    ):
        assert import_(weights, tmp_path / "more") == 2
        assert message in capsys.readouterr().err and not (tmp_path / "more").exists()


def test_shards_and_bfloat16(tmp_path, model, params):
    assert export(model, tmp_path / "opt", "--dtype=bfloat16", "--shard_gb=0.00001") == 0
    files = sorted(path.name for path in (tmp_path / "opt").glob("*.safetensors"))
    assert len(files) > 3 and files[0] == f"model-00001-of-{len(files):05d}.safetensors"
    opt_of(tmp_path / "opt")
    assert import_(tmp_path / "opt", tmp_path / "back") == 0
    _, _, back = load_decoder(tmp_path / "back/model")
    rounded = jax.tree.map(lambda x: x.astype(ml_dtypes.bfloat16).astype(np.float32), params)
    jax.tree.map(np.testing.assert_array_equal, back, rounded)


def test_what_transformers_saved_can_be_imported(tmp_path, model, params):
    assert export(model, tmp_path / "opt") == 0
    opt, torch = opt_of(tmp_path / "opt")
    with torch.no_grad():
        opt.model.decoder.layers[1].fc1.weight += 1
    opt.save_pretrained(tmp_path / "trained")
    shutil.copy(tmp_path / "opt/cm3leon.json", tmp_path / "trained")
    assert import_(tmp_path / "trained", tmp_path / "back") == 0
    _, _, back = load_decoder(tmp_path / "back/model")
    expected = params["layers"]["feed_forward"]["up"] + np.array([0, 1, 0], np.float32)[:, None, None]
    np.testing.assert_array_equal(back["layers"]["feed_forward"]["up"], expected)
    np.testing.assert_array_equal(back["embedding"]["positions"], params["embedding"]["positions"])


def test_what_cannot_be_exported_says_so_and_touches_nothing(tmp_path, params, capsys):
    normed = dataclasses.replace(CONFIG, qk_norm=True)
    save_decoder(tmp_path / "normed", normed, VOCABULARY, params)
    assert export(tmp_path / "normed", tmp_path / "opt") == 2 and not (tmp_path / "opt").exists()
    assert "qk_norm" in capsys.readouterr().err
    save_decoder(tmp_path / "model", CONFIG, VOCABULARY, params)
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine").write_text("x")
    for directory, options, message in (
        ("full", [], "holds something already"),
        ("opt", ["--dtype=int8"], "float32 or bfloat16, not as 'int8'"),
        ("opt", ["--format=gguf"], "unknown --format 'gguf'; choose one of huggingface"),
        ("opt", ["--shard_gb=0"], "must be above 0"),
    ):
        assert export(tmp_path / "model", tmp_path / directory, *options) == 2
        assert message in capsys.readouterr().err
    assert (tmp_path / "full/mine").read_text() == "x" and not (tmp_path / "opt").exists()


def _edit(file, **values):
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def _change_weights(folder, change):
    tensors = safetensors.numpy.load_file(folder / "model.safetensors")
    change(tensors)
    safetensors.numpy.save_file(tensors, folder / "model.safetensors")


FC1 = "model.decoder.layers.2.fc1.weight"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: _edit(f / "config.json", enable_bias=True), "enable_bias = True where False is due"),
        (lambda f: _edit(f / "config.json", ffn_dim=65), "ffn_dim = 65 where 128 is due"),
        (lambda f: _edit(f / "config.json", num_attention_heads=0), "a whole number of 1 or more is due"),
        (lambda f: _edit(f / "config.json", hidden_size=64, word_embed_proj_dim=64, ffn_dim=256), "is [50, 32] and by"),
        (lambda f: _edit(f / "config.json", vocab_size=96), "has 96 ids"),
        (lambda f: _edit(f / "config.json", num_hidden_layers=10**9), "too few for 1000000000 layers"),
        (lambda f: (f / "config.json").write_text("[" * 100_000), "not those of a CLIP"),
        (lambda f: (f / "cm3leon.json").unlink(), "has no cm3leon.json"),
        (lambda f: (f / "cm3leon.json").write_text("[]"), "is not what `cm3leon export` wrote"),
        (lambda f: _change_weights(f, lambda t: t.pop(FC1)), f"lacks the tensor {FC1}"),
        (lambda f: _change_weights(f, lambda t: t.update(more=t[FC1])), "has the tensor more"),
        (lambda f: _change_weights(f, lambda t: t.update({FC1: t[FC1].T.copy()})), f"{FC1} is [32, 128] and by"),
        (lambda f: _change_weights(f, lambda t: t.update({FC1: t[FC1].astype(np.int8)})), "as int8"),
        (lambda f: os.truncate(f / "model.safetensors", 10_000), "cannot be read"),
        (lambda f: (f / "model.safetensors").unlink(), "no weights in"),
    ],
)  # fmt: skip
def test_what_cannot_be_imported_says_so_and_touches_nothing(tmp_path, model, capsys, damage, message):
    assert export(model, tmp_path / "opt") == 0
    damage(tmp_path / "opt")
    assert import_(tmp_path / "opt", tmp_path / "back") == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and not (tmp_path / "back").exists()


def test_a_model_of_this_package_is_not_imported(tmp_path, model, capsys):
    assert import_(model, tmp_path / "back") == 2
    assert "is a decoder of this package already" in capsys.readouterr().err and not (tmp_path / "back").exists()


def test_imported_again_there_is_nothing_to_do_until_the_file_changes(tmp_path, model, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert export(model, "opt") == 0
    for _ in range(2):  # the result lies beside the file
        assert import_("opt/model.safetensors", "opt/back") == 0
    assert "nothing to do" in capsys.readouterr().out
    os.utime("opt/model.safetensors", (1, 1))
    assert import_("opt/model.safetensors", "opt/back") == 2
    assert "made with other settings (files" in capsys.readouterr().err


def test_a_missing_shard_is_named(tmp_path, model, capsys):
    assert export(model, tmp_path / "opt", "--shard_gb=0.00001") == 0
    next(iter(sorted((tmp_path / "opt").glob("*.safetensors")))).unlink()
    assert import_(tmp_path / "opt", tmp_path / "back") == 2
    assert "model-00001-of" in capsys.readouterr().err
