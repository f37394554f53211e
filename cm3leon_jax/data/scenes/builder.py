"""The scenes as a TensorFlow Datasets builder, and the folder that the other commands read them from.

tfds.load("scenes/demo_64")        after importing this module
prepare_scenes(directory, config)  any size; whole or absent; made once
open_scenes(directory)             -> builder: .as_data_source("train") has random access
scenes_config(directory)           -> the config that it was made with
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import pathlib
from collections.abc import Iterator
from typing import Any, ClassVar

import absl.logging
import numpy as np
import PIL.Image
import tensorflow_datasets as tfds

from cm3leon_jax.data.scenes.examples import SPLITS, SceneExample, ScenesConfig, scene_examples
from cm3leon_jax.data.scenes.facts import fact_to_dict
from cm3leon_jax.data.scenes.render import render
from cm3leon_jax.runtime import files
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.runtime.progress import progress

MANIFEST = "scenes.json"
MAKE_WITH = "cm3leon scenes"
VERSION = "1.0.0"  # of the world: raised when the same config gives other examples


@dataclasses.dataclass(eq=False)
class ScenesBuilderConfig(tfds.core.BuilderConfig):
    scenes: ScenesConfig = dataclasses.field(default_factory=ScenesConfig)


class Scenes(tfds.core.GeneratorBasedBuilder):
    """One to four shapes on a plain background, with captions, maps and the exact facts. Rendered, not downloaded."""

    VERSION = tfds.core.Version(VERSION)
    BUILDER_CONFIGS: ClassVar[list[ScenesBuilderConfig]] = [
        ScenesBuilderConfig(name="demo_64", description="The demo's: 64x64 pixels."),
        ScenesBuilderConfig(
            name="paper_256", description="The paper's resolution: 256x256.", scenes=ScenesConfig(resolution=256)
        ),
    ]

    # Nothing is downloaded. TFDS would look for checksums beside this file, with a package that it does not declare.
    url_infos: ClassVar[dict[str, Any]] = {}

    def _info(self) -> tfds.core.DatasetInfo:
        size = self.builder_config.scenes.resolution
        features = {
            "id": tfds.features.Text(),
            "image": tfds.features.Image(shape=(size, size, 3), encoding_format="png"),
            "caption": tfds.features.Text(),
            # Object i of the scene is i + 1; 0 is the background.
            "segmentation": tfds.features.Image(shape=(size, size, 1), encoding_format="png"),
            "edges": tfds.features.Image(shape=(size, size, 1), encoding_format="png"),  # 0 or 255
            "boxes": tfds.features.Tensor(shape=(None, 4), dtype=np.int32),  # x0, y0, x1, y1 in pixels, in scene order
            "scene": tfds.features.Text(),  # JSON; `Scene.from_dict` reads it
            "facts": tfds.features.Text(),  # JSON, what the caption states; `fact_from_dict` reads each
        }
        return tfds.core.DatasetInfo(
            builder=self,
            description=type(self).__doc__,
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("caption", "image"),
            disable_shuffling=True,  # examples are independent already, and their order is that of their ids
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        del dl_manager
        return {split: self._generate_examples(split) for split in SPLITS}

    def _generate_examples(self, split: str) -> Iterator[tuple[int, dict[str, Any]]]:
        config = self.builder_config.scenes
        examples = progress(
            scene_examples(split, config), label=f"scenes, {split}", total=config.count(split), unit="scenes"
        )
        for index, example in enumerate(examples):
            yield index, _record(example, config.resolution)


def _record(example: SceneExample, resolution: int) -> dict[str, Any]:
    drawn = render(example.scene, resolution)
    return {
        "id": example.id,
        "image": _png(drawn.image),
        "caption": example.caption.text,
        "segmentation": _png(drawn.segmentation),
        "edges": _png(drawn.edges),
        "boxes": drawn.boxes,
        "scene": json.dumps(example.scene.to_dict()),
        "facts": json.dumps([fact_to_dict(fact) for fact in example.caption.facts]),
    }


def _png(image: np.ndarray) -> bytes:
    # TFDS' own encoder starts a TensorFlow session run for each image, which takes several times as long.
    file = io.BytesIO()
    PIL.Image.fromarray(image).save(file, "PNG", compress_level=1)
    return file.getvalue()


def prepare_scenes(directory: files.Path, config: ScenesConfig) -> None:
    """Makes the data set in `directory`, whole or not at all; does nothing where it is already there.

    A data set of another config is replaced; a folder that holds anything else is a `UserError`.
    """
    directory = files.local_path(directory)
    manifest = {"version": VERSION, "config": config.to_dict()}
    if (directory / MANIFEST).exists():
        if _read_manifest(directory) == manifest:
            return
    elif directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise UserError(f"{directory} holds something that is not a scenes data set; name a new folder")
    with files.new_directory(directory) as aside:
        name = f"scenes_{config.resolution}_{files.fingerprint(manifest)}"
        with _quiet_tfds():
            builder_config = ScenesBuilderConfig(name=name, scenes=config)
            Scenes(data_dir=aside, config=builder_config, file_format="array_record").download_and_prepare()
        files.remove(aside / "downloads")
        files.write_json(aside / MANIFEST, manifest)


@contextlib.contextmanager
def _quiet_tfds() -> Iterator[None]:
    """TFDS would print about downloads and folders that a user never sees, and show bars of its own beside ours."""
    verbosity = absl.logging.get_verbosity()
    absl.logging.set_verbosity(absl.logging.ERROR)
    tfds.disable_progress_bar()
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        absl.logging.set_verbosity(verbosity)
        tfds.enable_progress_bar()


def _read_manifest(directory: pathlib.Path) -> dict[str, Any]:
    return files.read_json(directory / MANIFEST, what="scenes data set", make_with=MAKE_WITH)


def scenes_config(directory: files.Path) -> ScenesConfig:
    """What the data set was made with. Raises `UserError` where there is none."""
    return ScenesConfig.from_dict(_read_manifest(files.local_path(directory))["config"])


def open_scenes(directory: files.Path) -> tfds.core.DatasetBuilder:
    """The data set that `prepare_scenes` made, for reading. Raises `UserError` where there is none."""
    directory = files.local_path(directory)
    _read_manifest(directory)
    versions = [path.parent for path in directory.glob("scenes/*/*/dataset_info.json")]
    if len(versions) != 1:
        raise UserError(f"the scenes data set at {directory} is damaged; remove it and make it with `{MAKE_WITH}`")
    return tfds.builder_from_directory(versions[0])
