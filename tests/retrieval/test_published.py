"""Published CLIPs as retrievers: equal to Hugging Face's on the same weights, captions and images."""

import dataclasses

import numpy as np
import pytest
from byte_pairs import SENTENCES, learn
from published_clip import (
    TINY,
    make_open_clip,
    write_folder,
)

from cm3leon_jax.cli import main
from cm3leon_jax.retrieval.clip.config import ClipConfig
from cm3leon_jax.retrieval.clip.inputs import resize
from cm3leon_jax.retrieval.clip.published.load import load_published
from cm3leon_jax.retrieval.clip.retriever import Retriever

CAPTIONS = [*SENTENCES, "", "a long one: " + SENTENCES[0] * 9]


def reference_outputs(folder, config: ClipConfig, images: np.ndarray, captions: list[str]):
    """What Hugging Face's model in `folder` says, in float32."""
    torch = pytest.importorskip("torch", reason="needs PyTorch, as a reference")
    transformers = pytest.importorskip("transformers", reason="needs transformers, as a reference")
    reference = transformers.CLIPModel.from_pretrained(folder, dtype=torch.float32).eval()
    vocabulary, merges = learn(config.vocab_size)
    texts = transformers.CLIPTokenizer(vocab=vocabulary, merges=merges)(
        captions, truncation=True, max_length=config.context_length, padding=True, return_tensors="pt"
    )
    with torch.no_grad():
        return reference(**texts, pixel_values=torch.from_numpy(reference_pixels(images, config.image_resolution)))


def reference_pixels(images, resolution: int) -> np.ndarray:
    """float32 [N, 3, R, R] from Hugging Face's image processor, the one that needs no torchvision."""
    pytest.importorskip("transformers", reason="needs transformers, as a reference")
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    sizes = {"size": {"shortest_edge": resolution}, "crop_size": {"height": resolution, "width": resolution}}
    return np.stack(CLIPImageProcessorPil(**sizes)(list(images))["pixel_values"]).astype(np.float32)


def check_equal(retriever: Retriever, outputs, images: np.ndarray, captions: list[str]) -> None:
    texts, pictures = retriever.embed_texts(captions), retriever.embed_images(images)
    scale = np.exp(np.asarray(retriever._params["logit_scale"]))
    differences = {
        "texts": np.abs(texts - outputs.text_embeds.numpy()).max(),
        "images": np.abs(pictures - outputs.image_embeds.numpy()).max(),
        "logits": np.abs(scale * texts @ pictures.T - outputs.logits_per_text.numpy()).max(),
    }
    assert max(differences["texts"], differences["images"]) <= 1e-4
    assert differences["logits"] <= 1e-4 * scale


def random_images(size: int, count: int = 2) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3)).astype(np.uint8)


@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
@pytest.mark.parametrize("naming", ["hugging_face", "openai"])
def test_equals_hugging_face(activation, naming, tmp_path):
    config = dataclasses.replace(TINY, activation=activation)
    folder, images = tmp_path / "published", random_images(64)
    write_folder(folder, config)
    outputs = reference_outputs(folder, config, images, CAPTIONS)
    if naming == "openai":
        make_open_clip(folder, config)
    assert main(["import", "--weights", f"{folder}", "--directory", f"{tmp_path}/retriever"]) == 0
    retriever = Retriever.load(tmp_path / "retriever/model")
    assert retriever.config == config
    check_equal(retriever, outputs, images, CAPTIONS)


def test_equals_hugging_face_at_the_size_of_vit_b_32(tmp_path):
    """In bfloat16, which makes a file of half the size; both compute in float32."""
    config = ClipConfig(vocab_size=49_408, compute_dtype="float32")
    images, captions = random_images(256), CAPTIONS[:2]
    write_folder(tmp_path, config, "bfloat16")
    outputs = reference_outputs(tmp_path, config, images, captions)
    retriever = load_published(tmp_path)
    (tmp_path / "model.safetensors").unlink()  # 300 MB, which pytest would keep
    assert retriever.config == config
    check_equal(retriever, outputs, images, captions)


def test_images_equal_those_of_hugging_face():
    random = np.random.default_rng(0)
    images = [
        random.integers(0, 256, (*size, 3)).astype(np.uint8)
        for size in ((256, 256), (300, 401), (640, 480), (225, 999), (224, 224), (512, 513), (64, 64))
    ]
    config = ClipConfig()
    pixels = (resize(images, 224) / 255 - config.image_mean) / config.image_std
    np.testing.assert_allclose(pixels.transpose(0, 3, 1, 2), reference_pixels(images, 224), atol=1e-5)
