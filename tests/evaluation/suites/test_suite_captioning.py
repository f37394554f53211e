"""Captions: all references of a picture count, and figures are those of the metrics."""

import pytest
from stand_ins import Told, level, pairs_folder, picture, work_in, write
from tiny_generator import tiny_generator

from cm3leon_jax.evaluation.metrics.bleu import bleu
from cm3leon_jax.evaluation.metrics.captions import caption_scores
from cm3leon_jax.evaluation.metrics.cider import cider_d
from cm3leon_jax.evaluation.metrics.score import mean_score
from cm3leon_jax.evaluation.metrics.tokenizer import tokenize
from cm3leon_jax.evaluation.suites import captioning as suite
from cm3leon_jax.evaluation.suites.captioning import captioning
from cm3leon_jax.runtime.errors import UserError

SAID = [["A cat sits on a mat.", "a cat"], ["Two dogs run."], ["a red ball", "one ball", "the ball is red"]]


@pytest.fixture
def coco(tmp_path):
    images, annotations = [], []
    for number, of_one in enumerate(SAID):
        picture(tmp_path / "coco" / f"{number + 1:012d}.jpg", 10 * number)
        images.append({"id": number + 1, "file_name": f"{number + 1:012d}.jpg"})
        annotations += [(number + 1, caption) for caption in of_one]
    rows = [{"id": n, "image_id": image, "caption": caption} for n, (image, caption) in enumerate(annotations[::-1])]
    write(tmp_path / "coco" / "captions_val2014.json", {"images": images, "annotations": rows})
    return f"coco_captions:{tmp_path / 'coco'}?split=val"


def test_figures_for_known_captions(coco, tmp_path):
    told = ["a cat sits on a mat", "two dogs", "a ball"]
    generator = Told(lambda request, _: [told[round(level(request) / 10)]])
    result = captioning(work_in(tmp_path / "out", generator, coco_captions=coco, caption_tokens=9, shown=1))
    found = {each.name: each for each in result.figures}
    assert list(found) == ["CIDEr-D", "BLEU-4", "ROUGE-L"] and {each.examples for each in result.figures} == {3}
    tokens = [tokenize(each) for each in told]
    references = [[tokenize(each) for each in of_one] for of_one in SAID]
    assert found["CIDEr-D"].value == pytest.approx(cider_d(tokens, references).value)
    assert found["BLEU-4"].value == pytest.approx(bleu(tokens, references)["BLEU-4"].value)
    (request, *_) = generator.asked
    assert request.task == "caption" and request.parts[0].max_tokens == 9 and len(generator.asked) == 3
    # Annotations were written the other way round: the picture met first is the last.
    assert result.shown[0].title == "a ball" and ("people", "one ball") in result.shown[0].lines


def test_several_data_sets_and_other_sources(coco, tmp_path):
    pairs = pairs_folder(tmp_path / "pairs", [["a dog.", "the dog."]] * 30)
    generator = Told(lambda request, _: ["a dog"])
    settings = {"coco_captions": coco, "image_paragraph": pairs, "examples": 2, "paragraph_tokens": 33}
    result = captioning(work_in(tmp_path / "out", generator, split="train", **settings))
    assert [each.data for each in result.figures] == ["coco_captions"] * 3 + ["image_paragraph"] * 3
    assert {name: count.scored for name, count in result.counts.items()} == {"coco_captions": 2, "image_paragraph": 2}
    assert {(each.task, each.parts[-2].max_tokens) for each in generator.asked} == {("caption", 64), ("paragraph", 33)}


def test_a_tiny_model_end_to_end(coco, tmp_path):
    result = captioning(work_in(tmp_path / "out", tiny_generator(), coco_captions=coco, caption_tokens=4))
    assert result.counts["coco_captions"].scored == 3


def test_meteor_where_its_data_are_named(coco, tmp_path, monkeypatch):
    generator = Told(lambda *_: ["a cat"])
    work = work_in(tmp_path / "out", generator, coco_captions=coco, meteor_jar="m.jar", meteor_paraphrases="p.gz")
    with pytest.raises(UserError, match=r"p\.gz is not there"):
        captioning(work)
    assert not generator.asked
    monkeypatch.setattr(suite, "read_meteor_data", lambda *paths: paths)
    scores = caption_scores(["a"] * 3, [["a"]] * 3)
    monkeypatch.setattr(suite, "caption_scores", lambda *_, meteor_data: {**scores, "METEOR": mean_score([0.3] * 3)})
    last = captioning(work).figures[-1]
    assert last.name == "METEOR" and last.value == pytest.approx(0.3)


def test_nothing_held_out(tmp_path):
    pairs = pairs_folder(tmp_path / "pairs", [["a"]])
    with pytest.raises(UserError, match=r"0 of \d+ examples of folder:.* cannot be used|has no split"):
        captioning(work_in(tmp_path / "out", Told(lambda *_: ["a"]), coco_captions=pairs, split="validation"))
