"""The sampling rules in slow float64 NumPy, written from their definitions with sorts and loops. One row at a time."""

import math

import numpy as np


def log_softmax(logits: np.ndarray) -> np.ndarray:
    logits = np.asarray(logits, np.float64)
    top = logits.max()
    return logits - top - math.log(sum(math.exp(x - top) for x in logits))


def top_p(logits: np.ndarray, mass: float) -> np.ndarray:
    """-inf outside the smallest set of most probable tokens that holds `mass`; ties with the last one stay in."""
    probabilities = np.exp(log_softmax(logits))
    total, boundary = 0.0, 0.0
    for probability in sorted(probabilities, reverse=True):
        total, boundary = total + probability, probability
        if total >= mass:
            break
    return np.where(probabilities >= boundary, np.asarray(logits, np.float64), -np.inf)


def guide(cond: np.ndarray, uncond: np.ndarray, scale: float) -> np.ndarray:
    cond, uncond = np.asarray(cond, np.float64), np.asarray(uncond, np.float64)
    return np.array(
        [-np.inf if math.isinf(c) or math.isinf(u) else u + scale * (c - u) for c, u in zip(cond, uncond, strict=True)]
    )


def cdk(cond, uncond, k: int, alpha: float, expert_temperature: float, amateur_temperature: float) -> np.ndarray:
    """log p_exp - log p_ama inside V = {t: p_exp(t) >= alpha * k-th largest p_exp}, -inf outside."""
    expert = log_softmax(np.asarray(cond, np.float64) / expert_temperature)
    amateur = log_softmax(np.asarray(uncond, np.float64) / amateur_temperature)
    largest = sorted(expert, reverse=True)
    bar = largest[k - 1] + math.log(alpha) if k <= len(largest) else -math.inf
    score = np.full(len(expert), -np.inf)
    for token, (e, a) in enumerate(zip(expert, amateur, strict=True)):
        if e >= bar and not math.isinf(e) and not math.isinf(a):
            score[token] = e - a
    return score


def contrastive(cond, uncond, alpha: float, expert_temperature: float, amateur_temperature: float) -> np.ndarray:
    """Contrastive decoding (Li et al. 2022): the bar is the largest probability."""
    expert = log_softmax(np.asarray(cond, np.float64) / expert_temperature)
    amateur = log_softmax(np.asarray(uncond, np.float64) / amateur_temperature)
    inside = (expert >= expert.max() + math.log(alpha)) & ~np.isinf(expert) & ~np.isinf(amateur)
    return np.where(inside, expert - np.where(np.isinf(amateur), 0, amateur), -np.inf)


def guide_edit(full, image, uncond, image_scale: float, text_scale: float) -> np.ndarray:
    """Guidance of three streams: with the image and the instruction, with the image alone, with neither."""
    found = []
    for f, i, u in zip(full, image, uncond, strict=True):
        forbidden = any(map(math.isinf, (f, i, u)))
        found.append(-np.inf if forbidden else u + image_scale * (i - u) + text_scale * (f - i))
    return np.array(found)


def scores(cond, uncond, sampling, sample: int = 0, between=None) -> np.ndarray:
    """What `rules.scores` gives for one row, by a `SamplingConfig` and the sample's number; `between` is the middle one
    of three streams."""
    cond, uncond = np.asarray(cond, np.float64), np.asarray(uncond, np.float64)
    temperatures = sampling.expert_temperature, sampling.amateur_temperature
    match sampling.rule_of_sample(sample):
        case "plain":
            return cond / sampling.temperature
        case "greedy":
            return np.where(cond == cond.max(), 0.0, -np.inf)
        case "top_p":
            return top_p(cond / sampling.temperature, sampling.top_p)
        case "guided":
            if between is None:
                mixed = guide(cond, uncond, sampling.guidance_scale)
            else:
                between = np.asarray(between, np.float64)
                mixed = guide_edit(cond, between, uncond, sampling.image_guidance_scale, sampling.guidance_scale)
            return top_p(mixed / sampling.temperature, sampling.top_p)
        case "contrastive":
            return contrastive(cond, uncond, sampling.cdk_alpha, *temperatures) / sampling.score_temperature
        case "cdk":
            score = cdk(cond, uncond, sampling.cdk_k, sampling.cdk_alpha, *temperatures)
            return score / sampling.score_temperature
    raise ValueError(sampling.rule)
