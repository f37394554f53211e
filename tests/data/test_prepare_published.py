"""Data sets as they are published, prepared: their instructions and metadata are in the documents."""

import json

import numpy as np
import PIL.Image
import pytest
from prepare_fakes import Hashes, Means, Words

from cm3leon_jax.data.prepare import PrepareConfig
from cm3leon_jax.data.prepare.job import Models, NoRetriever
from cm3leon_jax.data.prepare.pipeline import prepare
from cm3leon_jax.data.sources import open_source
from cm3leon_jax.instructions.instruction import KEY
from cm3leon_jax.retrieval.memory_bank import MemoryBankConfig
from cm3leon_jax.runtime.errors import UserError

CONFIG = PrepareConfig(
    examples_per_shard=16,
    batch_size=6,
    num_sentinels=8,
    vocabulary_multiple_of=64,
    near_copies="keep",
    held_out_copies="keep",
)


def picture(path, number):
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(np.random.default_rng(number).integers(0, 256, (8, 10, 3), dtype=np.uint8)).save(path)


def write_vqa(folder, questions):
    for n in range(questions):
        picture(folder / f"train2014/COCO_train2014_{n:012d}.png", n)
        (folder / f"train2014/COCO_train2014_{n:012d}.png").rename(folder / f"train2014/COCO_train2014_{n:012d}.jpg")
    rows = [{"question_id": 7 * n, "image_id": n, "question": f"What is {n}?"} for n in range(questions + 1)]
    (folder / "v2_OpenEnded_mscoco_train2014_questions.json").write_text(json.dumps({"questions": rows}))
    answers = [{"answer": f"a{k}", "answer_confidence": "yes"} for k in range(10)]
    rows = [{"question_id": 7 * n, "answers": answers} for n in range(questions + 1)]
    (folder / "v2_mscoco_train2014_annotations.json").write_text(json.dumps({"annotations": rows}))


def write_edits(folder, edits):
    for n in range(edits):
        picture(folder / f"{n:07d}/5_0.png", 100 + n)
        picture(folder / f"{n:07d}/5_1.png", 200 + n)
        (folder / f"{n:07d}/prompt.json").write_text(json.dumps({"edit": f"make it {n}"}))
    (folder / "seeds.json").write_text(json.dumps([[f"{n:07d}", ["5"]] for n in range(edits)]))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("published")
    write_vqa(folder / "vqa", 12)
    write_edits(folder / "edits", 5)
    spec = f"vqa2:{folder}/vqa?as=train + instructpix2pix:{folder}/edits?as=train"
    models = Models(Words(), Means(), Hashes())
    return prepare(lambda: open_source(spec), lambda: models, folder / "out", CONFIG, memory_bank=MemoryBankConfig())


def test_documents_hold_instructions_and_metadata(data):
    questions = data.split("train")
    assert len(questions) == 12 and questions[1].id == "0/7"
    metadata = questions[1].metadata
    assert metadata[KEY]["fields"]["answer"] == [f"a{k}" for k in range(10)]
    assert metadata["question_id"] == 7 and metadata["answers"][3] == {"answer": "a3", "answer_confidence": "yes"}
    edits = data.split("train.interleaved")
    assert [each.id for each in (edits[n] for n in range(len(edits)))] == [f"1/{n:07d}/5" for n in range(5)]
    assert edits[2].metadata[KEY] == {"task": "edit", "fields": {"instruction": "make it 2"}}


def test_boxes_for_another_square_are_refused(tmp_path):
    picture(tmp_path / "train2017/a.png", 1)
    found = {"images": [{"id": 9, "file_name": "a.png", "width": 10, "height": 8}],
             "annotations": [{"image_id": 9, "category_id": 1, "bbox": [1, 1, 5, 5], "iscrowd": 0}],
             "categories": [{"id": 1, "name": "dog"}]}  # fmt: skip
    (tmp_path / "instances_train2017.json").write_text(json.dumps(found))

    def prepared(options, name):
        spec = f"coco_boxes:{tmp_path}?as=train{options}"
        models = Models(Words(), Means(), NoRetriever())
        return prepare(lambda: open_source(spec), lambda: models, tmp_path / name, CONFIG)

    for options in ("", "&resolution=8&fit=pad"):
        with pytest.raises(UserError, match=r"name the source with \?resolution=8&fit=crop"):
            prepared(options, "refused")
    assert len(prepared("&resolution=8", "out").split("train")) == 1


def test_what_is_missing_is_quarantined(data):
    rows = [json.loads(line) for line in (data.directory / "quarantine.jsonl").read_text().splitlines()]
    assert [(row["id"], row["reason"]) for row in rows] == [("0/84", "no picture 000000000012.jpg")]
