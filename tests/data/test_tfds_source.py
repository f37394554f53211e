"""Data sets of TensorFlow Datasets, in the layout of COCO's captions."""

import numpy as np
import pytest
import tensorflow_datasets as tfds
from sources import read_all

from cm3leon_jax.data.sources import open_source
from cm3leon_jax.runtime.errors import UserError


def pixels(number):
    return np.random.default_rng(number).integers(0, 256, (8, 10, 3), dtype=np.uint8)


class CocoLike(tfds.core.GeneratorBasedBuilder):
    """Images with five captions each, as coco_captions has them."""

    VERSION = tfds.core.Version("1.0.0")
    url_infos = {}  # noqa: RUF012 - nothing is downloaded
    sizes = {"train": 3, "val": 2, "restval": 1}  # noqa: RUF012

    def _info(self):
        features = {
            "image": tfds.features.Image(shape=(None, None, 3), encoding_format="png"),
            "image/filename": tfds.features.Text(),
            "image/id": np.int64,
            "objects": tfds.features.Sequence({"bbox": tfds.features.BBoxFeature(), "is_crowd": np.bool_}),
            "captions": tfds.features.Sequence({"id": np.int64, "text": np.str_}),
        }
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(features), disable_shuffling=True
        )

    def _split_generators(self, dl_manager):
        return {
            split: self._generate_examples(10 * number, count)
            for number, (split, count) in enumerate(self.sizes.items())
        }

    def _generate_examples(self, first, count):
        for number in range(first, first + count):
            yield (
                number,
                {
                    "image": pixels(number),
                    "image/filename": f"{number:012d}.jpg",
                    "image/id": number,
                    "objects": [],
                    "captions": [{"id": 5 * number + each, "text": f"caption {number}-{each}"} for each in range(5)],
                },
            )


class TrainOnly(CocoLike):
    """One split, one caption."""

    sizes = {"train": 20}  # noqa: RUF012

    def _info(self):
        features = {"picture": tfds.features.Image(shape=(8, 10, 3)), "name": tfds.features.Text(), "size": np.float32}
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _generate_examples(self, first, count):
        for number in range(first, first + count):
            yield number, {"picture": pixels(number), "name": f"name {number}", "size": 0.5}


def prepared(builder, folder, file_format="array_record"):
    made = builder(data_dir=folder, file_format=file_format)
    made.download_and_prepare()
    return made


def test_cocos_layout(tmp_path):
    folder = prepared(CocoLike, tmp_path).data_dir
    source = open_source(f"tfds:{folder}")
    assert source.splits == ("train", "validation", "restval")
    split = source.split("train")
    good, bad = read_all(split)
    assert not bad and len(good) == 15 and list(good)[:2] == ["train/0", "train/0#2"]
    assert good["train/1#3"].caption == "caption 1-2" and np.array_equal(good["train/1#3"].image, pixels(1))
    assert good["train/1"].metadata == {"image/filename": "000000000001.jpg", "image/id": 1}
    assert len(list(split.captions())) == 15
    assert split.fingerprint == open_source(f"tfds:{folder}").split("train").fingerprint
    named = read_all(open_source(f"tfds:{folder}?id=image/filename").split("validation"))[0]
    assert "000000000010.jpg#5" in named


def test_a_data_set_of_one_split_is_held_out_by_hash(tmp_path):
    folder = prepared(TrainOnly, tmp_path).data_dir
    source = open_source(f"tfds:{folder}?image=picture&caption=name", validation_share=0.3, test_share=0.3)
    ids = [set(read_all(source.split(split))[0]) for split in source.splits]
    assert source.splits == ("train", "validation", "test") and all(ids) and sum(map(len, ids)) == 20
    example = source.split("test")[0]
    assert example.metadata == {"size": 0.5} and example.image.shape == (8, 10, 3)


def test_what_can_not_be_opened_says_what_to_do(tmp_path):
    folder = prepared(TrainOnly, tmp_path).data_dir
    records = prepared(CocoLike, tmp_path / "records", "tfrecord").data_dir
    for spec, words in {
        str(folder): "it has name, picture, size",
        f"{folder}?image=name&caption=name": "is no image",
        f"{folder}?image=picture": "no caption column of a usual name",
        str(records): "kept as tfrecord, without random access",
        "no_such_data_set": "no data set 'no_such_data_set'",
    }.items():
        with pytest.raises(UserError, match=words) as error:
            open_source(f"tfds:{spec}")
        assert "\n" not in str(error.value)
