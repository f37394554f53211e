"""Folders of images: the three forms of captions, held-out splits, bad input of every kind."""

import csv
import json
import os

import numpy as np
import PIL.Image
import pytest
from sources import read_all

from cm3leon_jax.data.sources import ImageBatches, documents_of, fit_image, open_source
from cm3leon_jax.data.sources.images import UnreadableImage, decode_image
from cm3leon_jax.data.splits import INTERLEAVED, PAIRS
from cm3leon_jax.runtime.errors import UserError


def save_image(path, *, seed=0, size=(10, 8), **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    PIL.Image.fromarray(pixels).save(path, **options)
    return pixels


def write_jsonl(folder, rows):
    folder.mkdir(parents=True, exist_ok=True)
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    (folder / "captions.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def open_folder(folder, **shares):
    return open_source(f"folder:{folder}", **({"validation_share": 0, "test_share": 0} | shares))


def test_jsonl_with_either_key_and_metadata(tmp_path):
    pixels = save_image(tmp_path / "a.png")
    save_image(tmp_path / "below" / "b.JPG", format="JPEG")
    write_jsonl(
        tmp_path, [{"image": "a.png", "caption": " a cat \n"}, {"file_name": "below/b.JPG", "text": "a dog", "n": 3}]
    )
    good, bad = read_all(open_folder(tmp_path).split("train"))
    assert not bad and list(good) == ["a.png", "below/b.JPG"]
    assert good["a.png"].caption == "a cat" and np.array_equal(good["a.png"].image, pixels)
    assert good["below/b.JPG"].metadata == {"n": 3} and good["below/b.JPG"].image.dtype == np.uint8


def test_csv(tmp_path):
    save_image(tmp_path / "a.png")
    with open(tmp_path / "captions.csv", "w", encoding="utf-8-sig", newline="") as file:
        csv.writer(file).writerows([["image", "caption", "by"], ["a.png", 'a "cat", sitting', "me"]])
    good, _ = read_all(open_folder(tmp_path).split("train"))
    assert good["a.png"].caption == 'a "cat", sitting' and good["a.png"].metadata == {"by": "me"}


def test_text_files(tmp_path):
    save_image(tmp_path / "a.webp", lossless=True)
    save_image(tmp_path / "b.bmp")
    save_image(tmp_path / "c.png")
    (tmp_path / "a.txt").write_text("ein Bär", encoding="utf-8")
    (tmp_path / "c.txt").write_bytes(b"\xff\xfe\xff")
    split = open_folder(tmp_path).split("train")
    good, bad = read_all(split)
    assert good["a.webp"].caption == "ein Bär" and list(split.captions()) == ["ein Bär"]
    assert "no .txt" in bad["b.bmp"] and "UTF-8" in bad["c.png"]


def test_several_captions_of_one_image_stay_in_one_split(tmp_path):
    for index in range(40):
        save_image(tmp_path / f"{index}.png", seed=index)
    write_jsonl(tmp_path, [{"image": f"{index % 40}.png", "caption": f"caption {index}"} for index in range(80)])
    source = open_folder(tmp_path, validation_share=0.3, test_share=0.3)
    ids = [set(read_all(source.split(name))[0]) for name in source.splits]
    assert all(ids) and sum(map(len, ids)) == 80
    for split in ids:
        assert {id.removesuffix("#2") for id in split} <= split and len(split) % 2 == 0


def test_adding_data_moves_no_id_between_splits(tmp_path):
    def splits(count):
        for index in range(count):
            save_image(tmp_path / f"{index}.png", seed=index)
            (tmp_path / f"{index}.txt").write_text("a thing")
        source = open_folder(tmp_path, validation_share=0.2, test_share=0.2)
        return {id: name for name in source.splits for id in read_all(source.split(name))[0]}

    few, many = splits(30), splits(60)
    assert len(many) == 60 and set(few.values()) == {"train", "validation", "test"}
    assert few.items() <= many.items()


def test_unusable_rows_are_bad_examples(tmp_path):
    save_image(tmp_path / "folder" / "good.png")
    save_image(tmp_path / "outside.png")
    (tmp_path / "folder" / "empty.png").write_bytes(b"")
    (tmp_path / "folder" / "noise.png").write_bytes(b"not an image at all")
    save_image(tmp_path / "folder" / "cut.png", size=(100, 100))
    whole = (tmp_path / "folder" / "cut.png").read_bytes()
    (tmp_path / "folder" / "cut.png").write_bytes(whole[: len(whole) // 2])
    save_image(tmp_path / "folder" / "cut.jpg", size=(100, 100))
    whole = (tmp_path / "folder" / "cut.jpg").read_bytes()
    (tmp_path / "folder" / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    os.mkfifo(tmp_path / "folder" / "pipe.png")
    rows = [
        {"image": "good.png", "caption": "good"},
        *({"image": name, "caption": "x"} for name in ("empty.png", "noise.png", "cut.png", "cut.jpg", "pipe.png")),
        {"image": "../outside.png", "caption": "x"},
        {"image": str(tmp_path / "outside.png"), "caption": "x"},
        {"image": "sub/../good.png", "caption": "x"},
        {"image": "C:\\good.png", "caption": "x"},
        {"image": "absent.png", "caption": "x"},
        {"image": "nul\0.png", "caption": "x"},
        {"image": "./good.png", "caption": "  "},
        {"image": "good.png"},
        {"image": "good.png", "caption": ["a", "b"]},
        '{"image": "good.png", "caption": "\\ud800"}',
        {"image": 7, "caption": "x"},
        "{broken",
        "[1]",
        "[" * 100_000,
    ]
    write_jsonl(tmp_path / "folder", rows)
    split = open_folder(tmp_path / "folder").split("train")
    good, bad = read_all(split)
    assert list(good) == ["good.png"] and len(bad) == len(rows) - 1 == len(split) - 1
    assert "0 bytes" in bad["empty.png"] and "known format" in bad["noise.png"]
    assert "truncated" in bad["cut.jpg"] and "decoded" in bad["cut.png"] and "not a file" in bad["pipe.png"]
    assert sum("leaves the folder" in reason for reason in bad.values()) == 4
    assert "caption is empty" in bad["good.png#3"] and "no caption" in bad["good.png#4"]
    assert "list" in bad["good.png#5"] and "Unicode" in bad["good.png#6"]
    assert "JSON" in bad["captions.jsonl:18"] and "object" in bad["captions.jsonl:19"]
    assert all("\n" not in reason and "0x" not in reason for reason in bad.values())


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda folder: None, "no folder"),
        (lambda folder: folder.write_text("x"), "not a folder"),
        (lambda folder: folder.mkdir(), "no images"),
        (lambda folder: save_image(folder / "a.png"), "no caption for any"),
        (lambda folder: (save_image(folder / "a.png"), write_jsonl(folder, [])), "no caption for any"),
        (lambda folder: (save_image(folder / "a.png"), write_jsonl(folder, ["{"])), "no caption for any"),
        (
            lambda folder: (save_image(folder / "a.png"), (folder / "captions.csv").write_text("x,y\n1,2\n")),
            "header row",
        ),
        (
            lambda folder: (save_image(folder / "a.png"), (folder / "captions.csv").write_bytes(b"image,text\n\xff")),
            "UTF-8",
        ),
        (
            lambda folder: (
                save_image(folder / "a.png"),
                write_jsonl(folder, [{"image": "a.png", "caption": "x"}]),
                (folder / "captions.csv").write_text("image,caption\na.png,x\n"),
            ),
            "both",
        ),
    ],
)
def test_unusable_folders_say_what_to_do(tmp_path, make, says):
    make(tmp_path / "folder")
    with pytest.raises(UserError, match=says) as error:
        open_folder(tmp_path / "folder")
    assert "\n" not in str(error.value) and ":" in str(error.value)


def test_unknown_sources_and_splits():
    for spec in ("zip:x", "folder:", "somewhere"):
        with pytest.raises(UserError, match="unknown source"):
            open_source(spec)


def test_unknown_split_and_shares(tmp_path):
    save_image(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(UserError, match="no split 'dev'"):
        open_folder(tmp_path).split("dev")
    with pytest.raises(UserError, match="shares"):
        open_folder(tmp_path, validation_share=0.7, test_share=0.3)


def test_the_fingerprint_changes_with_the_data(tmp_path):
    save_image(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text("x")
    first = open_folder(tmp_path).split("train").fingerprint
    assert open_folder(tmp_path).split("train").fingerprint == first
    (tmp_path / "a.txt").write_text("y")
    second = open_folder(tmp_path).split("train").fingerprint
    save_image(tmp_path / "a.png", size=(20, 20))
    assert len({first, second, open_folder(tmp_path).split("train").fingerprint}) == 3


def encoded(image, tmp_path, suffix="png", **options):
    path = tmp_path / f"image.{suffix}"
    image.save(path, **options)
    return decode_image(path.read_bytes())


def test_every_mode_becomes_rgb(tmp_path):
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    assert np.array_equal(encoded(PIL.Image.fromarray(grey), tmp_path), np.stack([grey] * 3, -1))
    deep = PIL.Image.fromarray(grey.astype(np.uint16) * 257)
    assert np.array_equal(encoded(deep, tmp_path), np.stack([grey] * 3, -1))
    bits = encoded(PIL.Image.fromarray(grey > 100), tmp_path)
    assert np.array_equal(bits[..., 0], np.where(grey > 100, 255, 0))
    red = PIL.Image.new("RGB", (16, 16), (255, 0, 0))
    assert (encoded(red.convert("P"), tmp_path, "gif") == (255, 0, 0)).all()
    assert abs(encoded(red.convert("CMYK"), tmp_path, "jpg").astype(int) - (255, 0, 0)).max() < 10
    assert (encoded(red, tmp_path, "webp", lossless=True) == (255, 0, 0)).all()


def test_transparency_is_over_white(tmp_path):
    clear = PIL.Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    assert (encoded(clear, tmp_path) == 255).all()
    half = encoded(PIL.Image.new("LA", (4, 4), (0, 128)), tmp_path)
    assert abs(half.astype(int) - 127).max() <= 1
    palette = PIL.Image.new("P", (4, 4), 0)
    palette.putpalette([10, 20, 30])
    assert (encoded(palette, tmp_path, transparency=0) == 255).all()


def test_exif_orientation_is_applied(tmp_path):
    image = PIL.Image.new("RGB", (20, 10), "black")
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    assert encoded(image, tmp_path, "jpg", exif=exif).shape == (20, 10, 3)
    assert encoded(image, tmp_path, "jpg", exif=b"Exif\0\0broken").shape == (10, 20, 3)


def test_animations_give_their_first_frame(tmp_path):
    frames = [PIL.Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    assert (encoded(frames[0], tmp_path, "gif", save_all=True, append_images=frames[1:]) == (255, 0, 0)).all()


def test_a_decompression_bomb_is_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(UnreadableImage, match="exceeds limit"):
        encoded(PIL.Image.new("RGB", (8, 8)), tmp_path)


def test_an_image_of_too_many_pixels_is_refused_before_it_is_decoded(tmp_path):
    path = tmp_path / "huge.png"
    PIL.Image.new("1", (9000, 9000)).save(path)
    data = path.read_bytes()
    with pytest.raises(UnreadableImage, match="9000 x 9000 pixels, more than 80,000,000"):
        decode_image(data[: len(data) // 2])  # cut off: decoding it would say something else


@pytest.mark.parametrize("size", [(64, 64), (200, 100), (100, 200), (33, 47), (1, 500)])
def test_fitted_images_are_the_central_square(size):
    width, height = size
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0] = np.linspace(0, 250, width)[None]
    image[..., 1] = np.linspace(0, 250, height)[:, None]
    fitted = fit_image(image, 32)
    assert fitted.shape == (32, 32, 3) and fitted.dtype == np.uint8
    # The centre stays the centre, and the longer side loses its ends.
    centre = fitted.astype(float).mean((0, 1))
    assert abs(centre[:2] - image.astype(float).mean((0, 1))[:2]).max() < 2
    if width > height:
        assert fitted[:, 0, 0].min() > 50 and fitted[:, -1, 0].max() < 200


def test_images_may_be_padded_or_stretched_instead():
    image = np.zeros((20, 40, 3), np.uint8)
    image[:, :20, 0], image[:, 20:, 1] = 200, 200
    padded, stretched = fit_image(image, 16, "pad"), fit_image(image, 16, "stretch")
    assert (padded[[0, 1, 2, 3, -4, -3, -2, -1]] == 255).all() and (padded[4:12].min(axis=-1) == 0).all()
    assert (padded[4:12, :6, 0] == 200).all() and (stretched[:, :6, 0] == 200).all()
    assert (stretched[:, 10:, 1] == 200).all() and stretched.shape == padded.shape == (16, 16, 3)


def test_fitting_leaves_the_right_size_alone():
    image = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    assert fit_image(image, 16) is image


def test_documents_of_all_kinds_with_their_weights(tmp_path):
    """What tokenizers are trained on: pairs, texts and interleaved documents; of several sources by their weights."""
    PIL.Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    rows = [
        {"id": "pair", "parts": [{"text": "one"}, {"image": "a.png"}]},
        {"id": "text", "parts": [{"text": "two"}]},
        {"id": "both", "parts": [{"text": "three"}, {"image": "a.png"}, {"text": "four"}, {"image": "a.png"}]},
    ]
    (tmp_path / "d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    spec = f"documents:{tmp_path}/d.jsonl"
    source = open_source(spec, validation_share=0, test_share=0)
    found = documents_of(source, "train")
    assert sorted(found.captions()) == ["four", "one", "three", "two"] and len(found) == 3
    assert {found[index].id for index in range(3)} == {"d/pair", "d/text", "d/both"}
    assert [(share.range, share.weight) for share in found.shares] == [(range(3), 3)]
    images, _ = ImageBatches(found, 4, 6, seed=0)(0)  # the text is passed over
    assert images.shape == (6, 4, 4, 3)
    weighed = documents_of(open_source(f"0.25*{spec} + 0.75*{spec}", validation_share=0, test_share=0), "train")
    assert [share.weight for share in weighed.shares] == [0.25, 0.75] * 3


def test_images_of_documents_most_of_which_are_texts(tmp_path):
    PIL.Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    texts = [{"parts": [{"text": f"text {number}"}]} for number in range(2000)]
    pairs = [{"parts": [{"text": "pair"}, {"image": "a.png"}]}, {"parts": [{"image": "a.png"}] * 2}]
    (tmp_path / "d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in texts + pairs))
    source = open_source(f"documents:{tmp_path}/d.jsonl", validation_share=0, test_share=0)
    images, _ = ImageBatches(documents_of(source, "train", (PAIRS, INTERLEAVED)), 4, 6, seed=0)(0)
    assert images.shape == (6, 4, 4, 3)
    images, _ = ImageBatches(documents_of(source, "train"), 4, 2, seed=0)(0)  # texts are passed over
    assert images.shape == (2, 4, 4, 3)
    (tmp_path / "d.jsonl").write_text(json.dumps(texts[0]))
    source = open_source(f"documents:{tmp_path}/d.jsonl", validation_share=0, test_share=0)
    with pytest.raises(UserError, match=r"has no documents that are train or train\.interleaved"):
        documents_of(source, "train", (PAIRS, INTERLEAVED))
