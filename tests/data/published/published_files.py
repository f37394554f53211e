"""Small files in the form in which data sets are published, and what is read of them."""

import json

import PIL.Image
from sources import read_all

from cm3leon_jax.data.sources import open_source
from cm3leon_jax.instructions.instruction import KEY


def picture(folder, name, level=0, size=(8, 6)):
    """A picture of one colour, which tells it from others."""
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.new("RGB", size, (level, 0, 0)).save(folder / name, quality=100, subsampling=0)


def write(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value))


def lines(path, rows):
    write(path, "".join(row if isinstance(row, str) else json.dumps(row) + "\n" for row in rows))


def opened(spec):
    return open_source(spec, validation_share=0, test_share=0)


def read(spec):
    """-> ({id: example}, {id: reason}) of all splits."""
    source = opened(spec)
    found = [read_all(source.split(name)) for name in source.splits]
    return {id: each for good, _ in found for id, each in good.items()}, {
        id: each for _, bad in found for id, each in bad.items()
    }


def said(example):
    """(task, fields)."""
    return example.metadata[KEY]["task"], example.metadata[KEY]["fields"]


def levels(example):
    """Of which colours its pictures are."""
    return [round(int(image[..., 0].mean())) for _, image in example.pairs if image.size]
