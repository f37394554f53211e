"""Sources in an object store give what they give on a local disk; what needs local files says so in one line."""

import io
import json
import tarfile

import numpy as np
import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from etils.epath import gpath
from sources import read_all

from cm3leon_jax.cli import main
from cm3leon_jax.data.shards import PreparedData
from cm3leon_jax.data.sources import open_source
from cm3leon_jax.retrieval.memory_bank import MemoryBank
from cm3leon_jax.runtime.errors import UserError

COUNT = 4


def image(number):
    data = io.BytesIO()
    PIL.Image.new("RGB", (4, 3), (number, 0, 0)).save(data, "PNG")
    return data.getvalue()


def write_webdataset(folder):
    with tarfile.open(folder / "0.tar", "w") as tar:
        for number in range(COUNT):
            for part, data in (("png", image(number)), ("txt", f"caption {number}".encode())):
                member = tarfile.TarInfo(f"{number}.{part}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))


def write_parquet(folder):
    numbers = range(COUNT)
    columns = {"image": [image(number) for number in numbers], "text": [f"caption {number}" for number in numbers]}
    pq.write_table(pa.table(columns), folder / "0.parquet", row_group_size=3)


def write_images(folder):
    (folder / "below").mkdir()
    for number in range(COUNT):
        (folder / f"below/{number}.png").write_bytes(image(number))


def write_documents(folder):
    write_images(folder)
    rows = [[{"image": f"below/{number}.png"}, {"text": f"caption {number}"}] for number in range(COUNT)]
    (folder / "0.jsonl").write_text("".join(json.dumps({"parts": parts}) + "\n" for parts in rows))


def write_folder(folder):
    write_images(folder)
    (folder / ".hidden").mkdir()
    (folder / ".hidden/0.png").write_bytes(image(0))
    for number in range(COUNT):
        (folder / f"below/{number}.txt").write_text(f"caption {number}")


def write_folder_with_json_lines(folder):
    write_images(folder)
    rows = [{"image": f"below/{number}.png", "caption": f"caption {number}"} for number in range(COUNT)]
    (folder / "captions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_folder_with_table(folder):
    write_images(folder)
    rows = [f"below/{number}.png,caption {number}\r\n" for number in range(COUNT)]
    (folder / "captions.csv").write_bytes(("image,caption\r\n" + "".join(rows)).encode())


@pytest.mark.parametrize("way", ["bucket", "bucket_by_tensorflow"])
@pytest.mark.parametrize(
    ("kind", "write"),
    [
        ("webdataset", write_webdataset),
        ("parquet", write_parquet),
        ("documents", write_documents),
        ("folder", write_folder),
        ("folder", write_folder_with_json_lines),
        ("folder", write_folder_with_table),
    ],
)
def test_a_source_in_a_bucket_is_the_one_on_a_disk(request, kind, write, way):
    bucket = request.getfixturevalue(way)
    (bucket / "data").mkdir()
    write(bucket / "data")
    remote, local = (
        open_source(f"{kind}:{where}/data", validation_share=0, test_share=0) for where in ("gs://bucket", bucket)
    )
    good, bad = read_all(remote.split("train"))
    same, _ = read_all(local.split("train"))
    assert not bad and len(good) == COUNT and list(good) == list(same)
    for id, example in good.items():
        assert example.caption == same[id].caption and np.array_equal(example.image, same[id].image)
    assert sorted(example.caption for example in good.values()) == [f"caption {number}" for number in range(COUNT)]
    assert [shard.name for shard in remote.shards(2)] == [shard.name for shard in local.shards(2)]
    assert [len(list(shard.examples())) for shard in remote.shards(2)] == [
        len(list(shard.examples())) for shard in local.shards(2)
    ]


def test_a_bucket_that_cannot_be_read_is_a_user_error(bucket, monkeypatch):
    monkeypatch.setattr(gpath.backend_lib.fsspec_backend, "_get_filesystem", lambda name: 1 / 0)
    for kind in ("webdataset", "parquet", "documents", "folder"):
        with pytest.raises(UserError, match=r"cannot be read \(division by zero\); check its name"):
            open_source(f"{kind}:gs://bucket/data")


def test_what_needs_local_files_says_so(bucket, capsys):
    for open_it in (PreparedData, MemoryBank.load):
        with pytest.raises(UserError, match="gs://bucket/prepared must be a local folder: mount the bucket, or copy"):
            open_it("gs://bucket/prepared")
    names = ("text_tokenizer", "image_tokenizer", "retriever")
    options = [f"--{name}=gs://bucket/{name}" for name in names]
    assert main(["prepare", "--source=folder:gs://bucket/a", "--directory=gs://bucket/b", *options]) == 2
    assert "gs://bucket/b must be a local folder" in capsys.readouterr().err
    assert not list(bucket.iterdir())
