"""A decoder with its tokenizers, and the memory bank if there is one: texts and pictures in, pictures and texts out."""

from __future__ import annotations

import copy
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cm3leon_jax.model.config import DecoderConfig
from cm3leon_jax.model.decoder import Params
from cm3leon_jax.model.folder import load_decoder
from cm3leon_jax.model.partitioning import Partitioning
from cm3leon_jax.retrieval.clip.retriever import Retriever
from cm3leon_jax.retrieval.memory_bank import MemoryBank
from cm3leon_jax.runtime import hosts
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.runtime.files import Path
from cm3leon_jax.sampling import best_of, prompts
from cm3leon_jax.sampling.answers import Drawn, ranked
from cm3leon_jax.sampling.generate import Engine, Generation, Watch
from cm3leon_jax.sampling.library import Library, RetrievedDocument
from cm3leon_jax.sampling.likelihood import Question
from cm3leon_jax.sampling.parts import Part, codes_of, decode_with_holes, prompt_of
from cm3leon_jax.sampling.prompts import Prompt
from cm3leon_jax.sampling.requests import Request, with_codes
from cm3leon_jax.sampling.rules import SamplingConfig
from cm3leon_jax.sampling.tasks import EDIT, task_parts, task_prompt
from cm3leon_jax.sampling.weights import AS_COMPUTED, PrecisionConfig
from cm3leon_jax.tokenizers.image.tokenizer import ImageTokenizer
from cm3leon_jax.tokenizers.text import TextTokenizer
from cm3leon_jax.vocabulary import Vocabulary

Retrieved = int | Sequence[Sequence[RetrievedDocument]]  # how many documents to retrieve, or those of `retrieve`
_NO_LIBRARY = "documents are retrieved from prepared data with its retriever: name both, or retrieve 0"


