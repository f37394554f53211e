"""Packaging of cm3leon_jax. Exact versions live in requirements.lock, which the launchers install from."""

import pathlib

import setuptools

ROOT = pathlib.Path(__file__).parent

setuptools.setup(
    name="cm3leon_jax",
    version="0.1.0",
    description="CM3Leon in JAX: retrieval-augmented CM3 pretraining and generation over text and image tokens",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11,<3.14",
    packages=setuptools.find_packages(include=["cm3leon_jax", "cm3leon_jax.*"]),
    package_data={"cm3leon_jax": ["pages/templates/*", "serving/assets/*"]},
    entry_points={"console_scripts": ["cm3leon = cm3leon_jax.cli:main"]},
    install_requires=[
        "jax>=0.10.2",
        "flax>=0.12.8",
        "optax>=0.2.8",
        "orbax-checkpoint>=0.12.8",
        "gin-config>=0.5.0",
        "etils[epath]",
        "ml_dtypes",
        "msgpack",
        "numpy",
        "pillow",
        "pyyaml",
        "safetensors",
        "scipy",
        "sentencepiece<0.2.2",  # a newer one needs a protobuf that Beam does not take yet
        "starlette",
        "tensorboard",
        "tqdm",
        "uvicorn",
        # Everything below is for preparing data and streaming it; sampling and the training step do not import it.
        # ScaNN 1.4.2 does not load beside TensorFlow 2.21, and tensorflow-text must have TensorFlow's minor version.
        "tensorflow==2.20.*",
        "tensorflow-text==2.20.*",
        "apache-beam>=2.77",
        "array-record",
        "pyarrow",
        "scann==1.4.2",
        "seqio==0.0.20",
        "tensorflow-datasets==4.9.10",
    ],
    extras_require={
        "tpu": ["jax[tpu]==0.10.2"],
        "cuda": ["jax[cuda13]>=0.10.2"],
        "wandb": ["wandb"],
        "conditions": ["scikit-image>=0.26"],  # edges of pictures, to draw from
        "parity": ["torch==2.13.0", "transformers"],
        "dev": ["hypothesis", "mypy", "pytest", "ruff", "selenium"],
    },
)
