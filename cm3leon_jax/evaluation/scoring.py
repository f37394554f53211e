"""Scores of what needs no drawing: the image tokenizer with the scene reader, and generated captions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cm3leon_jax.data.scenes.caption_parser import parse_caption
from cm3leon_jax.data.scenes.facts import all_facts
from cm3leon_jax.evaluation.held_out import HeldOutScene
from cm3leon_jax.evaluation.protocols import Tokenizer
from cm3leon_jax.evaluation.scene_scores import check_images, check_scenes, fact_shares
from cm3leon_jax.tokenizers.image.evaluation import code_statistics, psnr

HIGHEST_PSNR_DB = 100.0  # what equal pictures count as


def evaluate_image_tokenizer(tokenizer: Tokenizer, examples: Sequence[HeldOutScene]) -> tuple[dict, np.ndarray]:
    """-> (part of the results, reconstructions uint8 [N, R, R, 3]).

    The reader's accuracy counts every object's name, size and place and the count, stated or not; the ceiling of text
    to image counts stated facts, as the scores below it do.
    """
    images = np.stack([example.image for example in examples])
    codes = tokenizer.encode(images)
    reconstructions = np.asarray(tokenizer.decode(codes))
    every_fact = [all_facts(example.scene) for example in examples]
    stated = [example.facts for example in examples]
    read = {
        name: fact_shares(every_fact, check_images(every_fact, pictures))
        for name, pictures in (("reader_original", images), ("reader_reconstruction", reconstructions))
    }
    ceiling = fact_shares(stated, check_images(stated, reconstructions))
    part = {
        "image_tokenizer": {
            **{name: shares["overall"]["value"] for name, shares in read.items()},
            "psnr_db": float(np.minimum(psnr(images, reconstructions), HIGHEST_PSNR_DB).mean()),
            "codebook_perplexity": code_statistics(codes, tokenizer.num_codes)["codebook_perplexity"],
        },
        "text_to_image": {"ceiling": ceiling["overall"]["value"]},
        "details": {
            "image_tokenizer": read,
            "text_to_image": {
                "ceiling": ceiling,
                "original": fact_shares(stated, check_images(stated, images)),
                # What a picture of something else scores: the floor.
                "other_picture": fact_shares(stated, check_images(stated, np.roll(images, 1, axis=0))),
            },
        },
    }
    return part, reconstructions


def score_captions(captions: Sequence[str], examples: Sequence[HeldOutScene]) -> dict:
    """Generated captions, one for each example -> the part of the results: how many of their facts are true."""
    scenes = [example.scene for example in examples]
    read = [parse_caption(caption) for caption in captions]
    generated = [one.facts for one in read]
    stated = [example.facts for example in examples]
    shares = fact_shares(generated, check_scenes(generated, scenes))
    details = {
        **shares,
        "held_out_captions": fact_shares(stated, check_scenes(stated, scenes))["overall"],
        "other_picture": fact_shares(stated, check_scenes(stated, [*scenes[-1:], *scenes[:-1]]))["overall"],
        # True facts are easy to state if few are stated, so these belong to the score.
        "facts_per_caption": shares["overall"]["total"] / len(examples),
        "facts_per_held_out_caption": sum(map(len, stated)) / len(examples),
        "captions_without_facts": sum(not facts for facts in generated),
        "words_understood": float(np.mean([one.understood for one in read])),
    }
    return {"captioning": {"facts_true": shares["overall"]["value"]}, "details": {"captioning": details}}
