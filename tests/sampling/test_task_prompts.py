"""A task is asked for in the words of its training, and its answer is read back alone."""

import json

import numpy as np
import PIL.Image
import pytest
from tiny_generator import CONFIG, VOCABULARY, Blocks, Letters, random_params

from cm3leon_jax import cli
from cm3leon_jax.data.instruction_preprocessors import lay_out
from cm3leon_jax.documents import mask
from cm3leon_jax.instructions.tasks import TASKS
from cm3leon_jax.runtime.files import read_json_lines
from cm3leon_jax.sampling.parts import Continuation, prompt_of
from cm3leon_jax.sampling.pipeline import Generator
from cm3leon_jax.sampling.prompts import DRAW, DRAW_SPAN, TextHole, edit_image
from cm3leon_jax.sampling.requests import RequestReader
from cm3leon_jax.sampling.rules import SamplingConfig
from cm3leon_jax.sampling.tasks import task_parts, task_prompt
from cm3leon_jax.tokenizers.text import TextTokenizerConfig, train_text_tokenizer
from cm3leon_jax.vocabulary import EOS_ID, Vocabulary

WORDINGS = [(task, number) for task, found in TASKS.items() for number in range(len(found.patterns))]
PICTURE = Blocks().decode(np.arange(16)[None])[0]


@pytest.mark.parametrize("text", [".", "s", "n", "t", "?", " ok", "s are red"])
def test_a_continuation_keeps_its_text_whatever_pieces_there_are(words, text):
    """Also where "a" with its first letters is one piece."""
    vocabulary = Vocabulary(text_size=words.size, image_size=24, num_sentinels=8, multiple_of=16)
    found = prompt_of(["a", TextHole(2), Continuation(text), np.arange(16)], words, Blocks(), vocabulary)
    ids = found.conditional[: found.start[0]]
    behind = ids[np.flatnonzero(ids == vocabulary.sentinel_id(0))[0] + 1 :]
    said = behind[: int(np.argmax(behind == vocabulary.break_id))]
    assert words.decode(said).strip() == text.strip()


class Initials(Letters):
    """The first letter of each word: prompts that fit into the tiny decoder."""

    def encode(self, text):
        return super().encode([word[0].lower() for word in text.split()])


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    texts = [pattern for task in TASKS.values() for pattern in task.patterns] + ["a red circle. a blue star."] * 20
    config = TextTokenizerConfig(size=500, model_type="bpe")
    return train_text_tokenizer(texts, config, tmp_path_factory.mktemp("words") / "tokenizer")


@pytest.fixture(scope="module")
def generator():
    return Generator(CONFIG, VOCABULARY, random_params(), Initials(), Blocks(), batch_size=4)


def trained_on(template, values, images, words, vocabulary):
    """The sequence of the filled template with the answers of its texts hidden, and these, each its ids."""
    ids, found = lay_out(template.fill(values), images, words, vocabulary)
    spans = [span for span in found if vocabulary.is_text(ids[span.start : span.stop]).all()]
    return mask(ids, spans, vocabulary), [ids[span.start : span.stop] for span in spans]


@pytest.mark.parametrize(("task", "number"), WORDINGS)
def test_a_prompt_filled_with_its_answers_is_what_was_trained_on(task, number, words):
    vocabulary = Vocabulary(text_size=words.size, image_size=24, num_sentinels=8, multiple_of=16)
    template = TASKS[task].templates[number]
    values = {name: f"the {name}, a red circle (10, 20) -> (3, 4)." for name in template.texts}
    images = list(np.arange(16 * len(template.images)).reshape(-1, 16) % 24)
    trained, answers = trained_on(template, values, images, words, vocabulary)
    given = {name: values[name] for name in template.given_texts}
    parts = task_parts(task, given, images[: len(template.given_images)], wording=number, max_tokens=90)
    prompt = task_prompt(task, parts, words, Blocks(), vocabulary)

    start = prompt.start[0]
    np.testing.assert_array_equal(prompt.conditional[:start], trained[:start])
    drawn = prompt.plan.copy()
    drawn[drawn == DRAW] = vocabulary.image_ids(images[-1])[: (drawn == DRAW).sum()]
    holes = np.flatnonzero((drawn == DRAW_SPAN) & (np.append(0, drawn[:-1]) != DRAW_SPAN))
    for hole, answer in zip(holes, answers, strict=True):
        drawn[hole : hole + len(answer) + 1] = [*answer, vocabulary.eoss_id]
    np.testing.assert_array_equal(prompt.complete(drawn, vocabulary), trained)
    found = prompt.drawn_texts(drawn, vocabulary)
    assert [ids.tolist() for ids in found] == [ids.tolist() for ids in answers]
    assert len(prompt.parse(drawn, vocabulary)) == 1


