"""Eight devices draw what one draws: rows split over some of them, heads and vocabulary over the others."""

import os
import subprocess
import sys
import textwrap

SCRIPT = """
    import dataclasses
    import jax
    import numpy as np
    from cm3leon_jax.documents import Document
    from cm3leon_jax.model.config import DecoderConfig
    from cm3leon_jax.model.decoder import init_params
    from cm3leon_jax.model.partitioning import AxisRules, MeshConfig, Partitioning, make_mesh
    from cm3leon_jax.sampling import prompts
    from cm3leon_jax.sampling.generate import generate
    from cm3leon_jax.sampling.prompts import Draft, TextHole, compose
    from cm3leon_jax.sampling.rules import SamplingConfig
    from cm3leon_jax.sampling.weights import PrecisionConfig
    from cm3leon_jax.vocabulary import Vocabulary

    assert jax.device_count() == 8
    vocabulary = Vocabulary(text_size=30, image_size=24, num_sentinels=8, multiple_of=16)
    config = DecoderConfig(
        vocab_size=vocabulary.size, num_layers=2, d_model=32, num_heads=4, max_length=96, compute_dtype="float32"
    )
    leaves, tree = jax.tree.flatten(init_params(config, jax.random.key(0)))
    rng = np.random.default_rng(0)
    params = jax.tree.unflatten(tree, [(rng.normal(size=x.shape) * 0.4).astype(np.float32) for x in leaves])

    def document(seed):
        rng = np.random.default_rng(seed)
        return Document(rng.integers(3, 30, 8), rng.integers(0, 24, 16))

    context = [document(0), document(1)]
    asked = [prompts.text_to_image(document(n).text, context, image_tokens=8, vocabulary=vocabulary) for n in range(4)]
    asked += [compose([Draft([document(5).text], np.full(8, -1)), Draft([TextHole(4)])], vocabulary=vocabulary)]
    sampling = SamplingConfig(rule="mixed")

    def drawn(partitioning, precision):
        found = generate(
            params, config, vocabulary, asked, sampling, samples=4, precision=precision, partitioning=partitioning
        )
        return [one.ids.tolist() for one in found]

    for precision in (PrecisionConfig(), PrecisionConfig("int8", "int8")):
        alone = drawn(Partitioning(make_mesh(MeshConfig(), jax.devices()[:1])), precision)
        for mesh in (MeshConfig(), MeshConfig(data=2, tensor=4), MeshConfig(data=1, fsdp=4, tensor=2)):
            same = [one == two for one, two in zip(alone, drawn(Partitioning(make_mesh(mesh)), precision))]
            assert all(same), (precision, mesh, same)
"""


def test_eight_devices_draw_what_one_draws():
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0"
        " --xla_llvm_disable_expensive_passes=true",
    }
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(SCRIPT)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
