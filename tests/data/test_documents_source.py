"""Documents as lines of JSON: texts and images in any order; what is no document is passed over with its reason."""

import json

import numpy as np
import PIL.Image
import pytest
from sources import read_all

from cm3leon_jax.data.sources import open_source
from cm3leon_jax.runtime.errors import UserError


def image(folder, name, level):
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.new("RGB", (4, 3), (level, 0, 0)).save(folder / name)


def write(path, rows):
    path.write_text("".join(row if isinstance(row, str) else json.dumps(row) + "\n" for row in rows))


def opened(folder):
    return open_source(f"documents:{folder}", validation_share=0, test_share=0)


def pairs(example):
    return [(text, int(picture[0, 0, 0]) if picture.size else None) for text, picture in example.pairs]


@pytest.fixture
def folder(tmp_path):
    for level, name in enumerate(("a.png", "below/b.png", "c.png"), start=1):
        image(tmp_path, name, level)
    return tmp_path


def test_every_order_of_parts(folder):
    a, b, c = ({"image": name} for name in ("a.png", "below/b.png", "./c.png"))
    x, y, z = ({"text": text} for text in ("x", " y ", "z"))
    write(
        folder / "docs.jsonl",
        [
            {"parts": [x, a], "id": "pair", "url": "here"}, {"parts": [a, x], "id": "behind"},
            {"parts": [x], "id": "text"}, {"parts": [x, y], "id": "texts"},
            {"parts": [a], "id": "image"}, {"parts": [a, b], "id": "images"},
            {"parts": [x, a, y], "id": "around"}, {"parts": [x, a, y, b, c, z], "id": "long"},
            {"parts": [a, x, b], "id": "two"},
        ],
    )  # fmt: skip
    source = opened(folder)
    found = {name: read_all(source.split(name)) for name in source.splits}
    assert not any(bad for _, bad in found.values())
    documents = {kind: {id: pairs(each) for id, each in found[kind][0].items()} for kind in found}
    assert documents["train"] == {"docs/pair": [("x", 1)], "docs/behind": [("x", 1)]}
    assert documents["train.text"] == {"docs/text": [("x", None)], "docs/texts": [("x\ny", None)]}
    assert documents["train.interleaved"] == {
        "docs/image": [("", 1)], "docs/images": [("", 1), ("", 2)], "docs/around": [("x", 1), ("y", None)],
        "docs/long": [("x", 1), ("y", 2), ("", 3), ("z", None)], "docs/two": [("", 1), ("x", 2)],
    }  # fmt: skip
    assert found["train"][0]["docs/pair"].metadata == {"url": "here"}
    assert list(source.split("train.interleaved").captions()) == ["x", "y", "x", "y", "z", "x"]
    assert len(source.split("test.text")) == 0


def test_what_is_no_document_is_a_bad_example(folder):
    rows = {
        "{broken\n": "1", "[1]\n": "JSON object", '{"parts": []}\n': "no list", '{"text": "x"}\n': "no list",
        '{"parts": ["x"]}\n': "neither", '{"parts": [{"text": " "}]}\n': "neither",
        '{"parts": [{"image": 7}]}\n': "neither", '{"parts": [{"text": "x", "image": "a.png"}]}\n': "neither",
        '{"parts": [{"image": "../a.png"}]}\n': "leaves the folder",
        '{"parts": [{"image": "/a.png"}]}\n': "leaves the folder",
        '{"parts": [{"text": "x"}], "answers": []}\n': "one at least",
        '{"parts": [{"text": "x"}, {"text": "y"}], "answers": [true]}\n': "answers are places",
        '{"parts": [{"text": "\\ud800"}]}\n': "Unicode", "[" * 100_000 + "\n": "",
    }  # fmt: skip
    write(folder / "docs.jsonl", [*rows, "\n", {"parts": [{"text": "good"}, {"image": "absent.png"}]}, {"parts": [{"text": "x"}]}])  # fmt: skip # noqa: E501
    source = opened(folder)
    _, bad = read_all(source.split("train"))
    for number, words in enumerate(rows.values(), start=1):
        assert words in bad[f"docs:{number}"] and "\n" not in bad[f"docs:{number}"]
    assert "no image at absent.png" in bad[f"docs/{len(rows) + 2}"] and len(bad) == len(rows) + 1
    assert len(source.split("train.text")) == 1


def test_noise_never_breaks_the_reader(folder):
    write(folder / "docs.jsonl", [{"parts": [{"text": "x"}, {"image": "a.png"}]}] * 3)
    data = np.frombuffer((folder / "docs.jsonl").read_bytes(), np.uint8)
    for seed in range(60):
        rng = np.random.default_rng(seed)
        noisy = data.copy()
        places = rng.integers(0, len(data), rng.integers(1, 20))
        noisy[places] = rng.integers(0, 256, len(places))
        (folder / "docs.jsonl").write_bytes(noisy.tobytes())
        try:
            source = opened(folder)
            for name in source.splits:
                read_all(source.split(name))
        except UserError as error:
            assert "no example in" in str(error)


def test_a_shard_is_another_where_its_images_are(folder):
    write(folder / "docs.jsonl", [{"parts": [{"text": "x"}, {"image": "a.png"}]}])
    (before,) = opened(folder).shards(10)
    assert opened(folder).shards(10)[0].fingerprint == before.fingerprint
    PIL.Image.new("RGB", (9, 9)).save(folder / "a.png")
    assert opened(folder).shards(10)[0].fingerprint != before.fingerprint
