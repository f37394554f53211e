"""ScienceQA as its authors published it, and as the Hugging Face Hub has it."""

import io

import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from published_files import levels, opened, picture, read, said, write

from cm3leon_jax.runtime.errors import UserError


def problem(**changed):
    return {
        "question": "Which is it?", "choices": ["a fern", "a moss"], "answer": 1, "hint": "", "image": "image.png",
        "task": "closed choice", "grade": "grade2", "subject": "natural science", "topic": "biology",
        "category": "Plants", "skill": "Identify", "lecture": "Plants are.", "solution": "", "split": "train",
    } | changed  # fmt: skip


PROBLEMS = {
    "1": problem(), "2": problem(solution="It is small.", hint="See the picture."), "3": problem(image=None),
    "4": problem(split="val"), "5": problem(answer=2), "6": problem(choices="ab"), "7": problem(answer="x"),
    "8": problem(question=""), "9": problem(choices=["a", None]), "10": problem(image="../1/image.png"),
    "11": problem(), "12": "x",
}  # fmt: skip


@pytest.mark.parametrize("below", ["", "images/"])
def test_problems(tmp_path, below):
    for n, split in enumerate(("train", "train", "train", "val", *["train"] * 6), start=1):
        picture(tmp_path, f"{below}{split}/{n}/image.png", 10 * n)
    write(tmp_path / "problems.json", PROBLEMS)
    good, bad = read(f"scienceqa:{tmp_path}")
    assert {id: levels(each) for id, each in good.items()} == {"1": [10], "2": [20]}
    fields = {"question": "Which is it?", "context": "", "choices": "(A) a fern (B) a moss", "answer": "(B)"}
    assert said(good["1"]) == ("science", fields)
    assert said(good["2"])[1] == fields | {"context": "See the picture.", "explanation": "It is small."}
    metadata = good["2"].metadata
    assert metadata["answer"] == 1 and metadata["choices"] == ["a fern", "a moss"] and metadata["grade"] == "grade2"
    assert (metadata["has_hint"], metadata["has_lecture"], metadata["has_solution"]) == (True, True, True)
    assert not good["1"].metadata["has_hint"] and good["1"].metadata["subject"] == "natural science"
    expected = {
        "5": "answer 2 is none of 2", "6": "no list of 2 to 26", "7": "no whole number", "8": "no text 'question'",
        "9": "no text 'choice'", "10": "leaves the folder", "11": "no picture", "12": "not a JSON object",
    }  # fmt: skip
    assert bad.keys() == expected.keys()
    for id, words in expected.items():
        assert words in bad[id]
    assert list(read(f"scienceqa:{tmp_path}?split=validation")[0]) == ["4"]


def test_the_hubs_tables(tmp_path):
    file = io.BytesIO()
    PIL.Image.new("RGB", (4, 4), (50, 0, 0)).save(file, "PNG")
    image = {"bytes": file.getvalue(), "path": "image.png"}
    rows = [problem(image=image), problem(image=None), problem(image=image, answer=5), problem(image=image, hint="h")]
    rows[1]["image"] = {"bytes": None, "path": None}
    rows.append(problem(image=None))
    (tmp_path / "data").mkdir()
    for name in ("train-00000-of-00001-x", "validation-00000-of-00001-y"):
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / f"data/{name}.parquet", row_group_size=2)
    good, bad = read(f"scienceqa:{tmp_path}?split=val")
    names = [f"validation-00000-of-00001-y/{n}" for n in range(5)]
    assert list(good) == [names[0], names[3]] and list(bad) == [names[2]]
    assert levels(good[names[3]]) == [50] and said(good[names[3]])[1]["context"] == "h"
    assert good[names[0]].metadata["split"] == "val"
    with pytest.raises(UserError, match="no parquet file"):
        opened(f"scienceqa:{tmp_path}?split=test")
