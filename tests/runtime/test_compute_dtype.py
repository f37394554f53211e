import pytest

from cm3leon_jax.runtime import compute_dtype
from cm3leon_jax.runtime.checkpoints import Checkpoints
from cm3leon_jax.runtime.compute_dtype import Use, fastest, training_dtype
from cm3leon_jax.runtime.processor import Processor

AVX2, AVX512_BF16 = Processor("one", ("avx2",)), Processor("another", ("avx2", "avx512_bf16"))


@pytest.fixture(params=[AVX2, AVX512_BF16], ids=["avx2", "avx512_bf16"])
def processor(request, monkeypatch):
    monkeypatch.setattr(compute_dtype, "processor", lambda: request.param)
    return request.param


def test_a_decoder_trains_in_bfloat16_where_the_processor_has_it(processor):
    assert fastest(Use.DECODER_TRAINING, "cpu") == ("bfloat16" if processor is AVX512_BF16 else "float32")
    assert fastest(Use.ENCODER_TRAINING, "cpu") == "float32"
    assert {fastest(use, platform) for use in Use for platform in ("gpu", "tpu")} == {"bfloat16"}


def test_a_run_goes_on_in_the_dtype_of_its_checkpoint(processor, tmp_path, capsys):
    def chosen(asked, use=Use.DECODER_TRAINING):
        dtype = training_dtype(asked, use, directory=tmp_path, part="decoder", label="decoder")
        return dtype, capsys.readouterr().out

    here = fastest(Use.DECODER_TRAINING, "cpu")
    other = {"bfloat16": "float32", "float32": "bfloat16"}[here]
    dtype, line = chosen("auto")
    assert dtype == here and f"computes in {here}" in line and line.count("\n") == 1
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(3, {"x": 1.0}, position={}, config={"decoder": {"compute_dtype": other}})
    assert chosen("auto")[0] == other
    dtype, line = chosen(here)
    assert dtype == here and f"trained in {other}" in line
