"""One training step of the VQGAN: (state, batch) -> (state, metrics), a pure function that is compiled once.

Pixel and adversarial loss meet at the reconstruction, where their gradients are weighed and added; below it there is
one backward pass.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from cm3leon_jax.tokenizers.image import quantizer
from cm3leon_jax.tokenizers.image.adversary import Adversary, Metrics
from cm3leon_jax.tokenizers.image.autoencoder import bind, init_params
from cm3leon_jax.tokenizers.image.config import ImageTokenizerConfig, ImageTokenizerTraining
from cm3leon_jax.tokenizers.image.losses import reconstruction_loss

State = dict[str, Any]
_ENCODER = ("encoder", "quant_conv")  # parameters before the codebook


def to_unit(images: jax.Array) -> jax.Array:
    """uint8 -> float32 in [-1, 1]."""
    return images.astype(jnp.float32) / 127.5 - 1


def to_uint8(images: jax.Array) -> jax.Array:
    """[-1, 1] -> uint8, rounded and clipped."""
    return jnp.clip(jnp.round((images + 1) * 127.5), 0, 255).astype(jnp.uint8)


class Trainer:
    """The pure functions of a run of `steps` steps: `init_state`, and `train_step`, which is not yet compiled."""

    def __init__(self, config: ImageTokenizerConfig, training: ImageTokenizerTraining, steps: int):
        self.config, self.training = config, training
        self.learning_rate = optax.warmup_cosine_decay_schedule(
            0.0,
            training.learning_rate,
            min(training.warmup_steps, steps // 2),
            steps,
            end_value=training.learning_rate * training.final_learning_rate,
        )
        self._optimizer = optax.chain(
            optax.clip_by_global_norm(training.clip_norm), optax.adam(self.learning_rate, *training.betas)
        )
        self._adversary = Adversary(training) if self.adversarial(steps - 1) else None

    def adversarial(self, step: int) -> bool:
        """Whether the discriminator takes part in a step (counted from 0)."""
        return self.training.discriminator_weight > 0 and step >= self.training.discriminator_start

    def init_state(self) -> State:
        """A fresh state on the host: nested dicts and tuples of arrays."""
        params = init_params(self.config, self.training.seed)
        state: State = {
            "step": np.zeros((), np.int32),
            "params": params,
            "optimizer": self._optimizer.init(params),
            "usage": quantizer.initial_usage(self.config.num_codes, self.config.code_dim),
        }
        if self._adversary is not None:
            state["discriminator"] = self._adversary.init_state()
        return state

    def start_codebook(self, state: State, batch: jax.Array) -> State:
        """Sets the codebook from the encoder's outputs for uint8 images [B, R, R, 3]; due before the step
        `quantize_from_step`."""
        flat = bind(self.config, state["params"]).latents(to_unit(batch)).reshape(-1, self.config.code_dim)
        key = jax.random.fold_in(jax.random.key(self.training.seed), 0)
        codebook, usage = quantizer.initial_codes(flat, self.config.num_codes, key)
        return state | {"params": _with_codebook(state["params"], codebook), "usage": usage}

    def train_step(self, state: State, batch: jax.Array, *, adversarial: bool) -> tuple[State, Metrics]:
        """`batch` is uint8 [B, R, R, 3]. `adversarial` is known when compiling: XLA leaves convolutions inside a
        conditional to a path that is fifteen times slower on a CPU."""
        step, params, images = state["step"], state["params"], to_unit(batch)
        latents, latents_vjp = jax.vjp(lambda p: bind(self.config, p).latents(images), params)
        flat = jax.lax.stop_gradient(latents).reshape(-1, self.config.code_dim)
        codes = quantizer.nearest_codes(flat, params["quantize"]["embedding"])

        def decode(params, latents):
            return self._decode(params, latents, codes, step)

        (reconstructions, code_loss), decode_vjp, features = jax.vjp(decode, params, latents, has_aux=True)
        new_state, gradient, metrics = self._judge(state, images, reconstructions, features, adversarial)
        decoder_gradient, latents_gradient = decode_vjp((gradient, jnp.ones(())))
        (encoder_gradient,) = latents_vjp(latents_gradient)
        gradient = jax.tree.map(jnp.add, decoder_gradient, encoder_gradient)
        updates, optimizer = self._optimizer.update(gradient, state["optimizer"], params)
        params = optax.apply_updates(params, self._slowed(updates))
        params, usage, revived = self._keep_codebook(params, state["usage"], flat, codes, step)
        metrics |= {
            "loss": metrics["reconstruction_loss"] + code_loss,
            "code_loss": code_loss,
            "perplexity": quantizer.perplexity(usage.counts),
            "revived_codes": revived,
            "psnr_db": -10 * jnp.log10(jnp.mean((images - reconstructions) ** 2) / 4),
            "learning_rate": self.learning_rate(step),
        }
        return state | new_state | {"step": step + 1, "params": params, "optimizer": optimizer, "usage": usage}, metrics

    def _slowed(self, updates: dict) -> dict:
        scale = lambda update: self.training.encoder_rate * update  # noqa: E731
        return {name: jax.tree.map(scale, x) if name in _ENCODER else x for name, x in updates.items()}

    def _decode(self, params: dict, latents: jax.Array, codes: jax.Array, step: jax.Array):
        """-> ((reconstructions, commitment and codebook loss), the input of the last layer)."""
        quantized = step >= self.training.quantize_from_step
        vectors = params["quantize"]["embedding"][codes].reshape(latents.shape)
        loss = self.training.commitment_weight * jnp.mean((latents - jax.lax.stop_gradient(vectors)) ** 2)
        if self.training.codebook == "loss":
            loss += self.training.codebook_weight * jnp.mean((jax.lax.stop_gradient(latents) - vectors) ** 2)
        passed = jnp.where(quantized, quantizer.straight_through(latents, vectors), latents)
        loss = jnp.where(quantized, loss, 0.0)
        module = bind(self.config, params)
        features = module.decoder.features(module.post_quant_conv(passed))
        return (module.decoder.last_layer(features), loss), features

    def _judge(
        self, state: State, images: jax.Array, reconstructions: jax.Array, features: jax.Array, adversarial: bool
    ) -> tuple[State, jax.Array, Metrics]:
        """-> (the discriminator's new state, the loss's gradient at the reconstruction, metrics)."""
        loss_of = jax.value_and_grad(lambda fake: reconstruction_loss(images, fake, self.training))
        loss, gradient = loss_of(reconstructions)
        metrics = {"reconstruction_loss": loss}
        if not adversarial or self._adversary is None:
            return {}, gradient, metrics

        def last_layer_norm(at_reconstruction: jax.Array) -> jax.Array:
            _, vjp = jax.vjp(lambda p: bind(self.config, p).decoder.last_layer(features), state["params"])
            return jnp.linalg.norm(vjp(at_reconstruction)[0]["decoder"]["conv_out"]["kernel"])

        critic, extra, more = self._adversary.step(
            state["discriminator"], images, reconstructions, gradient, last_layer_norm
        )
        return {"discriminator": critic}, gradient + extra, metrics | more

    def _keep_codebook(
        self, params: dict, usage: quantizer.Usage, flat: jax.Array, codes: jax.Array, step: jax.Array
    ) -> tuple[dict, quantizer.Usage, jax.Array]:
        codebook = params["quantize"]["embedding"]
        key = jax.random.fold_in(jax.random.key(self.training.seed), step + 1)
        kept = codebook, usage, jnp.zeros((), jnp.int32)
        new = quantizer.updated_codebook(codebook, usage, flat, codes, training=self.training, step=step, key=key)
        started = step >= self.training.quantize_from_step
        codebook, usage, revived = jax.tree.map(lambda new, old: jnp.where(started, new, old), new, kept)
        return _with_codebook(params, codebook), usage, revived


def _with_codebook(params: dict, codebook: jax.Array) -> dict:
    return {**params, "quantize": {"embedding": codebook}}
