"""VQA 2.0, OK-VQA and VizWiz as they are published."""

import numpy as np
import pytest
from published_files import levels, opened, picture, read, said, write
from sources import read_all

from cm3leon_jax.data.sources import open_source
from cm3leon_jax.runtime.errors import UserError


def answers(*texts):
    return [{"answer": text, "answer_confidence": "yes", "answer_id": n} for n, text in enumerate(texts, start=1)]


def question(id, image, text="What is it?"):
    return {"question_id": id, "image_id": image, "question": text}


def annotation(id, image, *texts):
    return {
        "question_id": id, "image_id": image, "answers": answers(*texts), "answer_type": "other",
        "question_type": "what is", "multiple_choice_answer": texts[0] if texts else "",
    }  # fmt: skip


def write_vqa(folder, questions, annotations, split="train2014", names=("v2_OpenEnded_mscoco", "v2_mscoco")):
    head = {"info": {}, "license": {}, "data_subtype": split, "data_type": "mscoco"}
    write(folder / f"{names[0]}_{split}_questions.json", {**head, "questions": questions, "task_type": "Open-Ended"})
    write(folder / f"{names[1]}_{split}_annotations.json", {**head, "annotations": annotations})


@pytest.fixture
def folder(tmp_path):
    ten = ("cat", "cat", "a cat", *["kitten"] * 7)
    picture(tmp_path, "train2014/COCO_train2014_000000000009.jpg", 90)
    picture(tmp_path, "val2014/COCO_val2014_000000000042.jpg", 150)
    write_vqa(tmp_path, [question(9000, 9), question(9001, 9, "How many?")], [annotation(9001, 9, *"1" * 10), annotation(9000, 9, *ten)])  # fmt: skip # noqa: E501
    write_vqa(tmp_path, [question(42000, 42)], [annotation(42000, 42, *["no"] * 10)], "val2014")
    return tmp_path


def test_all_answers_are_there_to_draw_from(folder):
    good, bad = read(f"vqa2:{folder}")
    assert not bad and list(good) == ["9000", "9001"]
    task, fields = said(good["9000"])
    assert task == "vqa" and fields == {"question": "What is it?", "answer": ["cat", "cat", "a cat", *["kitten"] * 7]}
    assert levels(good["9000"]) == [90] and good["9001"].caption == "Question: How many? Answer: 1."
    metadata = good["9000"].metadata
    assert metadata["question_id"] == 9000 and metadata["image_id"] == 9 and metadata["split"] == "train"
    assert metadata["answers"][2] == {"answer": "a cat", "answer_confidence": "yes", "answer_id": 3}
    assert metadata["answer_type"] == "other" and metadata["question_type"] == "what is"


def test_the_split_that_is_named(folder):
    for spec in (f"vqa2:{folder}?split=val", f"vqa2:{folder}/v2_OpenEnded_mscoco_val2014_questions.json"):
        good, _ = read(spec)
        assert list(good) == ["42000"] and good["42000"].metadata["split"] == "val" and levels(good["42000"]) == [150]
    source = open_source(f"vqa2:{folder}?split=val&as=test")
    assert [len(source.split(name)) for name in ("train", "validation", "test")] == [0, 0, 1]
    with pytest.raises(UserError, match=r"of split 'test'.*there is split=train, split=val"):
        opened(f"vqa2:{folder}?split=test")


def test_questions_about_a_picture_are_held_out_together(tmp_path):
    for image in range(40):
        picture(tmp_path, f"{image:012d}.jpg")
    write_vqa(tmp_path, [question(n, n % 40) for n in range(120)], [annotation(n, n % 40, "x") for n in range(120)])
    source = open_source(f"vqa2:{tmp_path}", validation_share=0.3, test_share=0.3)
    images = [{each.metadata["image_id"] for each in read_all(source.split(name))[0].values()} for name in source.splits]  # fmt: skip # noqa: E501
    assert sum(map(len, images)) == 40 and min(map(len, images)) > 0


def test_what_is_no_question_with_answers_is_a_bad_example(tmp_path):
    picture(tmp_path, "000000000001.jpg")
    write_vqa(
        tmp_path,
        [
            question(1, 1), question(2, 1), question(3, 1), question(4, 1), question(5, 1, " "), question(6, 2),
            {"question_id": 7, "question": "?"}, "x", question(8, 1), question(9, 1), question(-1, 1), question(10, 1),
        ],
        [
            annotation(1, 1, "x"), annotation(3, 1, "", " "), annotation(4, 1), annotation(5, 1, "x"),
            annotation(6, 2, "x"), {"question_id": 8, "answers": ["yes"]}, annotation(10, 1, "x", "", "y"),
            {"question_id": 9, "answers": [{"answer": 3}]},
        ],
    )  # fmt: skip
    good, bad = read(f"vqa2:{tmp_path}")
    assert list(good) == ["1", "10"] and said(good["10"])[1]["answer"] == ["x", "y"]
    expected = {
        "2": "no annotation", "3": "all answers are empty", "4": "no 'answers'", "5": "'question' is no text",
        "6": "no picture 000000000002.jpg", "questions:7": "no 'image_id'", "questions:8": "not a JSON object",
        "8": "no list of objects", "9": "'answer' is no text: 3", "questions:11": "'question_id' is no whole number",
    }  # fmt: skip
    assert bad.keys() == expected.keys()
    for id, words in expected.items():
        assert words in bad[id]


