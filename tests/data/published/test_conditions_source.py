"""Pictures with conditions: ControlNet's form, folders of the same stems, and edges found in any source's pictures."""

import json
import sys

import numpy as np
import PIL.Image
import pytest
from published_files import levels, lines, opened, picture, read, said, write

from cm3leon_jax.data.sources import check_spec
from cm3leon_jax.data.sources.published import CONDITIONS
from cm3leon_jax.runtime.errors import UserError


@pytest.mark.parametrize("kind", CONDITIONS)
def test_controlnets_form(tmp_path, kind):
    for n in range(2):
        picture(tmp_path, f"source/{n}.png", 10 + n)
        picture(tmp_path, f"target/{n}.png", 90 + n)
    rows = [{"source": f"source/{n}.png", "target": f"target/{n}.png", "prompt": f" circle {n}"} for n in range(3)]
    bad_rows = [{**rows[0], "source": "../0.png", "target": "b.png"}, "noise\n", "[1]\n", {"target": "a.png"}]
    lines(tmp_path / "prompt.json", [*rows, *bad_rows, {**rows[0], "target": "0.png"}])
    good, bad = read(f"{kind}:{tmp_path}")
    assert {id: levels(each) for id, each in good.items()} == {"target/0.png": [10, 90], "target/1.png": [11, 91]}
    assert said(good["target/1.png"]) == (kind, {"caption": "circle 1"})
    assert bad["target/2.png"] == "no picture source/2.png" and bad["0.png"] == "no picture 0.png"
    assert "leaves the folder" in bad["b.png"]
    assert bad["prompt.json:5"] == bad["prompt.json:6"] == "not a JSON object" and "no text 'prompt'" in bad["a.png"]


@pytest.mark.parametrize("inside", [True, False])
def test_folders_of_the_same_stems(tmp_path, inside):
    folder, conditions = tmp_path / "pictures", tmp_path / ("pictures/depth" if inside else "depth")
    for n, name in enumerate(("a.jpg", "below/b.jpg", "c.jpg", "d.jpg")):
        picture(folder, name, 40 * n)
        write((folder / name).with_suffix(".txt"), f"caption {n}")
    for n, name in enumerate(("a.png", "below/b.png", "d.png", "d.jpg")):
        picture(conditions, name, 200 + n)
    spec = f"depth:{folder}?conditions={'depth' if inside else conditions}"
    good, bad = read(spec)
    assert {id: levels(each) for id, each in good.items()} == {"a.jpg": [200, 0], "below/b.jpg": [201, 40]}
    assert said(good["a.jpg"]) == ("depth", {"caption": "caption 0"})
    assert bad == {"c.jpg": "no condition of its name", "d.jpg": "several conditions are called d"}
    assert good["a.jpg"].pairs[0][0] == "Make high quality image from depth"
    with pytest.raises(UserError, match="correct conditions="):
        opened(f"depth:{folder}?conditions=absent")
    with pytest.raises(UserError, match=r"no prompt\.json"):
        opened(f"depth:{folder}")


def bright_square(side):
    """With its edges at a quarter and three quarters of the width, a picture of side x 2 side."""
    image = np.full((side, 2 * side, 3), 30, np.uint8)
    image[side // 4 : 3 * side // 4, side // 2 : 3 * side // 2] = 220
    return image


@pytest.mark.parametrize("side", [256, 512])
def test_edges_lie_where_the_picture_changes(side):
    pytest.importorskip("skimage", reason="scikit-image is the extra `conditions`")
    from cm3leon_jax.data.sources.published.edges import canny, scribble

    edges, lines = canny(bright_square(side)), scribble(bright_square(side))
    assert edges.shape == lines.shape == (256, 512, 3) and edges.dtype == lines.dtype == np.uint8
    assert set(np.unique(edges)) == set(np.unique(lines)) == {0, 255}
    for found, widest in ((edges, 2), (lines, 9)):
        row, column = np.nonzero(found[128, :, 0])[0], np.nonzero(found[:, 256, 0])[0]
        assert np.abs(row[:, None] - [128, 384]).min(1).max() <= widest / 2 + 1
        assert np.abs(column[:, None] - [64, 192]).min(1).max() <= widest / 2 + 1
        assert all(len(group) <= widest for group in np.split(row, np.nonzero(np.diff(row) > 1)[0] + 1))
    assert lines.mean() > 3 * edges.mean()
    specks = np.full((256, 256, 3), 30, np.uint8)
    specks[100:103, 100:103] = 220
    assert canny(specks).any() and not scribble(specks).any()
    assert not canny(np.full((1, 3, 3), 7, np.uint8)).any()


def test_edges_of_another_sources_pictures(tmp_path):
    pytest.importorskip("skimage", reason="scikit-image is the extra `conditions`")
    for n in range(3):
        PIL.Image.fromarray(bright_square(64)).save(tmp_path / f"{n}.png")
    rows = [{"image": f"{n}.png", "caption": f"square {n}", "licence": "x"} for n in range(3)]
    write(tmp_path / "captions.jsonl", "".join(json.dumps(row) + "\n" for row in rows) + '{"image": "absent.png"}\n')
    source = opened(f"canny:folder:{tmp_path}")
    assert set(source.splits) == {"train.interleaved", "validation.interleaved", "test.interleaved"}
    good, bad = read(f"scribble:folder:{tmp_path}")
    assert said(good["2.png"]) == ("scribble", {"caption": "square 2"}) and good["2.png"].metadata["licence"] == "x"
    (prompt, condition), (caption, image) = good["2.png"].pairs
    assert prompt == "Make high quality image from children's scribbles" and caption == "square 2"
    assert condition.shape == image.shape and condition.max() == 255 and list(bad) == ["absent.png"]
    (shard,) = [shard for shard in source.shards(10) if shard.name.startswith("train")]
    assert [split for split, _ in shard.examples()] == ["train.interleaved"] * 4
    assert shard.fingerprint != opened(f"scribble:folder:{tmp_path}").shards(10)[0].fingerprint
    learned = list(source.split("train.interleaved").captions())
    assert learned[::2] == ["Make high quality image from canny edge"] * 3 and len(set(learned[1::2])) == 3


def test_what_cannot_be_computed_ends_in_one_line(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="hed cannot be found"):
        check_spec(f"hed:folder:{tmp_path}")
    with pytest.raises(UserError, match="its options are"):
        check_spec(f"canny:vqa2:{tmp_path}?colour=red")
    picture(tmp_path, "a.png")
    write(tmp_path / "a.txt", "x")
    monkeypatch.setitem(sys.modules, "skimage.feature", None)
    with pytest.raises(UserError, match=r"`pip install scikit-image`"):
        opened(f"canny:folder:{tmp_path}")
