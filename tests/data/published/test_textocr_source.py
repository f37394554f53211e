"""TextOCR and COCO-Text: the words of a picture in the order in which one reads them."""

import numpy as np
import pytest
from published_files import levels, opened, picture, read, said, write

from cm3leon_jax.data.sources.published.textocr import Word, in_reading_order
from cm3leon_jax.runtime.errors import UserError


def test_words_are_read_line_by_line():
    page = [["the", "quick", "brown"], ["fox"], ["jumps", "over"]]
    rng = np.random.default_rng(0)
    for _ in range(50):
        words = [
            Word(text, 60 * column + rng.uniform(0, 5), 40 * row + rng.uniform(-4, 4), 40, rng.uniform(22, 26))
            for row, line in enumerate(page) for column, text in enumerate(line)
        ]  # fmt: skip
        shuffled = [words[n] for n in rng.permutation(len(words))]
        assert [word.text for word in in_reading_order(shuffled)] == [text for line in page for text in line]


def annotated(images, words):
    """`words`: (image, text, box)."""
    return {
        "info": {}, "imgs": images,
        "anns": {f"{n}": {"id": n, "image_id": image, "utf8_string": text, "bbox": box, **more}
                 for n, (image, text, box, more) in enumerate(words)},
        "imgToAnns": {id: [n for n, word in enumerate(words) if word[0] == id] for id in images},
    }  # fmt: skip


def test_textocr(tmp_path):
    for n, name in enumerate("abcdef", start=1):
        picture(tmp_path, f"train_images/{name}.jpg", 30 * n)
    images = {name: {"id": name, "set": "train", "file_name": f"train/{name}.jpg"} for name in "abcdeg"}
    images |= {"f": "x", "h": {"file_name": "../h.jpg"}}
    words = [
        ("a", "HERE", [50.5, 10, 40, 10], {}), ("a", "STOP", [0, 11, 40, 10], {}), ("a", ".", [0, 0, 9, 9], {}),
        ("b", ".", [0, 0, 9, 9], {}), *[("c", f"w{n}", [9 * n, 0, 8, 9], {}) for n in range(4)],
        ("d", "x", [0, 0, 1], {}), ("e", 7, [0, 0, 1, 1], {}), ("g", "x", [0, 0, 1, 1], {}),
        ("h", "x", [0, 0, 1, 1], {}),
    ]  # fmt: skip
    found = annotated(images, words)
    write(tmp_path / "TextOCR_0.1_train.json", found)
    good, bad = read(f"textocr:{tmp_path}?words=3")
    assert said(good["a"]) == ("text_rendering", {"text": "STOP HERE"}) and levels(good["a"]) == [30]
    assert good["a"].caption == 'draw "STOP HERE"'
    assert good["a"].metadata["words"][1] == {"text": "HERE", "bbox": [50.5, 10, 40, 10]} and list(good) == ["a"]
    expected = {"d": "no list of 4 numbers",
                "e": "'utf8_string' is no text", "g": "no picture train/g.jpg", "imgs:7": "not a JSON object",
                "h": "leaves the folder"}  # fmt: skip
    assert bad.keys() == expected.keys()
    for id, reason in expected.items():
        assert reason in bad[id]
    assert said(read(f"textocr:{tmp_path}")[0]["c"])[1] == {"text": "w0 w1 w2 w3"}
    del found["anns"]
    write(tmp_path / "TextOCR_0.1_train.json", found)
    with pytest.raises(UserError, match="no 'anns' that is an object; its keys are info, imgs, imgToAnns"):
        opened(f"textocr:{tmp_path}")


def test_coco_text_has_all_splits_in_one_file(tmp_path):
    for n in (1, 2):
        picture(tmp_path, f"train2014/COCO_train2014_{n:012d}.jpg", 60 * n)
    splits = {1: "train", 2: "val"}
    images = {f"{n}": {"id": n, "set": splits[n], "file_name": f"COCO_train2014_{n:012d}.jpg"} for n in splits}
    legible, illegible = {"legibility": "legible"}, {"legibility": "illegible"}
    box = [0, 0, 9, 9]
    words = [("1", "EXIT", box, legible), ("1", "x", box, illegible), ("2", "BUS", box, legible)]
    write(tmp_path / "cocotext.v2.json", annotated(images, words))
    good, bad = read(f"textocr:{tmp_path}")
    assert not bad and {id: said(each)[1]["text"] for id, each in good.items()} == {"1": "EXIT"}
    good, _ = read(f"textocr:{tmp_path}?split=val")
    assert {id: said(each)[1]["text"] for id, each in good.items()} == {"2": "BUS"} and levels(good["2"]) == [120]
