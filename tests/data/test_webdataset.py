"""Tar files as img2dataset writes them, whole and broken."""

import io
import json
import tarfile

import numpy as np
import PIL.Image
import pytest
from sources import read_all

from cm3leon_jax.data.sources import open_source
from cm3leon_jax.runtime.errors import UserError


def image(seed=0, kind="PNG", size=(10, 8)):
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    data = io.BytesIO()
    PIL.Image.fromarray(pixels).save(data, kind)
    return pixels, data.getvalue()


def add(tar, name, data=b"", **fields):
    member = tarfile.TarInfo(name)
    member.size = len(data)
    for field, value in fields.items():
        setattr(member, field, value)
    tar.addfile(member, io.BytesIO(data))


def write_shard(path, count=3, *, first=0):
    """Examples first, first + 1, …: image, text and metadata, in the layout of img2dataset."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for number in range(first, first + count):
            key = f"{number:09d}"
            about = {"caption": f"caption {number}", "url": f"https://example.org/{number}.png", "status": "success"}
            add(tar, f"{key}.png", image(number)[1])
            add(tar, f"{key}.json", json.dumps(about | {"key": key, "width": 10, "height": 8}).encode())
            add(tar, f"{key}.txt", about["caption"].encode())


def opened(pattern, **shares):
    return open_source(f"webdataset:{pattern}", **({"validation_share": 0, "test_share": 0} | shares))


@pytest.mark.parametrize("pattern", ["{00000..00002}.tar", "{00000,00001,00002}.tar", "0000*.tar", ""])
def test_examples_of_several_files(tmp_path, pattern):
    for number in range(3):
        write_shard(tmp_path / f"{number:05d}.tar", first=3 * number)
    split = opened(tmp_path / pattern).split("train")
    good, bad = read_all(split)
    assert not bad and len(good) == 9
    example = good["00001/000000004"]
    assert example.caption == "caption 4" and np.array_equal(example.image, image(4)[0])
    assert example.metadata == {
        "url": "https://example.org/4.png", "status": "success", "key": "000000004", "width": 10, "height": 8
    }  # fmt: skip
    assert list(split.captions()) == [f"caption {number}" for number in range(9)]


def test_parts_of_an_example(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        add(tar, "below", type=tarfile.DIRTYPE)
        add(tar, "below/1.JPG", image(kind="JPEG")[1])
        add(tar, "below/1.json", '{"caption": "im Bild: ein Bär"}'.encode())
        add(tar, "2.seg.png", image()[1])  # another part
        add(tar, "2.cls", b"7")
        add(tar, "2.webp", image(kind="WEBP")[1])
        add(tar, "2.txt", b"from the text")
        add(tar, "2.json", b'{"caption": "from the metadata", "n": 1}')
    good, bad = read_all(opened(tmp_path).split("train"))
    assert not bad
    assert {id: each.caption for id, each in good.items()} == {
        "a/below/1": "im Bild: ein Bär", "a/2": "from the text"
    }  # fmt: skip
    assert good["a/2"].metadata == {"n": 1}


def test_unusable_members_are_bad_examples(tmp_path):
    png = image()[1]
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name, parts in {
            "good": {"png": png, "txt": b"good"},
            "../up": {"png": png, "txt": b"x"},
            "/root": {"png": png, "txt": b"x"},
            "C:\\root": {"png": png, "txt": b"x"},
            "silent": {"png": png},
            "blank": {"png": png, "txt": b" "},
            "blind": {"txt": b"x"},
            "latin": {"png": png, "txt": b"\xff\xfe\xff"},
            "list": {"png": png, "json": b"[1]"},
            "broken": {"png": png, "json": b"{"},
            "deep": {"png": png, "json": b"[" * 100_000},
            "long": {"png": png, "txt": b"x" * (2**20 + 1)},
            "number": {"png": png, "json": b'{"caption": 7}'},
            "noise": {"png": b"not an image", "txt": b"x"},
            "empty": {"png": b"", "txt": b"x"},
        }.items():
            for part, data in parts.items():
                add(tar, f"{name}.{part}", data)
        add(tar, "link.png", type=tarfile.SYMTYPE, linkname="/etc/passwd")
        add(tar, "link.txt", b"x")
        add(tar, "device.png", type=tarfile.CHRTYPE)
        add(tar, "device.txt", b"x")
        add(tar, "good.png", png)  # again, not beside the first
        add(tar, "good.txt", b"again")
    split = opened(tmp_path / "a.tar").split("train")
    good, bad = read_all(split)
    assert list(good) == ["a/good"] and good["a/good"].caption == "good"
    assert sum("leaves the folder" in reason for reason in bad.values()) == 3
    for id, words in {
        "silent": "no caption", "blank": "empty", "blind": "no image", "latin": "utf-8", "list": "not a JSON object",
        "broken": "broken.json", "deep": "deep.json", "long": "bytes of text", "number": "a int, not text",
        "noise": "known format", "empty": "0 bytes", "link": "links", "device": "links", "good (2)": "was there before",
    }.items():  # fmt: skip
        assert words in bad[f"a/{id}"], (id, bad[f"a/{id}"])
    assert len(bad) == 17 and all("\n" not in reason for reason in bad.values())


def test_a_file_cut_off_gives_what_is_whole(tmp_path):
    write_shard(tmp_path / "whole.tar", 5)
    data = (tmp_path / "whole.tar").read_bytes()
    with tarfile.open(tmp_path / "whole.tar") as tar:
        ends = [member.offset_data + member.size for member in tar if member.name.endswith(".txt")]
    for length in range(0, len(data), 300):
        (tmp_path / "cut.tar").write_bytes(data[:length])
        try:
            good, _ = read_all(opened(tmp_path / "cut.tar").split("train"))
        except UserError as error:
            assert "no example in" in str(error)
            good = {}
        assert all(np.array_equal(each.image, image(int(id[-9:]))[0]) for id, each in good.items())
        assert len(good) >= sum(end + 512 <= length for end in ends)  # those with a whole header behind them


def test_noise_never_breaks_the_reader(tmp_path):
    write_shard(tmp_path / "whole.tar", 2)
    data = np.frombuffer((tmp_path / "whole.tar").read_bytes(), np.uint8)
    for seed in range(60):
        rng = np.random.default_rng(seed)
        noisy = data.copy()
        places = rng.integers(0, len(data), rng.integers(1, 200))
        noisy[places] = rng.integers(0, 256, len(places))
        (tmp_path / "noisy.tar").write_bytes(noisy.tobytes() if seed else rng.bytes(5000))
        try:
            read_all(opened(tmp_path / "noisy.tar").split("train"))
        except UserError as error:
            assert "\n" not in str(error)


def test_what_can_not_be_opened_says_what_to_do(tmp_path):
    (tmp_path / "empty").mkdir()
    with tarfile.open(tmp_path / "packed.tar.gz", "w:gz") as tar:
        add(tar, "1.png", image()[1])
    (tmp_path / "packed.tar").write_bytes((tmp_path / "packed.tar.gz").read_bytes())
    write_shard(tmp_path / "one" / "0.tar")
    write_shard(tmp_path / "two" / "0.tar")
    for pattern, words in {
        "absent.tar": "no file", "empty": "no .tar files", "empty/*.tar": "no .tar files", "packed.tar": "gunzip",
        "{one,two}/0.tar": "equal ids", "one/{0..1}.tar": "no file", "one/{3..1}.tar": "FIRST..LAST",
    }.items():  # fmt: skip
        with pytest.raises(UserError, match=words):
            opened(tmp_path / pattern).split("train")


def test_a_changed_file_changes_the_fingerprint(tmp_path):
    write_shard(tmp_path / "a.tar")
    before = opened(tmp_path / "a.tar").split("train").fingerprint
    assert opened(tmp_path / "a.tar").split("train").fingerprint == before
    write_shard(tmp_path / "a.tar", 4)
    assert opened(tmp_path / "a.tar").split("train").fingerprint != before
