"""Parquet tables in the layouts of the Hugging Face Hub."""

import io

import numpy as np
import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sources import read_all

from cm3leon_jax.data.sources import open_source
from cm3leon_jax.runtime.errors import UserError


def image(seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 10, 3), dtype=np.uint8)
    data = io.BytesIO()
    PIL.Image.fromarray(pixels).save(data, "PNG")
    return pixels, data.getvalue()


def write(path, columns, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path, **options)


def opened(spec, **shares):
    return open_source(f"parquet:{spec}", **({"validation_share": 0, "test_share": 0} | shares))


def test_the_hubs_layout_in_several_files_and_row_groups(tmp_path):
    for number in range(2):
        rows = range(5 * number, 5 * number + 5)
        columns = {
            "image": [{"bytes": image(row)[1], "path": f"{row}.png"} for row in rows],
            "text": [f"caption {row}" for row in rows],
            "width": [10] * 5,
            "score": [0.5] * 5,
            "tags": [["a", "b"]] * 5,  # not metadata: neither text nor number
        }
        write(tmp_path / "data" / f"train-{number:05d}-of-00002.parquet", columns, row_group_size=2)
    split = opened(tmp_path / "data").split("train")
    good, bad = read_all(split)
    assert not bad and len(good) == 10
    example = good["train-00001-of-00002/3"]
    assert example.caption == "caption 8" and np.array_equal(example.image, image(8)[0])
    assert example.metadata == {"width": 10, "score": 0.5}
    assert list(split.captions()) == [f"caption {row}" for row in range(10)]
    assert np.array_equal(split[9].image, image(9)[0]) and np.array_equal(split[0].image, image(0)[0])


def test_named_columns_and_several_captions_a_row(tmp_path):
    columns = {
        "picture": [image(0)[1], image(1)[1], image(2)[1]],
        "sentences": [["a cat", "a pet"], ["a dog"], []],
        "cocoid": [42, 43, 44],
    }
    write(tmp_path / "a.parquet", columns)
    source = opened(f"{tmp_path}/a.parquet?image=picture&caption=sentences&id=cocoid")
    good, bad = read_all(source.split("train"))
    assert bad == {"44": "no caption (column sentences)"}
    assert {id: each.caption for id, each in good.items()} == {"42": "a cat", "42#2": "a pet", "43": "a dog"}
    assert good["42"].metadata == {} and np.array_equal(good["42#2"].image, image(0)[0])
    halves = opened(f"{tmp_path}/a.parquet?image=picture&caption=sentences&id=cocoid", test_share=0.5)
    for split in halves.splits:  # captions of one image stay together
        ids = set(read_all(halves.split(split))[0])
        assert ("42" in ids) == ("42#2" in ids)


def test_unusable_rows_are_bad_examples(tmp_path):
    columns = {
        "image": [
            {"bytes": image()[1], "path": None},
            {"bytes": None, "path": "elsewhere.png"},
            {"bytes": None, "path": None},
            None,
            {"bytes": b"noise", "path": None},
            {"bytes": image()[1], "path": None},
            {"bytes": image()[1], "path": None},
            {"bytes": image()[1], "path": None},
        ],
        "caption": ["good", "x", "x", "x", "x", None, " ", "again"],
        "id": ["good", "path", "nothing", "null", "noise", "silent", "blank", "good"],
    }
    write(tmp_path / "a.parquet", columns)
    good, bad = read_all(opened(f"{tmp_path}/a.parquet?id=id").split("train"))
    assert list(good) == ["good"]
    for id, words in {
        "path": "a path (elsewhere.png)", "nothing": "null", "null": "null", "noise": "known format",
        "silent": "no caption", "blank": "empty", "good (2)": "was there before",
    }.items():  # fmt: skip
        assert words in bad[id], (id, bad[id])


def test_what_can_not_be_opened_says_what_to_do(tmp_path):
    write(tmp_path / "a.parquet", {"image": [image()[1]], "label": [1]})
    write(tmp_path / "names.parquet", {"image": ["a.png"], "caption": ["x"]})
    write(tmp_path / "bad.parquet", {"image": [image()[1]], "caption": [None]})
    (tmp_path / "cut.parquet").write_bytes((tmp_path / "a.parquet").read_bytes()[:-10])
    (tmp_path / "noise.parquet").write_bytes(b"PAR1" + bytes(100) + b"PAR1")
    write(tmp_path / "b" / "a.parquet", {"image": [image()[1]], "caption": ["x"]})
    for spec, words in {
        "a.parquet": "it has image, label",
        "a.parquet?caption=words": "no column 'words'; it has image, label",
        "b/a.parquet?image=picture": "no column 'picture'; it has image, caption",
        "b/a.parquet?picture=image": "named with image, caption, id",
        "names.parquet": "holds string, not images",
        "bad.parquet": "no example in",
        "{b/a,names}.parquet": "holds string, not images",
        "cut.parquet": "cannot be read as parquet",
        "noise.parquet": "cannot be read as parquet",
        "absent.parquet": "no file",
        "{.,b}/a.parquet": "rename, or name a column",
    }.items():
        with pytest.raises(UserError, match=words.replace("?", r"\?")) as error:
            opened(f"{tmp_path}/{spec}").split("train")
        assert "\n" not in str(error.value)


def test_a_damaged_file_among_others_is_a_bad_example(tmp_path):
    write(tmp_path / "a.parquet", {"image": [image()[1]], "caption": ["x"]})
    (tmp_path / "b.parquet").write_bytes(b"PAR1" + bytes(100) + b"PAR1")
    good, bad = read_all(opened(tmp_path).split("train"))
    assert list(good) == ["a/0"] and "cannot be read as parquet" in bad["b.parquet"]


def test_damage_inside_a_table_costs_its_row_group(tmp_path):
    columns = {"image": [image(row)[1] for row in range(6)], "caption": [f"caption {row}" for row in range(6)]}
    write(tmp_path / "a.parquet", columns, row_group_size=3, compression="none", use_dictionary=False)
    data = bytearray((tmp_path / "a.parquet").read_bytes())
    place = pq.ParquetFile(tmp_path / "a.parquet").metadata.row_group(1).column(0).data_page_offset
    data[place : place + 40] = bytes(range(200, 240))
    (tmp_path / "a.parquet").write_bytes(data)
    good, bad = read_all(opened(tmp_path / "a.parquet").split("train"))
    assert list(good) == ["a/0", "a/1", "a/2"]
    assert set(bad) == {"a/3", "a/4", "a/5"} and all("damaged" in reason for reason in bad.values())


def test_noise_never_breaks_the_reader(tmp_path):
    write(tmp_path / "a.parquet", {"image": [image(row)[1] for row in range(3)], "caption": ["x", "y", "z"]})
    data = np.frombuffer((tmp_path / "a.parquet").read_bytes(), np.uint8)
    for seed in range(60):
        rng = np.random.default_rng(seed)
        noisy = data.copy()
        places = rng.integers(0, len(data), rng.integers(1, 30))
        noisy[places] = rng.integers(0, 256, len(places))
        (tmp_path / "a.parquet").write_bytes(noisy.tobytes())
        try:
            read_all(opened(tmp_path / "a.parquet").split("train"))
        except UserError as error:
            assert "\n" not in str(error)
