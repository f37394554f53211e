"""COCO captions and Flickr30k in every form in which they are published."""

import pytest
from published_files import levels, opened, picture, read, said, write
from sources import read_all

from cm3leon_jax.data.sources import open_source
from cm3leon_jax.instructions.instruction import KEY
from cm3leon_jax.runtime.errors import UserError


def coco(captions, images=((9, "000000000009.jpg"),)):
    """`captions`: (id, image, text)."""
    return {
        "info": {}, "licenses": [],
        "images": [{"id": id, "file_name": name, "width": 8, "height": 6} for id, name in images],
        "annotations": [{"id": id, "image_id": image, "caption": text} for id, image, text in captions],
    }  # fmt: skip


def karpathy(name, split, *sentences, **more):
    rows = [{"raw": raw, "tokens": raw.split(), "imgid": 0, "sentid": n} for n, raw in enumerate(sentences)]
    return {"filename": name, "split": split, "imgid": 0, "sentids": [], "sentences": rows, **more}


def test_each_of_cocos_captions_is_an_example(tmp_path):
    picture(tmp_path, "train2017/000000000009.jpg", 90)
    picture(tmp_path, "val2017/000000000042.jpg", 150)
    write(tmp_path / "annotations/captions_train2017.json", coco([(5, 9, " A bird. "), (3, 9, "A wing.")]))
    write(tmp_path / "annotations/captions_val2017.json", coco([(8, 42, "A sea.")], [(42, "000000000042.jpg")]))
    good, bad = read(f"coco_captions:{tmp_path}")
    assert not bad and [(id, *said(each), levels(each)) for id, each in good.items()] == [
        ("5", "caption", {"caption": "A bird."}, [90]), ("3", "caption", {"caption": "A wing."}, [90])
    ]  # fmt: skip
    assert good["3"].metadata | {KEY: 0} == {"image_id": 9, "caption_id": 3, "split": "train", KEY: 0}  # fmt: skip
    for where in ("?split=val", "?split=validation", "/annotations/captions_val2017.json"):
        good, _ = read(f"coco_captions:{tmp_path}{where}")
        assert list(good) == ["8"] and levels(good["8"]) == [150]


def test_captions_of_a_picture_are_held_out_together(tmp_path):
    for image in range(30):
        picture(tmp_path, f"COCO_train2014_{image:012d}.jpg")  # though the file calls them as those of 2017 are called
    images = [(image, f"{image:012d}.jpg") for image in range(30)]
    rows = [(n, n % 30, f"caption {n}") for n in range(150)]
    write(tmp_path / "captions_train2014.json", coco(rows, images))
    source = open_source(f"coco_captions:{tmp_path}", validation_share=0.3, test_share=0.3)
    found = [read_all(source.split(name))[0].values() for name in source.splits]
    assert sum(map(len, found)) == 150
    assert sum(len({each.metadata["image_id"] for each in examples}) for examples in found) == 30


def test_karpathys_splits(tmp_path):
    picture(tmp_path, "train2014/COCO_train2014_000000000009.jpg", 90)
    picture(tmp_path, "val2014/COCO_val2014_000000000042.jpg", 150)
    rows = [
        karpathy("COCO_val2014_000000000042.jpg", "restval", "A sea.", "Waves.", filepath="val2014", cocoid=42),
        karpathy("COCO_train2014_000000000009.jpg", "test", "A bird.", filepath="train2014", cocoid=9),
        karpathy("COCO_train2014_000000000009.jpg", "dev", "A bird."), {"filename": "x.jpg", "split": "train"},
        karpathy("../x.jpg", "train", "x"),
    ]  # fmt: skip
    write(tmp_path / "dataset_coco.json", {"dataset": "coco", "images": rows})
    good, bad = read(f"coco_captions:{tmp_path}")
    assert [said(each)[1]["caption"] for each in good.values()] == ["A sea.", "Waves."]
    assert good["COCO_val2014_000000000042.jpg#1"].metadata["image_id"] == 42
    assert "none of restval" in bad["images:3"] and "no 'sentences'" in bad["images:4"]
    assert "leaves the folder" in bad["../x.jpg#0"]
    good, _ = read(f"coco_captions:{tmp_path}?split=test")
    assert [levels(each) for each in good.values()] == [[90]]


FORMS = {
    "results_20130124.token": "1.jpg#0\tTwo guys.\n1.jpg#1\t A|man \"x\" .\n2.jpg#0\tA dog\n\n3.jpg#0 none\n4.jpg#0\tx",
    "results.csv": 'image_name| comment_number| comment\n1.jpg| 0| Two guys.\n1.jpg| 1| A|man "x" .\n'
    "2.jpg| 0| A dog\n3.jpg| 4   A dog runs\n4.jpg| 0| x\n",
    "dataset_flickr30k.json": {"dataset": "flickr30k", "images": [
        karpathy("1.jpg", "train", "Two guys.", 'A|man "x" .'), karpathy("2.jpg", "train", "A dog"),
        karpathy("4.jpg", "train", "x"), karpathy("4.jpg", "val", "y"),
    ]},
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_flickr30k_is_the_same_in_all_forms(tmp_path, form):
    write(tmp_path / form, FORMS[form])
    picture(tmp_path, "flickr30k_images/1.jpg", 30)
    picture(tmp_path, "flickr30k_images/2.jpg", 60)
    good, bad = read(f"flickr30k:{tmp_path}")
    assert {id: said(each)[1]["caption"] for id, each in good.items()} == {
        "1.jpg#0": "Two guys.", "1.jpg#1": 'A|man "x" .', "2.jpg#0": "A dog"
    }  # fmt: skip
    assert levels(good["2.jpg#0"]) == [60] and good["1.jpg#1"].metadata["image_id"] == "1.jpg"
    assert bad.pop("4.jpg#0") == "no picture 4.jpg"
    assert form.endswith(".json") or next(iter(bad.values())).startswith("not NAME#NUMBER")
    if not form.endswith(".json"):
        with pytest.raises(UserError, match="have no splits"):
            opened(f"flickr30k:{tmp_path}?split=val")


def test_what_is_no_such_data_set_ends_in_one_line(tmp_path):
    write(tmp_path / "captions_train2017.json", {"images": [], "annotations": {}})
    with pytest.raises(UserError, match="'annotations' that are no list"):
        opened(f"coco_captions:{tmp_path}")
    write(tmp_path / "captions_train2017.json", coco([(1, 9, "x")]))
    with pytest.raises(UserError, match=r"no example .*\(the first: 1: no picture 000000000009.jpg\)"):
        opened(f"coco_captions:{tmp_path}")
    with pytest.raises(UserError, match="is a folder: name a file with captions="):
        (tmp_path / "folder").mkdir()
        opened(f"coco_captions:{tmp_path}?captions=folder")
    write(tmp_path / "captions_train2017.json", [1])
    with pytest.raises(UserError, match="is no JSON object, but a list"):
        opened(f"coco_captions:{tmp_path}")
