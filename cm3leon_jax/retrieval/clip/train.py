"""Contrastive training of CLIP from scratch (Radford et al. 2021, §2.3 and figure 3), over any number of devices."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from cm3leon_jax.retrieval.clip.config import ClipConfig, RetrieverTrainingConfig
from cm3leon_jax.retrieval.clip.encoders import bind, init_params
from cm3leon_jax.retrieval.clip.inputs import resize, tokenize
from cm3leon_jax.retrieval.clip.recall import cross_modal_recall
from cm3leon_jax.retrieval.clip.retriever import Retriever, normalized
from cm3leon_jax.runtime.batches import batches_by_step
from cm3leon_jax.runtime.compute_dtype import Use, training_dtype
from cm3leon_jax.runtime.devices import batch_sharded, data_mesh, put_batch, replicated
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.runtime.files import Path, as_path, write_json
from cm3leon_jax.runtime.loop import TrainingLoop
from cm3leon_jax.runtime.settings import LoopConfig
from cm3leon_jax.tokenizers.text import TextTokenizer

Pairs = tuple[np.ndarray, Sequence[str]]  # images uint8 [N, H, W, 3] and their captions [N]
LABEL = "retriever"
_UNDECAYED = ("bias", "scale", "logit_scale", "class_token")


def train_retriever(
    config: ClipConfig,
    training_config: RetrieverTrainingConfig,
    loop: LoopConfig,
    batch_of_step: Callable[[int], Pairs],
    text_tokenizer: TextTokenizer,
    directory: Path,
    evaluation: Pairs,
) -> Retriever:
    """Trains, or continues training, and writes `directory`/training, /model and /evaluation.json.

    `batch_of_step(step)` gives this process's part of the global batch of a step, as a pure function of the step;
    `evaluation` are held-out pairs. The size of the vocabulary is taken from the text tokenizer.
    """
    directory = as_path(directory)
    config = dataclasses.replace(config, vocab_size=text_tokenizer.size)
    dtype = training_dtype(
        config.compute_dtype, Use.ENCODER_TRAINING, directory=directory / "training", part="model", label=LABEL
    )
    trained = dataclasses.replace(config, compute_dtype=dtype)
    mesh = data_mesh()

    def batch(step: int) -> dict:
        images, captions = batch_of_step(step)
        if len(captions) % len(jax.local_devices()):
            raise UserError(
                f"a retriever batch of {len(captions)} pairs does not divide over {len(jax.local_devices())} devices; "
                "set a multiple"
            )
        tokens, lengths = tokenize(captions, text_tokenizer, config.context_length)
        images = resize(images, config.image_resolution)
        return put_batch({"images": images, "tokens": tokens, "lengths": lengths}, batch_sharded(mesh))

    def evaluate(state: dict, _: int) -> dict[str, float]:
        return recall(Retriever(config, jax.device_get(state["params"]), text_tokenizer), evaluation)

    state = TrainingLoop(
        config=loop,
        train_step=make_train_step(trained, training_config, loop.steps, mesh),
        make_batches=batches_by_step(batch),
        directory=directory / "training",
        label=LABEL,
        saved_config={"model": dataclasses.asdict(trained), "training": dataclasses.asdict(training_config)},
        evaluate=evaluate,
    ).run(init_state(trained, training_config, loop.steps, mesh))
    if jax.process_index() == 0:
        Retriever(config, jax.device_get(state["params"]), text_tokenizer).save(directory / "model")
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices("retriever saved")
    retriever = Retriever.load(directory / "model")
    if jax.process_index() == 0:
        write_json(directory / "evaluation.json", {"pairs": len(evaluation[1]), **recall(retriever, evaluation)})
    return retriever


def recall(retriever: Retriever, pairs: Pairs) -> dict[str, float]:
    """Recall@1 and @5 among held-out pairs, texts to images and images to texts."""
    images, captions = pairs
    return cross_modal_recall(retriever.embed_texts(captions), retriever.embed_images(images), captions)


def make_optimizer(training: RetrieverTrainingConfig, steps: int) -> optax.GradientTransformation:
    """AdamW with gradient clipping, linear warm-up and cosine decay to zero at `steps`."""
    warmup = min(training.warmup_steps, steps - 1)
    schedule = optax.warmup_cosine_decay_schedule(0.0, training.peak_learning_rate, warmup, steps)

    def decayed(params: dict) -> dict:
        return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key not in _UNDECAYED, params)

    return optax.chain(
        optax.clip_by_global_norm(training.clip_norm),
        optax.adamw(
            schedule, training.beta1, training.beta2, training.epsilon, weight_decay=training.weight_decay, mask=decayed
        ),
    )


def init_state(config: ClipConfig, training: RetrieverTrainingConfig, steps: int, mesh: Mesh) -> dict:
    """Parameters and optimizer state, a copy on each device."""
    optimizer = make_optimizer(training, steps)
    params = jax.device_put(init_params(config, training.seed), replicated(mesh))
    return {"params": params, "optimizer": jax.jit(optimizer.init, out_shardings=replicated(mesh))(params)}


@functools.cache
def make_train_step(
    config: ClipConfig, training: RetrieverTrainingConfig, steps: int, mesh: Mesh
) -> Callable[[dict, dict], tuple[dict, Mapping[str, jax.Array]]]:
    """-> compiled (state, batch) -> (state, metrics). The batch is split over the mesh, the negatives are global."""
    optimizer = make_optimizer(training, steps)

    @functools.partial(jax.jit, donate_argnums=0, out_shardings=replicated(mesh))
    def train_step(state: dict, batch: dict) -> tuple[dict, dict]:
        (loss, accuracy), gradients = jax.value_and_grad(contrastive_loss, has_aux=True)(
            state["params"], batch, config=config
        )
        updates, optimizer_state = optimizer.update(gradients, state["optimizer"], state["params"])
        params = optax.apply_updates(state["params"], updates)
        params["logit_scale"] = jnp.minimum(params["logit_scale"], math.log(training.max_logit_scale))
        metrics = {
            "loss": loss,
            "accuracy": accuracy,
            "logit_scale": jnp.exp(params["logit_scale"]),
            "gradient_norm": optax.global_norm(gradients),
        }
        return {"params": params, "optimizer": optimizer_state}, metrics

    return train_step


def contrastive_loss(params: dict, batch: dict, *, config: ClipConfig) -> tuple[jax.Array, jax.Array]:
    """Symmetric cross entropy of each pair against all others of the batch -> (loss, share of texts that put their own
    image first). `batch`: images uint8 [B, R, R, 3], tokens int32 [B, T], lengths int32 [B]."""
    model = bind(params, config)
    texts_BxD = normalized(model.text(batch["tokens"], batch["lengths"]))
    images_BxD = normalized(model.image(batch["images"]))
    with jax.named_scope("contrastive_loss"):
        logits_BxB = jnp.exp(params["logit_scale"]) * (texts_BxD @ images_BxD.T)
        own = jnp.diagonal(logits_BxB)
        by_text = jax.nn.logsumexp(logits_BxB, axis=1) - own
        by_image = jax.nn.logsumexp(logits_BxB, axis=0) - own
        accuracy = jnp.mean(own >= logits_BxB.max(axis=1))
        return jnp.mean(by_text + by_image) / 2, accuracy