def test_okvqa(tmp_path):
    picture(tmp_path, "val2014/COCO_val2014_000000000042.jpg", 150)
    rows = [{**annotation(1, 42, *["race"] * 10), "question_type": "two", "confidence": 3}]
    write_vqa(tmp_path, [question(1, 42)], rows, "val2014", ("OpenEnded_mscoco", "mscoco"))
    good, bad = read(f"okvqa:{tmp_path}?split=val")
    assert not bad and said(good["1"])[1]["answer"] == ["race"] * 10 and good["1"].metadata["confidence"] == 3


def test_vizwiz(tmp_path):
    picture(tmp_path, "train/VizWiz_train_00000000.jpg", 60)
    rows = [
        {"image": "VizWiz_train_00000000.jpg", "question": "What?", "answer_type": "other", "answerable": 1,
         "answers": [{"answer": "basil", "answer_confidence": "yes"},
                     {"answer": "leaves", "answer_confidence": "maybe"}]},
        {"image": "../a.jpg", "question": "What?", "answers": [{"answer": "unanswerable"}]},
        {"image": "VizWiz_train_00000001.jpg", "question": "What?", "answers": [{"answer": "unanswerable"}]},
        {"question": "What?"},
    ]  # fmt: skip
    picture(tmp_path, "train/VizWiz_train_00000002.jpg", 70)
    rows.append({**rows[2], "image": "VizWiz_train_00000002.jpg", "answerable": 0})
    write(tmp_path / "Annotations/train.json", rows)
    good, bad = read(f"vizwiz:{tmp_path}")
    assert said(good["VizWiz_train_00000000.jpg"]) == ("vqa", {"question": "What?", "answer": ["basil", "leaves"]})
    metadata = good["VizWiz_train_00000000.jpg"].metadata
    assert metadata["answerable"] == 1 and metadata["answers"][1]["answer_confidence"] == "maybe"
    unanswerable = good["VizWiz_train_00000002.jpg"]
    assert said(unanswerable)[1]["answer"] == ["unanswerable"] and unanswerable.metadata["answerable"] == 0
    assert "leaves the folder" in bad["../a.jpg"] and "no 'image'" in bad["rows:4"].replace("text ", "")
    assert "no picture" in bad["VizWiz_train_00000001.jpg"] and len(good) == 2


def test_what_is_no_such_data_set_ends_in_one_line(folder):
    for spec, words in {
        f"vqa2:{folder}/absent": "no folder", f"vqa2:{folder}?split=all": "train, val or test",
        f"vqa2:{folder}?sigma=2": "its options are split=", f"vqa2:{folder}?as=all": "as= is one of",
        f"vqa2:{folder}?images=absent": "correct images=", f"vizwiz:{folder}": "no annotations file train.json",
        f"okvqa:{folder}": "no questions file",
    }.items():  # fmt: skip
        with pytest.raises(UserError, match=words) as raised:
            opened(spec)
        assert "\n" not in str(raised.value)
    write(folder / "v2_mscoco_train2014_annotations.json", {"images": [], "info": {}})
    with pytest.raises(UserError, match=r"no 'annotations' that is a list; its keys are images, info"):
        opened(f"vqa2:{folder}")
    write(folder / "v2_mscoco_train2014_annotations.json", '{"annotations": [')
    with pytest.raises(UserError, match="cannot be read as JSON"):
        opened(f"vqa2:{folder}")
    write(folder / "v2_OpenEnded_extra_train2014_questions.json", {})
    with pytest.raises(UserError, match=r"several questions files.*\?questions=FILE"):
        opened(f"vqa2:{folder}")


def test_noise_never_breaks_the_reader(folder):
    path = folder / "v2_mscoco_train2014_annotations.json"
    whole = np.frombuffer(path.read_bytes(), np.uint8)
    readable = 0
    for seed in range(150):
        rng = np.random.default_rng(seed)
        noisy = whole.copy()
        places = rng.integers(0, len(whole), rng.integers(1, 8))
        noisy[places] = rng.integers(0, 256, len(places)) if seed % 2 else rng.integers(32, 127, len(places))
        path.write_bytes(noisy.tobytes() if seed % 10 else bytes(rng.integers(0, 256, 200, np.uint8)))
        try:
            good, _ = read(f"vqa2:{folder}")
            readable += bool(good)
        except UserError as error:
            assert "\n" not in str(error)
    assert readable > 10
