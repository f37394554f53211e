"""The sampler as StableHLO: without this package it draws what `generate` draws; also for platforms not at hand."""

import dataclasses

import jax
import numpy as np
import pytest
from documented import documented, run
from tiny_decoder import CONFIG, IMAGES, VOCABULARY, random_params

from cm3leon_jax.cli import main
from cm3leon_jax.model.folder import save_decoder
from cm3leon_jax.sampling import prompts
from cm3leon_jax.sampling.generate import generate
from cm3leon_jax.sampling.rules import SamplingConfig
from cm3leon_jax.tokenizers.image.tokenizer import untrained

SAMPLING = SamplingConfig(rule="cdk")


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
    texts = [[5, 6, 7], [9, 10, 11, 12, 13]]
    asked = [prompts.text_to_image(np.array(text), [], image_tokens=16, vocabulary=VOCABULARY) for text in texts]
    expected = generate(random_params(CONFIG), CONFIG, VOCABULARY, asked, SAMPLING)
    seeds = [prompt.seed for prompt in asked]
    script = documented("sampler.stablehlo", tmp_path / "sampler")
    assert script.count("= 0, row, 0\n") == 1  # the engine's numbers in place of the rows'
    script = script.replace("= 0, row, 0\n", f"= 0, {seeds}[row], 0\n")
    found = run(f"texts = {texts}\n{script}\nprint(json.dumps(np.asarray(codes).tolist()))", tmp_path)
    assert found == [result.image.tolist() for result in expected]


def test_positions_that_are_not_counted_from_0(tmp_path, models, capsys):
    config = dataclasses.replace(CONFIG, query_position=8, position_stride=8)
    save_decoder(models / "counted", config, VOCABULARY, random_params(config))
    counted = f"--decoder={models}/counted"
    assert export(models, tmp_path / "sampler", counted) == 0
    assert "positions are not counted from 0" in capsys.readouterr().out
    assert export(models, tmp_path / "long", counted, "--prompt_tokens=26") == 2
    assert "can take 57 positions" in capsys.readouterr().err


@pytest.mark.parametrize("platform", ["tpu", "cuda"])
def test_for_platforms_that_are_not_here(tmp_path, models, platform):
    assert export(models, tmp_path / "sampler", f"--platform={platform}", "--prompt_tokens=32") == 0
    program = jax.export.deserialize(bytearray((tmp_path / "sampler/sampler.stablehlo").read_bytes()))
    assert program.platforms == (platform,) and program.out_avals[0].shape == (2, 16)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--platform=rocm"], "unknown platform 'rocm'; choose one of cpu, cuda, tpu"),
        (["--prompt_tokens=40"], "can take 56 positions, more than the decoder's 48"),
        (["--batch=0"], "at least 1 image"),
        (["--dtype=bfloat16"], "takes float32 weights"),
        (["--gin.SamplingConfig.rule=mixed"], "has one rule"),
        (["--image_tokenizer="], "give the --image_tokenizer"),
    ],
)
def test_what_cannot_be_compiled_says_so(tmp_path, models, capsys, options, message):
    assert export(models, tmp_path / "sampler", *options) == 2
    assert message in capsys.readouterr().err and not (tmp_path / "sampler").exists()
