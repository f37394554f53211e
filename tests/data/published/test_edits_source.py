"""InstructPix2Pix as the Hugging Face Hub has it, and as its authors published it."""

import io

import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from published_files import levels, opened, picture, read, said, write

from cm3leon_jax.data.sources import open_source
from cm3leon_jax.runtime.errors import UserError


def encoded(level):
    file = io.BytesIO()
    PIL.Image.new("RGB", (8, 6), (level, 0, 0)).save(file, "PNG")
    return {"bytes": file.getvalue(), "path": None}


def table(path, rows, columns=("original_prompt", "original_image", "edit_prompt", "edited_prompt", "edited_image")):
    path.parent.mkdir(parents=True, exist_ok=True)
    data = {name: [row[n] for row in rows] for n, name in enumerate(columns)}
    pq.write_table(pa.table(data), path, row_group_size=2)


def test_the_hubs_tables(tmp_path):
    rows = [
        ("a cat", encoded(n), "make it a dog", "a dog", encoded(100 + n)) if n != 3 else
        ("a cat", encoded(n), None, "a dog", {"bytes": None, "path": None}) for n in range(5)
    ]  # fmt: skip
    rows.append(("a", {"bytes": b"noise", "path": None}, "x", "b", encoded(9)))
    table(tmp_path / "data/train-00000-of-00001-abc.parquet", rows)
    source = opened(f"instructpix2pix:{tmp_path}")
    assert len(source.split("train.interleaved")) == 5 and len(source.split("train")) == 1
    good, bad = read(f"instructpix2pix:{tmp_path}")
    names = [f"train-00000-of-00001-abc/{n}" for n in range(6)]
    assert list(good) == [names[n] for n in (0, 1, 2, 4)]
    assert [levels(each) for each in good.values()] == [[n, 100 + n] for n in (0, 1, 2, 4)]
    assert said(good[names[0]]) == ("edit", {"instruction": "make it a dog"})
    assert good[names[0]].metadata["edited_prompt"] == "a dog"
    assert bad == {names[3]: "no text 'edit_prompt'", names[5]: bad[names[5]]} and "decoded" in bad[names[5]]
    for _, read_one in [each for shard in source.shards(10) for each in shard.examples()][1:3]:
        assert levels(read_one())[1] - levels(read_one())[0] == 100
    with pytest.raises(UserError, match=r"no parquet file.*split 'val'.*train"):
        opened(f"instructpix2pix:{tmp_path}?split=val")


def test_rows_of_the_same_prompts_are_held_out_together(tmp_path):
    rows = [(encoded(0), f"make it {n // 4}", encoded(1), "a cat") for n in range(80)]
    columns = ("original_image", "edit_prompt", "edited_image", "original_prompt")
    table(tmp_path / "train-0.parquet", rows, columns)
    source = open_source(f"instructpix2pix:{tmp_path}", validation_share=0.3, test_share=0.3)
    splits = {name: source.split(name) for name in source.splits}
    edits = [{said(split[index])[1]["instruction"] for index in range(len(split))} for split in splits.values()]
    assert sum(map(bool, edits)) == 3 and sum(map(len, edits)) == 20


def test_tables_of_other_columns_end_in_one_line(tmp_path):
    table(tmp_path / "a.parquet", [("x", "y")], ("original_image", "edit_prompt"))
    with pytest.raises(UserError, match=r"'original_image' of .* holds string, not images"):
        opened(f"instructpix2pix:{tmp_path}")
    table(tmp_path / "a.parquet", [(encoded(1), "y")], ("original_image", "edit_prompt"))
    with pytest.raises(UserError, match="no column 'edited_image'; it has original_image, edit_prompt"):
        opened(f"instructpix2pix:{tmp_path}")
    write(tmp_path / "a.parquet", "noise")
    with pytest.raises(UserError, match="cannot be read as parquet"):
        opened(f"instructpix2pix:{tmp_path}")


def test_the_authors_folders(tmp_path):
    for seed, level in (("11", 20), ("12", 40)):
        picture(tmp_path, f"0000000/{seed}_0.jpg", level)
        picture(tmp_path, f"0000000/{seed}_1.jpg", level + 100)
    picture(tmp_path, "0000001/7_0.jpg")
    write(tmp_path / "0000000/prompt.json", {"input": "a cat", "edit": "make it a dog", "output": "a dog"})
    write(tmp_path / "0000001/prompt.json", {"edit": "add snow"})
    write(tmp_path / "0000002/prompt.json", {"input": "a"})
    write(tmp_path / "0000003/prompt.json", "{")
    write(tmp_path / "seeds.json", [
        ["0000000", ["11", 12]], ["0000001", ["7"]], ["0000002", ["1"]], ["0000003", ["1"]], ["0000004", ["1"]],
        ["../0000000", ["11"]], ["0000000", ["../0000000/11"]], "x", [3, ["1"]],
    ])  # fmt: skip
    good, bad = read(f"instructpix2pix:{tmp_path}")
    assert {id: levels(each) for id, each in good.items()} == {"0000000/11": [20, 120], "0000000/12": [40, 140]}
    assert said(good["0000000/12"]) == ("edit", {"instruction": "make it a dog"})
    assert good["0000000/11"].metadata["input"] == "a cat"
    assert [text for text, _ in good["0000000/11"].pairs] == ["Edit first image following the instruction", "make it a dog"]  # fmt: skip # noqa: E501
    expected = {
        "0000001/7": "no picture 0000001/7_1.jpg", "0000002": "no text 'edit'", "0000003": "prompt.json",
        "0000004": "cannot be read", "../0000000": "leaves the folder", "0000000/../0000000/11": "leaves the folder",
        "seeds.json: x": "not [FOLDER", "seeds.json: [3, ['1']]": "not [FOLDER",
    }  # fmt: skip
    assert bad.keys() == expected.keys()
    for id, words in expected.items():
        assert words in bad[id]
