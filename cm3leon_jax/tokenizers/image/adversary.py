"""The discriminator's side of training: its own step, and the gradient that it adds at the reconstruction."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from cm3leon_jax.tokenizers.image.autoencoder import draw_params, merge, string_keys
from cm3leon_jax.tokenizers.image.config import ImageTokenizerTraining
from cm3leon_jax.tokenizers.image.discriminator import Discriminator, discriminator_loss, generator_loss

# VQGAN's bound of the adaptive weight.
MAX_ADAPTIVE_WEIGHT = 1e4

Metrics = dict[str, jax.Array]


class Adversary:
    """Pure functions around one discriminator. Its state is a dict: `params`, `optimizer`."""

    def __init__(self, training: ImageTokenizerTraining):
        self._training = training
        self._optimizer = optax.adam(training.discriminator_learning_rate, *training.betas)
        channels, layers = training.discriminator_channels, training.discriminator_layers
        self._graph, self._abstract = nnx.split(
            nnx.eval_shape(lambda: Discriminator(channels, layers, rngs=nnx.Rngs(0)))
        )

    def init_state(self) -> dict[str, Any]:
        params = draw_params(string_keys(nnx.to_pure_dict(self._abstract)), self._training.seed + 1)
        return {"params": params, "optimizer": self._optimizer.init(params)}

    def step(
        self,
        state: dict[str, Any],
        images: jax.Array,
        reconstructions: jax.Array,
        pixel_gradient: jax.Array,
        last_layer_norm: Callable[[jax.Array], jax.Array],
    ) -> tuple[dict[str, Any], jax.Array, Metrics]:
        """-> (new state, what to add to `pixel_gradient`, metrics).

        Images, reconstructions and gradients at the reconstruction are [B, R, R, 3]. `last_layer_norm` maps such a
        gradient to the norm of the last layer's: both losses weigh the same there, times the set weight (VQGAN, eq. 7).
        """
        fool = jax.value_and_grad(lambda fake: generator_loss(self._logits(state["params"], fake)))
        fool_loss, gradient = fool(reconstructions)
        adaptive = last_layer_norm(pixel_gradient) / (last_layer_norm(gradient) + 1e-4)
        weight = self._training.discriminator_weight * jnp.minimum(adaptive, MAX_ADAPTIVE_WEIGHT)
        state, loss = self._learn(state, images, reconstructions)
        metrics = {"generator_loss": fool_loss, "discriminator_loss": loss, "adversarial_weight": weight}
        return state, weight * gradient, metrics

    def _logits(self, params: dict, images: jax.Array) -> jax.Array:
        return merge(self._graph, self._abstract, params)(images)

    def _learn(self, state: dict, images: jax.Array, reconstructions: jax.Array) -> tuple[dict, jax.Array]:
        def loss_of(params):
            return discriminator_loss(self._logits(params, images), self._logits(params, reconstructions))

        loss, gradient = jax.value_and_grad(loss_of)(state["params"])
        updates, optimizer = self._optimizer.update(gradient, state["optimizer"], state["params"])
        return {"params": optax.apply_updates(state["params"], updates), "optimizer": optimizer}, loss
