"""Boxes of COCO, Objects365 and Open Images, in pixels of the square that the model sees."""

import numpy as np
import pytest
from published_files import levels, opened, picture, read, said, write

from cm3leon_jax.data.sources.images import FITS, fit_image
from cm3leon_jax.data.sources.published.boxes import Box, Grounding
from cm3leon_jax.runtime.errors import UserError


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize(("width", "height"), [(640, 427), (333, 500), (256, 256), (90, 41)])
def test_a_box_goes_the_way_of_its_picture(fit, width, height):
    rng = np.random.default_rng(0)
    for _ in range(6):
        x0, x1 = sorted(rng.choice(np.arange(width + 1), 2, replace=False))
        y0, y1 = sorted(rng.choice(np.arange(height + 1), 2, replace=False))
        image = np.full((height, width, 3), 255, np.uint8)
        image[y0:y1, x0:x1] = 0
        fitted = fit_image(image, 256, fit)[..., 0] < 128
        box = Grounding(256, fit).fitted(Box(x0, y0, x1, y1), width, height)
        area = (box.x1 - box.x0) * (box.y1 - box.y0)
        if min(box.x1 - box.x0, box.y1 - box.y0) < 3:
            assert fitted.sum() <= area + 256 * 3
            continue
        rows, columns = np.nonzero(fitted.any(1))[0], np.nonzero(fitted.any(0))[0]
        found = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
        np.testing.assert_allclose(found, box, atol=1.5)


def instances(boxes, images=((9, "a.jpg", 100, 50),)):
    """`boxes`: (image, class, bbox)."""
    return {
        "images": [{"id": id, "file_name": name, "width": w, "height": h} for id, name, w, h in images],
        "categories": [{"id": 1, "name": "Dog"}, {"id": 2, "name": "chair"}],
        "annotations": [{"image_id": image, "category_id": kind, "bbox": box} for image, kind, box in boxes],
    }  # fmt: skip


def test_boxes_are_cut_sorted_and_counted(tmp_path):
    picture(tmp_path, "train2017/a.jpg", 40, (100, 50))
    boxes = [
        (9, 2, [60, 10, 30, 20]),  # the right edge of the square is at 75: cut there
        (9, 1, [0, 0, 20, 50]),  # wholly to the left of it
        (9, 1, [30, 0, 40, 50]), (9, 2, [30, 30, 5, 10]),
    ]  # fmt: skip
    write(tmp_path / "annotations/instances_train2017.json", instances(boxes))
    captions = {"annotations": [{"image_id": 9, "caption": "A dog. "}, {"image_id": 9, "caption": "One dog."}, {}]}
    write(tmp_path / "annotations/captions_train2017.json", captions)
    good, bad = read(f"coco_boxes:{tmp_path}")
    assert not bad and levels(good["9"]) == [40]
    assert said(good["9"]) == ("ground", {
        "caption": ["A dog.", "One dog."],
        "objects": "dog at (26, 0) -> (230, 256), chair at (179, 51) -> (256, 154), chair at (26, 154) -> (51, 205)",
    })  # fmt: skip
    assert good["9"].metadata["objects"][0] == {"name": "dog", "box": [26, 0, 230, 256]}
    assert good["9"].metadata["width"] == 100 and good["9"].metadata["resolution"] == 256
    good, _ = read(f"coco_boxes:{tmp_path}?resolution=50&fit=stretch&boxes=1")
    assert said(good["9"])[1]["objects"] == "dog at (15, 0) -> (35, 50)"
    for option in ("fit=squash", "boxes=0", "resolution=many", "resolution=-1"):
        with pytest.raises(UserError, match=option):
            opened(f"coco_boxes:{tmp_path}?{option}")


