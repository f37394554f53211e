"""A generator whose answers are known beforehand, small data sets in their published form, and what a suite needs."""

import json

import numpy as np
import PIL.Image

from cm3leon_jax.evaluation.suites.config import SuitesConfig
from cm3leon_jax.evaluation.suites.work import Work
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.sampling.answers import Drawn
from cm3leon_jax.sampling.rules import SamplingConfig


class Tokenizer:
    grid, resolution, tokens_per_image, num_codes = (4, 4), 8, 16, 24


class Told:
    """Answers with what `answer(request, sample)` gives: texts of the holes, or a picture; `None` where the prompt is
    too long. Pictures of the same request get worse with their number."""

    image_tokenizer, retriever, library = Tokenizer(), None, None

    def __init__(self, answer, likelihood=None):
        self.answer, self.likelihood = answer, likelihood
        self.asked = []

    def ask_all(self, requests):
        self.asked += requests
        return [
            UserError("this takes 99 positions and the model holds 96") if self.answer(each, 0) is None else (each, [])
            for each in requests
        ]

    def run(self, prompts, samplings, samples, *, label=None, bar=None):
        bar.update(sum(samples))
        return [(request, count) for request, count in zip(prompts, samples, strict=True)]

    def drawn(self, results):
        return [[self._drawn(request, number) for number in range(count)] for request, count in results]

    def _drawn(self, request, number):
        found = self.answer(request, number)
        if isinstance(found, np.ndarray):
            return Drawn([found], [request.query], [], -1.0, 0.5)
        return Drawn([], [" ".join(found)], list(found), -1.0, None)

    def question(self, prompt, answers):
        class Question:
            request, candidates = prompt, [[0] * len(answer.split()) for answer in answers]
            texts = answers

        return Question

    def logprobs(self, questions, *, bar=None):
        return [np.array([self.likelihood(each.request, text) for text in each.texts]) for each in questions]


class Given:
    """Models that are at hand."""

    def __init__(self, generator=None, **others):
        self.generator = generator
        self.retriever = getattr(generator, "retriever", None)
        self.prepared, self.options = None, {}
        self.__dict__ |= others


def work_in(directory, generator=None, *, sampling=None, models=None, split="test", **settings):
    config = SuitesConfig(**{"piece": 2, "distance_draws": 0} | settings)
    return Work(directory, config, sampling or SamplingConfig(), models or Given(generator), split)


def picture(path, level=0, size=(8, 8)):
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.new("RGB", size, (level, level, level)).save(path, quality=100, subsampling=0)


def pairs_folder(folder, captions):
    """A source `folder:` and the split that has all of it: pictures of 10 n, each with its captions."""
    rows = []
    for number, of_one in enumerate(captions):
        picture(folder / f"{number}.png", 10 * number)
        rows += [{"image": f"{number}.png", "caption": caption} for caption in of_one]
    (folder / "captions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return f"folder:{folder}"


def level(request):
    """How bright the request's picture is."""
    return next(round(float(part.mean())) for part in request.parts if isinstance(part, np.ndarray))


def write(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def write_vqa(folder, answers, names=("v2_OpenEnded_mscoco", "v2_mscoco"), missing=()):
    """Questions "what n", each about a picture of its own of 10 n; `answers` of each: ten texts."""
    rows = [(number, number + 1) for number in range(len(answers))]
    for number, image in rows:
        if number not in missing:
            picture(folder / f"COCO_val2014_{image:012d}.jpg", 10 * number)
    asked = [{"question_id": 100 + n, "image_id": image, "question": f"what {n}"} for n, image in rows]
    annotations = [
        {
            "question_id": 100 + n,
            "answers": [{"answer": a} for a in answers[n]],
            "answer_type": ["other", "number"][n % 2],
        }
        for n, _ in rows
    ]
    write(folder / f"{names[0]}_val2014_questions.json", {"questions": asked})
    write(folder / f"{names[1]}_val2014_annotations.json", {"annotations": annotations})
    return folder
