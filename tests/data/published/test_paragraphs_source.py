"""Image paragraphs and Localized Narratives."""

import pytest
from published_files import levels, lines, opened, picture, read, said, write

from cm3leon_jax.data.sources import open_source
from cm3leon_jax.runtime.errors import UserError


def test_image_paragraphs(tmp_path):
    picture(tmp_path, "VG_100K/1.jpg", 40)
    picture(tmp_path, "VG_100K_2/2.jpg", 80)
    rows = [{"url": "u", "image_id": n, "paragraph": f" Paragraph {n}. "} for n in (1, 2, 3, 2)]
    write(tmp_path / "paragraphs_v1.json", [*rows, {"image_id": 1}, "x", {"image_id": "q"}])
    assert len(read(f"image_paragraph:{tmp_path}")[0]) == 3  # no files of splits
    with pytest.raises(UserError, match=r"no ids file train_split\.json"):
        opened(f"image_paragraph:{tmp_path}?split=train")
    write(tmp_path / "train_split.json", [1, 3])
    write(tmp_path / "test_split.json", [2])
    good, bad = read(f"image_paragraph:{tmp_path}")
    assert said(good["1"]) == ("paragraph", {"caption": "Paragraph 1."}) and levels(good["1"]) == [40]
    assert list(good) == ["1"] and bad["3"] == "no picture 3.jpg" and "no text 'paragraph'" in bad["1#2"]
    assert bad["rows:6"] == "not a JSON object" and "no whole number" in bad["rows:7"]
    good, _ = read(f"image_paragraph:{tmp_path}?split=test")
    assert list(good) == ["2", "2#2"] and good["2"].metadata["image_id"] == 2 and levels(good["2"]) == [80]


def narrative(of, image, annotator=93, caption="In this image there is a cat."):
    return {"dataset_id": of, "image_id": image, "annotator_id": annotator, "caption": caption,
            "timed_caption": [{"utterance": "In"}], "traces": [[{"x": 0.1, "y": 0.2, "t": 0.0}]]}  # fmt: skip


def test_localized_narratives_of_four_data_sets(tmp_path):
    pictures = {
        "mscoco_train2017": ("9", "train2017/000000000009.jpg"), "flickr30k_train": ("100", "flickr/100.jpg"),
        "open_images_train": ("ab0c", "oi/ab0c.jpg"), "ADE20k_train": ("ADE_train_00000001", "ADE_train_00000001.jpg"),
    }  # fmt: skip
    for n, (of, (image, name)) in enumerate(pictures.items(), start=1):
        picture(tmp_path, name, 40 * n)
        lines(tmp_path / f"{of}_localized_narratives-00000-of-00004.jsonl", [narrative(of, image)])
    good, bad = read(f"localized_narratives:{tmp_path}")
    assert not bad and {id: levels(each) for id, each in good.items()} == {
        f"{of}/{image}/93": [40 * n] for n, (of, (image, _)) in enumerate(pictures.items(), start=1)
    }  # fmt: skip
    assert said(good["mscoco_train2017/9/93"]) == ("narrative", {"caption": "In this image there is a cat."})
    with pytest.raises(UserError, match=r"of split 'val'.*there is split=train"):
        opened(f"localized_narratives:{tmp_path}?split=val")


def test_lines_that_are_no_narratives(tmp_path):
    picture(tmp_path, "a.jpg")
    rows = [narrative("open_images_val", "a"), narrative("open_images_val", "b"), "{broken\n", "[1]\n", "\n",
            narrative("mscoco_val2017", "a"), narrative("open_images_val", "../a"), narrative("x", "a", None),
            narrative("open_images_val", "a", 2, " ")]  # fmt: skip
    path = tmp_path / "open_images_validation_localized_narratives.jsonl"
    lines(path, rows)
    source = open_source(f"localized_narratives:{path}?as=validation")
    assert [len(source.split(name)) for name in source.splits] == [0, len(rows) - 1, 0]
    good, bad = read(f"localized_narratives:{path}")
    assert list(good) == ["open_images_val/a/93"] and good["open_images_val/a/93"].metadata["split"] == "val"
    words = {2: "no picture b.jpg", 3: "not a line of JSON", 4: "not a JSON object", 6: "no whole number",
             7: "leaves the folder", 8: "no 'annotator_id'", 9: "'caption' is no text"}  # fmt: skip
    for number, reason in words.items():
        assert reason in bad[f"open_images_validation_localized_narratives:{number}"]
    assert len(bad) == len(words)


def test_a_picture_is_held_out_with_all_that_is_said_of_it(tmp_path):
    """COCO's pictures are in the same split in each of the data sets that are about them."""
    for n in range(30):
        picture(tmp_path, f"{n:012d}.jpg")
    rows = [{"id": n, "image_id": n % 30, "caption": f"x{n}"} for n in range(60)]
    write(tmp_path / "captions_train2017.json", {"images": [], "annotations": rows})
    path = tmp_path / "coco_train_localized_narratives.jsonl"
    lines(path, [narrative("mscoco_train2017", str(n % 30), n) for n in range(60)])
    held = []
    for spec in (f"coco_captions:{tmp_path}", f"localized_narratives:{path}"):
        split = open_source(spec, validation_share=0.4, test_share=0).split("validation")
        held.append({int(split[n].metadata["image_id"]) for n in range(len(split))})
    assert held[0] == held[1] and 3 < len(held[0]) < 27