def test_what_the_streams_do_not_read(generator):
    ids, codes = generator.text_tokenizer.encode, np.arange(16)
    s0, s1, end = VOCABULARY.sentinel_id(0), VOCABULARY.sentinel_id(1), VOCABULARY.break_id
    edit = generator.ask_task("edit", {"instruction": "make it blue"}, [PICTURE])
    task = ids("Edit first image following the instruction")
    same = edit_image(ids("make it blue"), codes, task=task, image_tokens=16, vocabulary=VOCABULARY)
    assert [t.tolist() for t in edit.templates] == [t.tolist() for t in same.templates] and len(edit.templates) == 3
    canny = generator.ask_task("canny", {"prompt": "a cat"}, [codes])
    said = ids("Make high quality image from canny edge").tolist()
    assert canny.unconditional.tolist() == [EOS_ID, *said, end, s0, end, s1, end, *[DRAW] * 16, EOS_ID]
    rendering = generator.ask_task("text_rendering", {"text": "a cat"})
    assert rendering.unconditional.tolist() == [EOS_ID, s0, end, *[DRAW] * 16, EOS_ID]
    vqa = generator.ask_task("vqa", {"question": "what"}, [PICTURE], max_tokens=2)
    asked = ids("Question: what Answer:").tolist()
    tail = [s0, DRAW_SPAN, DRAW_SPAN, VOCABULARY.eoss_id, EOS_ID]
    assert vqa.unconditional.tolist() == [EOS_ID, *asked, s0, *ids("."), end, s1, *tail]


def test_answers_are_drawn_alone(generator):
    science = {"question": "why", "choices": "so"}
    asked = [
        generator.ask_task("vqa", {"question": "what"}, [PICTURE], max_tokens=5),
        generator.ask_task("science", science, [PICTURE], wording=1, max_tokens=5),
        generator.ask_task("edit", {"instruction": "dog"}, [PICTURE]),
        generator.ask_task("canny", {"prompt": "cat"}, [PICTURE]),
    ]
    (vqa,), (science,), (edit,), (canny,) = generator.generate(asked, SamplingConfig(seed=2))
    encode, decode = generator.text_tokenizer.encode, generator.text_tokenizer.decode
    before, behind = decode(encode("Question: what Answer:")), decode(encode("."))
    assert vqa.texts == [before + vqa.answer[0] + behind] and len(vqa.answer) == 1 and vqa.answer[0]
    (text,) = science.texts
    explanation, answer = science.answer
    assert text == decode(encode("Question: why Context: N/A Options: so Answer: Let's think step-by-step:")) + (
        explanation + decode(encode("So the answer is")) + answer + behind
    )
    assert len(edit.images) == len(canny.images) == 1 and edit.answer == canny.answer == []
    assert (edit.images[0] != canny.images[0]).any()
    sharper = SamplingConfig(seed=2, guidance_scale=9.0)
    ((other,),) = generator.generate(asked[3:], sharper)
    assert (other.images[0] != canny.images[0]).any()


def test_the_command_asks_a_task(generator, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(Generator, "load", lambda *_, **__: generator)
    monkeypatch.chdir(tmp_path)
    PIL.Image.fromarray(PICTURE).save("a.png")
    models = [x for name in ("decoder", "text_tokenizer", "image_tokenizer") for x in (f"--{name}", "none")]
    asked = ["--image", "a.png", "--question", "what", "--image", "a.png", "--question", "why"]
    assert cli.main(["sample", *models, "--task", "vqa", *asked, "--max_tokens", "5", "--output", "out"]) == 0
    first, second = read_json_lines(tmp_path / "out/results.jsonl")
    assert (first["task"], first["question"], second["question"]) == ("vqa", "what", "why")
    printed = capsys.readouterr().out.splitlines()
    for line, result in zip(printed[-3:-1], (first, second), strict=True):
        (answer,) = result["answers"][0]["answer"]
        assert line.endswith(f"  {answer}") and len(answer) <= 5
    reader = RequestReader(lambda _: PICTURE, Blocks.grid, SamplingConfig(), max_tokens=5)
    request = reader.read(json.loads('{"task": "vqa", "image": "a.png", "question": "what"}'))
    ((prompt, _),) = generator.ask_all([request])
    expected = generator.ask_task("vqa", {"question": "what"}, [PICTURE], max_tokens=5)
    np.testing.assert_array_equal(prompt.conditional, expected.conditional)
    ((drawn,),) = generator.drawn(generator.run([prompt], SamplingConfig()))
    assert first["answers"][0]["answer"] == drawn.answer

    for wrong, words in (
        (["--task", "vqa", "--image", "a.png"], "question is missing"),
        (["--task", "vqa", *asked, "--retrieved", "1"], "without retrieved documents"),
        (["--question", "what"], "--question belongs to a task"),
    ):
        assert cli.main(["sample", *models, *wrong]) == 2 and words in capsys.readouterr().err