def test_names_where_there_is_no_caption_and_what_cannot_be_used(tmp_path):
    images = [(n, f"images/v1/patch0/{n}.jpg", 100, 50) for n in range(1, 8)]
    for n in range(1, 8):
        picture(tmp_path, f"patch0/{n}.jpg", 30 * n)
    images += [(8, "../8.jpg", 100, 50), (9, "9.jpg", 100, 50), (10, "1.jpg", 0, 50)]
    whole = [30, 0, 40, 50]
    boxes = [(1, 2, whole), (1, 1, [40, 20, 9, 9]), (2, 3, whole), (3, 1, [1, 2, 3]), (4, 1, ["x", 0, 1, 1]),
             (6, 1, [0, 0, 20, 20]), (8, 1, whole), (9, 1, whole)]  # fmt: skip
    found = instances(boxes, images)
    found["annotations"] += [
        {"image_id": 7, "category_id": 1, "bbox": whole, "iscrowd": 1},
        {"image_id": 7},
        "x",
        {"image_id": []},
    ]
    write(tmp_path / "zhiyuan_objv2_train.json", found)
    good, bad = read(f"objects365:{tmp_path}")
    assert list(good) == ["1"] and levels(good["1"]) == [30] and said(good["1"])[1]["caption"] == "chair and dog"
    expected = {"2": "no text 'name'", "3": "no list of 4 numbers", "4": "no list of 4 numbers", "5": "no box lies in",
                "6": "no box lies in", "7": "no 'bbox'", "8": "leaves the folder", "9": "no picture 9.jpg",
                "10": "0 x 50 pixels"}  # fmt: skip
    assert bad.keys() == expected.keys()
    for id, words in expected.items():
        assert words in bad[id]


HEADER = (
    "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf,IsDepiction,IsInside\n"
)


def test_open_images(tmp_path):
    for n, name in enumerate(("aa", "bb", "cc", "dd"), start=1):
        picture(tmp_path, f"train/{name}.jpg", 40 * n, (100, 50))
    picture(tmp_path, "validation/ee.jpg", 1, (100, 50))
    write(
        tmp_path / "oidv6-train-annotations-bbox.csv",
        HEADER + "aa,xclick,/m/1,1,0.3,0.7,0,1,0,0,0,0,0\naa,xclick,/m/2,1,0.6,0.9,0.2,0.6,0,0,0,0,0\n"
        "aa,xclick,/m/2,1,0,1,0,1,0,0,1,0,0\nbb,xclick,/m/2,1,0.3,0.7,0,1,0,0,0,0,0\n"
        "cc,xclick,/m/3,1,0.3,0.7,0,1,0,0,0,0,0\ndd,xclick,/m/1,1,0.3,1.7,0,1,0,0,0,0,0\n"
        "../x,xclick,/m/1,1,0.3,0.7,0,1,0,0,0,0,0\nff,xclick,/m/1,1,0.3\n",
    )
    write(tmp_path / "validation-annotations-bbox.csv", HEADER + "ee,xclick,/m/1,1,0.3,0.7,0,1,0,0,0,0,0\n")
    write(tmp_path / "class-descriptions-boxable.csv", '/m/1,Tortoise\n/m/2,"Bed, sofa"\n')
    rows = '{"dataset_id": "open_images_train", "image_id": "bb", "annotator_id": 1, "caption": " A bed. "}\nnoise\n'
    write(tmp_path / "open_images_train_v6_localized_narratives-00000-of-00010.jsonl", rows)
    good, bad = read(f"openimages:{tmp_path}")
    assert {id: levels(each) for id, each in good.items()} == {"aa": [40], "bb": [80]}
    assert said(good["aa"])[1] == {
        "caption": "tortoise and bed, sofa",
        "objects": "tortoise at (26, 0) -> (230, 256), bed, sofa at (179, 51) -> (256, 154)",
    }  # fmt: skip
    assert said(good["bb"])[1]["caption"] == ["A bed."]
    assert "class description of /m/3" in bad["cc"] and "no shares" in bad["dd"] and "leaves" in bad["../x"]
    assert "no picture ff.jpg" in bad["ff"]
    assert list(read(f"openimages:{tmp_path}?split=val")[0]) == ["ee"]
    write(tmp_path / "class-descriptions-boxable.csv", "noise\n")
    with pytest.raises(UserError, match="no table of labels"):
        opened(f"openimages:{tmp_path}")
    write(tmp_path / "class-descriptions-boxable.csv", "/m/1,Tortoise\n")
    write(tmp_path / "oidv6-train-annotations-bbox.csv", "ImageID,LabelName\naa,/m/1\n")
    with pytest.raises(UserError, match="no column XMin; it has ImageID, LabelName"):
        opened(f"openimages:{tmp_path}")
