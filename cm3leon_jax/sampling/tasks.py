"""The fine-tuning tasks (`instructions/tasks.py`) as what is asked for: their templates as parts, and their guidance.

A prompt has the words of training, tokenized piece by piece as there, with a hole where the answer stood (CM3Leon §4).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from cm3leon_jax.instructions.asking import unanswered
from cm3leon_jax.instructions.tasks import find_task
from cm3leon_jax.sampling.parts import Continuation, ImageHole, Part, codes_of, prompt_of
from cm3leon_jax.sampling.prompts import Prompt, TextHole, edit_image
from cm3leon_jax.tokenizers.image.tokenizer import ImageTokenizer
from cm3leon_jax.tokenizers.text import TextTokenizer
from cm3leon_jax.vocabulary import Vocabulary

EDIT = "edit"
_ANSWER = 64  # tokens of an answer, at most, where nothing else is said
_CONDITION_AND_CAPTION = {1, 2}  # segments behind the words of the task, and before the picture that is drawn


def task_parts(
    task: str,
    fields: Mapping[str, str],
    images: Sequence[np.ndarray] = (),
    *,
    wording: int | None = None,
    max_tokens: int = _ANSWER,
) -> list[Part]:
    """Texts and pictures of `unanswered`, in order, with holes for the answers: texts of at most `max_tokens` each, or
    a picture. `images` are those given, uint8 [R, R, 3] or codes [N]. Raises `UserError` as it does."""
    given, parts = iter(images), list[Part]()
    for document in unanswered(task, fields, len(images), wording).documents:
        for text in document.texts:
            said = Continuation(text.text) if text.follows_at_once else text.text
            parts.append(TextHole(max_tokens) if text.is_answer else said)
        if document.has_image:
            parts.append(ImageHole() if document.image_is_answer else next(given))
    return parts


def task_prompt(
    task: str,
    parts: Sequence[Part],
    text_tokenizer: TextTokenizer,
    image_tokenizer: ImageTokenizer,
    vocabulary: Vocabulary,
) -> Prompt:
    """`parts` of `task_parts` -> a prompt with the streams that suit the task; its last document is the one asked for.

    Editing has three (`prompts.edit_image`). A picture from another one and a caption has one weight, between
    everything given and the words of the task alone: the paper says that it is 3, and not what it weighs. A picture
    from a text has the text hidden, words of the task included; a text about a picture, the picture.
    """
    if task == EDIT:
        words, image, instruction, _ = parts
        assert isinstance(words, str) and isinstance(image, np.ndarray) and isinstance(instruction, str)
        return edit_image(
            text_tokenizer.encode(instruction),
            codes_of(image, image_tokenizer),
            task=text_tokenizer.encode(words),
            image_tokens=image_tokenizer.tokens_per_image,
            vocabulary=vocabulary,
        )
    less = (_CONDITION_AND_CAPTION,) if len(find_task(task).images) > 1 else None
    prompt = prompt_of(parts, text_tokenizer, image_tokenizer, vocabulary, less)
    return dataclasses.replace(prompt, documents=1)
