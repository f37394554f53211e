"""The sampler as StableHLO: without this package it draws what `generate` draws; also for platforms not at hand."""

import json
import os
import subprocess
import sys

import jax
import numpy as np
import pytest
from test_opt import CONFIG, VOCABULARY, random_params

from cm3leon_jax.cli import main
from cm3leon_jax.model.folder import save_decoder
from cm3leon_jax.sampling import prompts
from cm3leon_jax.sampling.generate import generate
from cm3leon_jax.sampling.rules import SamplingConfig
from cm3leon_jax.tokenizers.image.config import ImageTokenizerConfig
from cm3leon_jax.tokenizers.image.tokenizer import untrained

IMAGES = ImageTokenizerConfig(
    resolution=16, patch_size=4, channels=4, channel_multipliers=(1,), num_res_blocks=1, attention_resolutions=(),
    norm_groups=2, latent_channels=4, code_dim=4, num_codes=VOCABULARY.image_size,
)  # fmt: skip
SAMPLING = SamplingConfig(rule="cdk", seed=3)

# What a user writes, in a process that cannot import this package.
USE = """
import json, sys
import jax, numpy as np
from safetensors.numpy import load_file

sys.modules["cm3leon_jax"] = None
folder, texts = sys.argv[1], json.loads(sys.argv[2])
about, inputs = (json.load(open(f"{folder}/{name}.json")) for name in ("cm3leon", "sampler"))
ids, (_, shapes, settings) = about["ids"], inputs["arguments"]
batch = {name: np.zeros(shape, dtype) for name, (dtype, shape) in shapes.items()}
batch["positions"][:] = np.arange(batch["positions"].shape[-1])
for row, (text, number) in enumerate(texts):
    with_text = [ids["eos"], *text, ids["break"]]
    without = [ids["eos"], ids["first_sentinel"], ids["break"]]
    for stream, prompt in enumerate((with_text, without)):
        batch["tokens"][row, stream, : len(prompt)] = prompt
        batch["lengths"][row, stream] = batch["next"][row, stream] = len(prompt)
    batch["seeds"][row, 0] = number
batch["seed"][...] = 3
program = jax.export.deserialize(bytearray(open(f"{folder}/sampler.stablehlo", "rb").read()))
codes, scores = jax.jit(program.call)(load_file(f"{folder}/weights.safetensors"), batch, settings)
print(json.dumps(np.asarray(codes).tolist()))
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    save_decoder(folder / "decoder", CONFIG, VOCABULARY, random_params(CONFIG))
    untrained(IMAGES).save(folder / "image_tokenizer")
    return folder


def export(models, directory, *options):
    names = (f"--decoder={models}/decoder", f"--image_tokenizer={models}/image_tokenizer", "--format=stablehlo")
    return main(["export", *names, f"--directory={directory}", "--batch=2", "--prompt_tokens=12", *options])


def test_without_this_package_it_draws_what_generate_draws(tmp_path, models):
    assert export(models, tmp_path / "sampler", "--gin.SamplingConfig.rule=cdk") == 0
    texts = [np.array([5, 6, 7]), np.array([9, 10, 11, 12, 13])]
    asked = [prompts.text_to_image(text, [], image_tokens=16, vocabulary=VOCABULARY) for text in texts]
    expected = generate(random_params(CONFIG), CONFIG, VOCABULARY, asked, SAMPLING)
    given = json.dumps([[text.tolist(), prompt.seed] for text, prompt in zip(texts, asked, strict=True)])
    command = [sys.executable, "-c", USE, str(tmp_path / "sampler"), given]
    output = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=dict(os.environ))
    assert output.returncode == 0, output.stderr
    assert json.loads(output.stdout) == [result.image.tolist() for result in expected]


@pytest.mark.parametrize("platform", ["tpu", "cuda"])
def test_for_platforms_that_are_not_here(tmp_path, models, platform):
    assert export(models, tmp_path / "sampler", f"--platform={platform}", "--prompt_tokens=32") == 0
    program = jax.export.deserialize(bytearray((tmp_path / "sampler/sampler.stablehlo").read_bytes()))
    assert program.platforms == (platform,) and program.out_avals[0].shape == (2, 16)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--platform=rocm"], "unknown platform 'rocm'; choose one of cpu, cuda, tpu"),
        (["--prompt_tokens=40"], "prompts of 40 tokens and images of 16 are more than the decoder's 48"),
        (["--batch=0"], "at least 1 image"),
        (["--gin.SamplingConfig.rule=mixed"], "has one rule"),
        (["--image_tokenizer="], "give the --image_tokenizer"),
    ],
)
def test_what_cannot_be_compiled_says_so(tmp_path, models, capsys, options, message):
    assert export(models, tmp_path / "sampler", *options) == 2
    assert message in capsys.readouterr().err and not (tmp_path / "sampler").exists()