class Generator:
    """Draws from a decoder. Images are uint8 [R, R, 3] at the image tokenizer's resolution."""

    def __init__(
        self,
        config: DecoderConfig,
        vocabulary: Vocabulary,
        params: Params,
        text_tokenizer: TextTokenizer,
        image_tokenizer: ImageTokenizer,
        *,
        retriever: Retriever | None = None,
        library: Library | None = None,
        partitioning: Partitioning | None = None,
        batch_size: int = 64,
        precision: PrecisionConfig = AS_COMPUTED,
    ):
        """`retriever` chooses the best of several pictures, `library` finds documents; both may be missing.

        `batch_size` samples are drawn at once over the devices of `partitioning` (default: a copy on each).
        """
        if (vocabulary.text_size, vocabulary.image_size) != (text_tokenizer.size, image_tokenizer.num_codes):
            raise UserError(
                f"the model was trained on {vocabulary.text_size} text pieces and {vocabulary.image_size} image codes, "
                f"the tokenizers have {text_tokenizer.size} and {image_tokenizer.num_codes}; name those of the model"
            )
        self.config, self.vocabulary = config, vocabulary
        self.text_tokenizer, self.image_tokenizer = text_tokenizer, image_tokenizer
        self.retriever, self.library = retriever, library
        self._engine = Engine(
            params, config, vocabulary, precision=precision, batch_size=batch_size, partitioning=partitioning
        )

    @classmethod
    def load(
        cls,
        decoder: Path,
        text_tokenizer: Path,
        image_tokenizer: Path,
        *,
        retriever: Path | None = None,
        prepared: Path | None = None,
        **options: Any,
    ) -> Generator:
        """Reads model folders. Documents can be retrieved with `prepared` data and the `retriever` that it was made
        with. `options` are those of the constructor. Prints the compute dtype. Raises `UserError`."""
        text, image = TextTokenizer.load(text_tokenizer), ImageTokenizer.load(image_tokenizer)
        encoder = Retriever.load(retriever) if retriever else None
        library = _open_library(prepared, encoder, text, image) if prepared else None
        generator = cls(*load_decoder(decoder), text, image, retriever=encoder, library=library, **options)
        if hosts.is_first():
            print(f"decoder: samples in {generator._engine.config.compute_dtype}", file=sys.stderr, flush=True)
        return generator

    def with_params(self, params: Params) -> Generator:
        """The same with other weights: for samples during training."""
        other = copy.copy(self)
        other._engine = self._engine.with_params(params)
        return other

    def retrieve(self, texts: Sequence[str], count: int) -> list[list[RetrievedDocument]]:
        """For each text at most `count` documents of the memory bank, best first."""
        if count and self.library is None:
            raise UserError(_NO_LIBRARY)
        return self.library.retrieve(texts, count) if self.library else [[] for _ in texts]

    # What is asked for, as prompts of the engine: `run` draws any of them together.

    def ask(self, parts: Sequence[Part]) -> Prompt:
        """Texts, pictures, whole documents and holes, in order -> a prompt: see `sampling/parts.py`."""
        return prompt_of(parts, self.text_tokenizer, self.image_tokenizer, self.vocabulary)

    def ask_text_to_image(self, text: str, retrieved: Sequence[RetrievedDocument] = ()) -> Prompt:
        """A picture of the text."""
        return prompts.text_to_image(
            self.text_tokenizer.encode(text),
            [found.document for found in retrieved],
            image_tokens=self.image_tokenizer.tokens_per_image,
            vocabulary=self.vocabulary,
        )

    def ask_image_to_text(self, image: np.ndarray, max_text: int = 64) -> Prompt:
        """A text of at most `max_text` tokens about the picture, or about that of its codes."""
        codes = codes_of(image, self.image_tokenizer)
        return prompts.image_to_text(codes, [], max_text=max_text, vocabulary=self.vocabulary)

    def ask_fill_image(
        self, text: str, image: np.ndarray, hidden: np.ndarray, retrieved: Sequence[RetrievedDocument] = ()
    ) -> Prompt:
        """The picture with the cells of its token grid that are `hidden` drawn anew, given the rest of it and the text:
        bool [rows, columns], see `requests.hidden_cells`."""
        if np.shape(hidden) != tuple(self.image_tokenizer.grid):
            raise UserError(f"the mask is {np.shape(hidden)}; it must be {tuple(self.image_tokenizer.grid)}")
        return prompts.fill_image(
            self.text_tokenizer.encode(text),
            codes_of(image, self.image_tokenizer),
            np.reshape(hidden, -1),
            [found.document for found in retrieved],
            vocabulary=self.vocabulary,
        )

    def ask_edit_image(self, instruction: str, image: np.ndarray) -> Prompt:
        """The picture, changed as the instruction says."""
        return self.ask_task(EDIT, {"instruction": instruction}, [image])

    def ask_task(
        self,
        task: str,
        fields: Mapping[str, str],
        images: Sequence[np.ndarray] = (),
        *,
        wording: int | None = None,
        max_tokens: int = 64,
    ) -> Prompt:
        """The answer of a fine-tuning task (`instructions.tasks.TASKS`), asked in the words of training: a picture, or
        texts of at most `max_tokens` each. Pictures are uint8 [R, R, 3], or codes. What the streams of guidance read
        says `tasks.task_prompt`; raises `UserError` as `instructions.asking.unanswered` does.
        """
        return self._task(task, task_parts(task, fields, images, wording=wording, max_tokens=max_tokens))

    def _task(self, task: str, parts: Sequence[Part]) -> Prompt:
        return task_prompt(task, parts, self.text_tokenizer, self.image_tokenizer, self.vocabulary)

    def run(
        self,
        asked: Sequence[Prompt],
        samplings: SamplingConfig | Sequence[SamplingConfig] | None = None,
        samples: int | Sequence[int] = 1,
        *,
        label: str | None = None,
        bar: Any = None,
        watch: Watch | None = None,
    ) -> list[list[Generation]]:
        """For each prompt its samples, best of which nobody has chosen yet. The options are those of `Engine.draw`."""
        every = self.image_tokenizer.grid[1]  # a row of pictures
        return self._engine.draw(
            asked, samplings or SamplingConfig(), samples=samples, label=label, bar=bar, watch=watch, every=every
        )

    def question(self, asked: Prompt, answers: Sequence[str]) -> Question:
        """A prompt with one hole, for a text, and texts that may stand there, each encoded on its own as in training.
        Raises `UserError` as `likelihood.question_of` does."""
        return self._engine.question(asked, [self.text_tokenizer.encode(answer) for answer in answers])

    def logprobs(self, questions: Sequence[Question], *, bar: Any = None) -> list[np.ndarray]:
        """How probable each answer of each question is: float32 [answers], nats (`Engine.logprobs`)."""
        return self._engine.logprobs(questions, bar=bar)

    def pictures(self, generations: Sequence[Generation]) -> np.ndarray:
        """The last document's picture of each, uint8 [N, R, R, 3]; what is missing of unfinished ones is grey."""
        return decode_with_holes(self.image_tokenizer, [generation.image for generation in generations])

    def text(self, generation: Generation) -> str:
        """The last document's text."""
        return self.text_tokenizer.decode(generation.text)

    def generate(
        self,
        asked: Sequence[Sequence[Part] | Prompt],
        sampling: SamplingConfig | Sequence[SamplingConfig] | None = None,
        *,
        samples: int = 1,
        label: str | None = None,
    ) -> list[list[Drawn]]:
        """In one call: for each list of parts (`ask`), or prompt, its samples, the best first: by CLIP where there is a
        retriever, and a text and a picture in all of them, else by log-probability."""
        prompts = [one if isinstance(one, Prompt) else self.ask(one) for one in asked]
        return self.drawn(self.run(prompts, sampling, samples, label=label))

    def drawn(self, results: Sequence[Sequence[Generation]]) -> list[list[Drawn]]:
        """What `run` gave, as pictures and texts; the samples of each prompt are ranked."""
        return ranked(results, self.text_tokenizer, self.image_tokenizer, self.retriever)

    def ask_all(self, requests: Sequence[Request]) -> list[tuple[Prompt, list[RetrievedDocument]] | UserError]:
        """The prompt of each request, checked, with the documents retrieved for it; or what is wrong with it."""
        found: list[list[RetrievedDocument]] = [[] for _ in requests]
        for count in sorted({request.retrieved for request in requests} - {0}) if self.library else ():
            places = [place for place, request in enumerate(requests) if request.retrieved == count and request.query]
            for place, documents in zip(places, self.retrieve([requests[p].query for p in places], count), strict=True):
                found[place] = documents
        asked: list[tuple[Prompt, list[RetrievedDocument]] | UserError] = []
        for request, documents in zip(with_codes(requests, self.image_tokenizer), found, strict=True):
            try:
                if request.retrieved and self.library is None:
                    raise UserError(_NO_LIBRARY)
                prompt = self._ask_request(request, documents)
                self._engine.check(prompt)
                asked.append((prompt, documents))
            except UserError as error:
                asked.append(error)
        return asked

    def _ask_request(self, request: Request, documents: Sequence[RetrievedDocument]) -> Prompt:
        if request.task:
            return self._task(request.task, request.parts)
        return self.ask([*documents, *request.parts])

    def text_to_image(
        self,
        texts: Sequence[str],
        *,
        retrieved: Retrieved = 0,
        n: int = 1,
        sampling: SamplingConfig | None = None,
        label: str | None = None,
    ) -> np.ndarray:
        """Draws n pictures of each text -> uint8 [N, n, R, R, 3]. With a `label` a progress bar is shown."""
        asked = [
            self.ask_text_to_image(text, found)
            for text, found in zip(texts, self._documents(texts, retrieved), strict=True)
        ]
        images = self.pictures([one for each in self.run(asked, sampling, n, label=label) for one in each])
        return images.reshape(len(texts), n, *images.shape[1:])

    def best_of(self, texts: Sequence[str], pictures: np.ndarray) -> np.ndarray:
        """Of n pictures of each text, uint8 [N, n, R, R, 3], the one that CLIP finds closest to it: [N, R, R, 3]."""
        if self.retriever is None:
            raise UserError("CLIP chooses among several pictures: name a retriever, or draw one picture of each text")
        return best_of.choose_best(pictures, best_of.clip_scores(self.retriever, texts, pictures))

    def image_to_text(
        self,
        images: np.ndarray,
        *,
        sampling: SamplingConfig | None = None,
        max_text: int = 64,
        label: str | None = None,
    ) -> list[str]:
        """uint8 [N, R, R, 3] -> a text each, of at most `max_text` tokens."""
        asked = [self.ask_image_to_text(codes, max_text) for codes in self.image_tokenizer.encode(images)]
        return [self.text(one) for (one,) in self.run(asked, sampling, label=label)]

    def fill_image(
        self,
        texts: Sequence[str],
        images: np.ndarray,
        hidden: np.ndarray,
        *,
        retrieved: Retrieved = 0,
        sampling: SamplingConfig | None = None,
        label: str | None = None,
    ) -> np.ndarray:
        """Draws anew the cells of each picture's token grid that are `hidden` (bool [N, rows, columns], see
        `requests.hidden_cells`), given the rest of the picture and the text -> uint8 [N, R, R, 3]."""
        asked = [
            self.ask_fill_image(text, codes, mask, found)
            for text, codes, mask, found in zip(
                texts, self.image_tokenizer.encode(images), hidden, self._documents(texts, retrieved), strict=True
            )
        ]
        return self.pictures([one for (one,) in self.run(asked, sampling, label=label)])

    def edit_image(
        self,
        instructions: Sequence[str],
        images: np.ndarray,
        *,
        n: int = 1,
        sampling: SamplingConfig | None = None,
        label: str | None = None,
    ) -> np.ndarray:
        """Changes each picture as its instruction says, n times -> uint8 [N, n, R, R, 3]."""
        encoded = self.image_tokenizer.encode(images)
        asked = [self.ask_edit_image(text, codes) for text, codes in zip(instructions, encoded, strict=True)]
        edited = self.pictures([one for each in self.run(asked, sampling, n, label=label) for one in each])
        return edited.reshape(len(asked), n, *edited.shape[1:])

    def _documents(self, texts: Sequence[str], retrieved: Retrieved) -> Sequence[Sequence[RetrievedDocument]]:
        return self.retrieve(texts, retrieved) if isinstance(retrieved, int) else retrieved


def _open_library(prepared: Path, retriever: Retriever | None, text: TextTokenizer, image: ImageTokenizer) -> Library:
    # Here alone: drawing without documents needs no record files.
    from cm3leon_jax.data.shards import BANK_SPLIT, PreparedData

    if retriever is None:
        raise UserError(f"documents in {prepared} are found by a retriever; name the one that they were prepared with")
    data = PreparedData(prepared)
    data.check(text=text.fingerprint, image=image.fingerprint, retriever=retriever.fingerprint)
    bank = MemoryBank.load(data.memory_bank_directory, encoder_fingerprint=retriever.fingerprint)
    return Library(retriever, bank, data.split(BANK_SPLIT), image, data.selection)
