"""The whole recipe on a user's own folder of images, command by command, as a user would type it."""

import json

import numpy as np
import pytest
from PIL import Image

from cm3leon_jax import cli
from cm3leon_jax.data.scenes.captions import CaptionConfig, write_caption
from cm3leon_jax.data.scenes.render import render
from cm3leon_jax.data.scenes.world import WorldConfig, sample_scene
from cm3leon_jax.runtime.files import read_json_lines
from cm3leon_jax.runtime.metrics import read_metrics

GIN = str(cli.pathlib.Path(__file__).parent / "tiny.gin")
EXAMPLES = 150


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A folder of captioned images, and a function that runs a command beside it."""
    root = tmp_path_factory.mktemp("pipeline")
    (root / "images").mkdir()
    rng = np.random.default_rng(0)
    rows = []
    for index in range(EXAMPLES):
        scene = sample_scene(rng, WorldConfig())
        Image.fromarray(render(scene, 32).image).save(root / "images" / f"{index:03}.png")
        rows.append({"image": f"{index:03}.png", "caption": write_caption(rng, scene, CaptionConfig()).text})
    (root / "images" / "999.png").write_bytes(b"not an image")
    rows.append({"image": "999.png", "caption": "a picture that cannot be read"})
    (root / "images" / "captions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def command(name, *arguments, **options):
        options_given = [part for key, value in options.items() for part in (f"--{key}", str(value))]
        monkeypatch = pytest.MonkeyPatch()
        with monkeypatch.context() as patch:
            patch.chdir(root)
            return cli.main([name, "--gin_file", GIN, *arguments, *options_given])

    command.root = root  # type: ignore[attr-defined]
    return command


MODELS = {"text_tokenizer": "text/model", "image_tokenizer": "image/model"}


def test_the_whole_recipe(run, capsys):
    source = {"source": "folder:images"}
    assert run("train-text-tokenizer", **source, directory="text") == 0
    assert run("train-image-tokenizer", **source, directory="image") == 0
    assert run("train-retriever", **source, text_tokenizer="text/model", directory="retriever") == 0
    assert run("prepare", **source, **MODELS, retriever="retriever/model", directory="prepared") == 0
    assert run("inspect", prepared="prepared/data", **MODELS, count=2) == 0
    printed = capsys.readouterr().out
    assert "<eos>" in printed and "<break>" in printed and "[image 16 codes]" in printed
    assert run("inspect", prepared="prepared/data", **MODELS, count=2, what="documents") == 0
    assert "Stored neighbours by image" in (run.root / "inspect.html").read_text()
    assert run("train", prepared="prepared/data", **MODELS, directory="decoder") == 0

    root = run.root
    assert "999.png" in (root / "prepared/data/quarantine.jsonl").read_text()
    losses = [row for row in read_metrics(root / "decoder/training") if "train/loss" in row]
    assert [row["step"] for row in losses] == [1, 2, 3, 4]
    assert all("train/loss_retrieved_1" in row or "train/loss_retrieved_0" in row for row in losses)
    evaluation = json.loads((root / "decoder/evaluation.json").read_text())
    assert {"loss_text_retrieved_0", "loss_image_retrieved_2"} <= set(evaluation)
    assert list((root / "decoder/samples").glob("*.png"))
    assert (root / "decoder/operative.gin").read_text().count("DecoderConfig.num_layers = 1") == 1

    sampling = {"decoder": "decoder/model", **MODELS, "retriever": "retriever/model", "prepared": "prepared/data"}
    assert run("sample", "--prompt", "a red circle", **sampling, retrieved=1, samples=2, output="drawn") == 0
    (result,) = read_json_lines(root / "drawn/results.jsonl")
    first, second = result["answers"]
    assert first["clip_score"] >= second["clip_score"] and len(result["documents"]) == 1
    assert Image.open(root / "drawn" / first["images"][0]).size == (32, 32)
    assert run("sample", "--image", "images/000.png", **sampling, output="captioned") == 0
    (result,) = read_json_lines(root / "captioned/results.jsonl")
    assert result["image"] == "images/000.png" and isinstance(result["answers"][0]["texts"][0], str)
    edit = ["--instruction", "make it blue", "--image", "images/000.png"]
    assert run("sample", *edit, **sampling, output="edited") == 0 and (root / "edited/000000_0.png").exists()

    requests = [{"id": "a", "prompt": "a red circle", "retrieved": 1, "samples": 2}, {"image": "images/000.png"}]
    requests += [{"prompt": "a blue star", "sampling": {"rule": "cdk"}}, {"image": "images/missing.png"}]
    (root / "requests.jsonl").write_text("".join(json.dumps(request) + "\n" for request in requests))
    capsys.readouterr()
    asked = ["--requests", "requests.jsonl", "--piece", "2", "--keep", "1"]
    assert run("sample", *asked, **sampling, output="answered") == 2
    assert "1 of 4 requests were not answered" in capsys.readouterr().err
    results = read_json_lines(root / "answered/results.jsonl")
    assert [len(result.get("answers", ())) for result in results] == [1, 1, 1, 0] and results[0]["id"] == "a"
    assert all((root / "answered" / file).exists() for r in results[:3] for a in r["answers"] for file in a["images"])
    assert run("sample", *asked, **sampling, samples=3, output="answered") == 2
    assert "made with other settings" in capsys.readouterr().err

    # Suites on the user's data; one that is finished is not run again.
    evaluation = sampling | {"directory": "evaluation"}
    named = ["--gin.SuitesConfig.coco_captions=folder:images", "--gin.SuitesConfig.text_to_image=folder:images"]
    named += ["--gin.SuitesConfig.retrieval=folder:images", "--gin.SuitesConfig.network=clip"]
    named += ["--gin.SuitesConfig.network_weights=retriever/model", "--gin.SuitesConfig.retrieved=(0, 1)"]
    named += ["--gin.SuitesConfig.examples=3", "--gin.SuitesConfig.samples=2", "--gin.SuitesConfig.caption_tokens=8"]
    for suite, split in (("paper", "train"), ("retrieval", "train"), ("perplexity", "validation")):
        assert run("evaluate", *named, "--suite", suite, **evaluation, split=split) == 0
    printed = capsys.readouterr().out
    assert "| MS-COCO (test), CIDEr | 61.6 |" in printed and "VQA2 (test-dev), accuracy: set" in printed
    found = {
        name: {(each["data"], each["name"]) for each in json.loads((root / name).read_text())["figures"]}
        for name in (f"evaluation/{suite}/result.json" for suite in ("text_to_image", "retrieval", "perplexity"))
    }
    drawn, retrieved, perplexities = found.values()
    assert {("1 retrieved document", "CLIP-FD"), ("0 retrieved documents", "CMMD")} <= drawn
    assert ("memory bank", "R@10 of exact search") in retrieved
    assert ("1 retrieved document", "perplexity, images") in perplexities
    assert all((root / f"evaluation/{suite}/result.html").exists() for suite in ("paper", "captioning"))
    assert run("evaluate", *named, "--suite", "paper", **evaluation, split="train") == 0
    assert "evaluation/captioning is finished; nothing to do" in capsys.readouterr().out
    for wrong, words in (
        (["--suite", "vqa"], "unknown suite 'vqa'; there are scenes, vqa2"),
        (["--suite", "vqa2"], "needs a data set; name its source: --gin.SuitesConfig.vqa2=SOURCE"),
        (
            ["--suite", "captioning", "--split", "train", *named, "--gin.SuitesConfig.caption_tokens=9"],
            "other settings",
        ),
    ):
        assert run("evaluate", *wrong, **evaluation) == 2
        error = capsys.readouterr().err
        assert words in error and error.count("cm3leon:") == 1

    # The page about a run is made of whatever is there.
    assert run("report", directory=".") == 0
    assert (root / "report.html").stat().st_size > 10_000

    # Started again, everything is finished already.
    capsys.readouterr()
    assert run("train", prepared="prepared/data", **MODELS, directory="decoder") == 0
    assert "nothing to do" in capsys.readouterr().out

    # Models and data that do not belong together.
    assert run("train-text-tokenizer", "--gin.TextTokenizerConfig.size=80", **source, directory="text_2") == 0
    others = MODELS | {"text_tokenizer": "text_2/model"}
    assert run("train", prepared="prepared/data", **others, directory="decoder_2") == 2
    error = capsys.readouterr().err
    assert "prepared with another text tokenizer" in error and len(error.strip().splitlines()) == 1
    assert not (root / "decoder_2").exists()
    assert (
        run("train", "--gin.DecoderConfig.num_layers=2", prepared="prepared/data", **MODELS, directory="decoder") == 2
    )
    assert "model.num_layers: 1 there, 2 now" in capsys.readouterr().err
