"""The sampling rules: each turns a row of logits into a row of scores, and a token is drawn from softmax(scores).

Streams are rows of logits of one model, float32 [B, V]: `cond` given all, `uncond` given the mask sentinel in place of
the text (CM3Leon §3.1), and for editing one between them, given the image without the instruction (§4.1). A token that
is -inf in a stream that the rule reads is forbidden: its score is -inf. All numbers are ordinary arguments, one for all
rows or float32 [B, 1], so that changing them compiles nothing anew (`thresholds.py`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax import lax

from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.sampling.noise import gumbel
from cm3leon_jax.sampling.thresholds import kth_largest, smallest_set

MIXED = "mixed"
IMPLEMENTATIONS = ("auto", "xla")
UNCONDITIONAL = ("sentinel", "documents")
_NO_NUMBERS = ("rule", "unconditional", "implementation", "seed")  # of the settings
_LARGEST = 3e38  # that float32 holds
_SMALLEST_TEMPERATURE = 1e-6  # logits divided by it are still finite


@dataclasses.dataclass(frozen=True)
class SamplingConfig:
    """How tokens are drawn. Which settings count is said beside each; the others are ignored.

    "plain": the model's own distribution. "greedy": its most probable token. "top_p": nucleus sampling. "guided":
    classifier-free guidance, then temperature and top-p, as CM3Leon does. "contrastive": contrastive decoding. "cdk":
    CM3Leon's CD-K. "mixed": even samples of a prompt by "guided", odd ones by "cdk" (guidance_scale = 1 makes the
    former plain top-p).
    """

    rule: str = "guided"
    temperature: float = 1.0  # divides the logits; plain, top_p, guided
    top_p: float = 0.9  # probability mass that is kept, in (0, 1]; top_p, guided
    guidance_scale: float = 3.0  # α_c: 1 is no guidance, 0 ignores the text; guided
    image_guidance_scale: float = 1.5  # of the image that is edited (its instruction has the former); guided
    cdk_k: int = 8  # the k-th most probable token sets the bar; 1 is plain contrastive decoding; cdk
    cdk_alpha: float = 0.5  # share of that token's probability that a candidate must have, in (0, 1]; cdk, contrastive
    expert_temperature: float = 0.8  # of the stream with the text; cdk, contrastive
    amateur_temperature: float = 0.5  # of the stream without it; cdk, contrastive
    score_temperature: float = 1.0  # divides the score before the draw; cdk, contrastive
    # What stands in the stream without the text of a picture behind retrieved documents: these and "sentinel", as in
    # the authors' interactive demo, or the "documents" alone, as in their evaluation script. guided, cdk, contrastive
    unconditional: str = "sentinel"
    implementation: str = "auto"  # "xla" does without the kernel for TPUs (`draw.py`)
    seed: int = 0  # together with a prompt and a sample's number it fixes the result

    def __post_init__(self) -> None:
        if self.rule not in (*RULES, MIXED):
            raise UserError(f"unknown sampling rule {self.rule!r}; choose one of {', '.join((*RULES, MIXED))}")
        for name, value in self.settings().items():
            if not abs(value) <= _LARGEST:
                raise UserError(f"sampling {name} is {str(value)[:20]}; it must be a number that float32 holds")
        if not 0 <= self.seed < 2**32:
            raise UserError(f"sampling seed is {str(self.seed)[:20]}; it is a number from 0 to 2^32 - 1")
        for name in ("temperature", "expert_temperature", "amateur_temperature", "score_temperature"):
            if not getattr(self, name) >= _SMALLEST_TEMPERATURE:
                raise UserError(
                    f"sampling {name} is {getattr(self, name)}; it must be {_SMALLEST_TEMPERATURE:g} or more (rule "
                    "'greedy' is the limit)"
                )
        for name in ("top_p", "cdk_alpha"):
            if not 0 < getattr(self, name) <= 1:
                raise UserError(f"sampling {name} is {getattr(self, name)}; it must lie in (0, 1]")
        if self.implementation not in IMPLEMENTATIONS:
            raise UserError(
                f"sampling implementation is {self.implementation!r}; choose one of {', '.join(IMPLEMENTATIONS)}"
            )
        if self.unconditional not in UNCONDITIONAL:
            raise UserError(
                f"sampling unconditional is {self.unconditional!r}; choose one of {', '.join(UNCONDITIONAL)}"
            )
        if self.cdk_k < 1:
            raise UserError(f"sampling cdk_k is {self.cdk_k}; it must be at least 1")

    def rule_of_sample(self, sample: int) -> str:
        """The rule by which sample number `sample` of a prompt is drawn: what "mixed" stands for."""
        return ("guided", "cdk")[sample % 2] if self.rule == MIXED else self.rule

    def settings(self) -> dict[str, float]:
        """The numbers, as traced arguments of the compiled program."""
        fields = dataclasses.asdict(self)
        return {name: value for name, value in fields.items() if name not in _NO_NUMBERS}


def keep_top_p(logits: jax.Array, top_p: jax.Array | float) -> jax.Array:
    """Nucleus sampling: -inf outside the smallest set of most probable tokens that holds at least `top_p`.

    The token that reaches `top_p` is inside, and so is every token exactly as probable.
    """
    return jnp.where(smallest_set(logits, jax.nn.softmax(logits), top_p), logits, -jnp.inf)


def guide(streams: Sequence[jax.Array], scale: jax.Array | float, image_scale: jax.Array | float) -> jax.Array:
    """Classifier-free guidance on logits: uncond + scale · (cond - uncond) (CM3Leon §3.1, equation 3). Of three streams
    uncond + image_scale · (image - uncond) + scale · (full - image) (§4.1)."""
    cond, *between, uncond = streams
    if not between:
        return _permitted(cond, uncond, uncond + scale * (cond - uncond))
    image = between[0]
    mixed = uncond + image_scale * (image - uncond) + scale * (cond - image)
    return _permitted(cond, uncond, jnp.where(jnp.isneginf(image), -jnp.inf, mixed))


def contrast(
    cond: jax.Array, uncond: jax.Array, bar: jax.Array, settings: dict, normalize: Callable = jax.nn.log_softmax
) -> jax.Array:
    """log p_exp - log p_ama where p_exp >= α · (probability of a token with logit `bar`, [B, 1]), elsewhere -inf.

    The expert is `cond` and the amateur `uncond`, each at its temperature; the score is divided by its own. `normalize`
    makes logarithms of probabilities of logits, up to a constant of the row if no more than a draw depends on it.
    """
    expert, amateur = cond / settings["expert_temperature"], uncond / settings["amateur_temperature"]
    score = (normalize(expert) - normalize(amateur)) / settings["score_temperature"]
    # Of the logits before any arithmetic, so that the token of the bar itself is always inside.
    inside = cond >= bar + settings["expert_temperature"] * jnp.log(settings["cdk_alpha"])
    return _permitted(cond, uncond, jnp.where(inside, score, -jnp.inf))


def _permitted(cond: jax.Array, uncond: jax.Array, score: jax.Array) -> jax.Array:
    return jnp.where(jnp.isneginf(cond) | jnp.isneginf(uncond), -jnp.inf, score)


def _plain(streams, settings):
    return streams[0] / settings["temperature"]


def _greedy(streams, settings):
    return jnp.where(streams[0] == streams[0].max(axis=-1, keepdims=True), 0.0, -jnp.inf)


def _top_p(streams, settings):
    return keep_top_p(streams[0] / settings["temperature"], settings["top_p"])


def _guided(streams, settings):
    mixed = guide(streams, settings["guidance_scale"], settings["image_guidance_scale"])
    return keep_top_p(mixed / settings["temperature"], settings["top_p"])


def _contrastive(streams, settings):
    return contrast(streams[0], streams[-1], streams[0].max(axis=-1, keepdims=True), settings)


def _cdk(streams, settings):
    return contrast(streams[0], streams[-1], kth_largest(streams[0], settings["cdk_k"]), settings)


RULES: dict[str, Callable] = {
    "plain": _plain,
    "greedy": _greedy,
    "top_p": _top_p,
    "guided": _guided,
    "contrastive": _contrastive,
    "cdk": _cdk,
}
_STREAMS = {"guided": 3, "contrastive": 2, "cdk": 2}  # that a rule can read; else 1
TWO_STREAMS = tuple(_STREAMS)


def streams_read(rule: str, count: int) -> tuple[int, ...]:
    """Which of a prompt's `count` streams the rule reads, the first and the last of them being its `cond` and `uncond`:
    the others are not computed."""
    return tuple(range(count)) if count <= _STREAMS.get(rule, 1) else (0, count - 1)[: _STREAMS.get(rule, 1)]


def scores(rule: str, streams: Sequence[jax.Array], settings: dict) -> jax.Array:
    """Logits float32 [B, V] of each stream -> scores float32 [B, V] under `rule` (a key of `RULES`)."""
    with jax.named_scope(f"rule_{rule}"):
        return RULES[rule](streams, settings)


def draw(keys: jax.Array, scores: jax.Array) -> jax.Array:
    """One index of each row with probability softmax(scores), by Gumbel noise: keys [B], scores [B, V] -> int32 [B].

    Keys are of the generator `noise.GENERATOR`.
    """
    places_1xV = lax.broadcasted_iota(jnp.int32, (1, scores.shape[1]), 1)
    noisy = scores + gumbel(jax.random.key_data(keys), places_1xV)
    return lax.platform_dependent(noisy, cpu=_argmax_in_two_passes, default=_argmax)


def _argmax(values: jax.Array) -> jax.Array:
    return jnp.argmax(values, axis=-1).astype(jnp.int32)


def _argmax_in_two_passes(values: jax.Array) -> jax.Array:
    """As `_argmax`, of values that are dear to compute. On a CPU, XLA would do so inside of the search for the maximum,
    one at a time; with two uses they are computed before it, many at a time."""
    near = values >= values.max(axis=-1, keepdims=True) - 1  # by far wide enough for what may be rounded differently
    return _argmax(jnp.where(near, values, -jnp.inf))
