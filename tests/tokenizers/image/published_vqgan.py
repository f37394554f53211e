"""Files like those that published VQGANs come in, with random weights, and PyTorch references of their networks."""

import json
import pathlib

import numpy as np
import pytest
import safetensors.numpy
import yaml

from cm3leon_jax.runtime.model_folder import flatten, unflatten
from cm3leon_jax.tokenizers.image.autoencoder import abstract_params
from cm3leon_jax.tokenizers.image.config import ImageTokenizerConfig

# As small as 32 groups allow; with attention at two of three levels, and every width its own number.
SMALL = ImageTokenizerConfig(
    compute_dtype="float32",
    resolution=32,
    channels=32,
    channel_multipliers=(1, 2, 3),
    num_res_blocks=1,
    attention_resolutions=(16, 8),
    latent_channels=24,
    code_dim=12,
    num_codes=50,
)
# Meta Chameleon's tokenizer.
CHAMELEON = ImageTokenizerConfig(
    resolution=512, channel_multipliers=(1, 1, 2, 2, 4), attention_resolutions=(), compute_dtype="float32"
)


def random_params(config: ImageTokenizerConfig) -> dict:
    """Nested parameters, float32, in which every tensor matters. Latents are long, so that the nearest codes are not
    always the shortest."""
    random = np.random.default_rng(0)
    params = {}
    for path, leaf in flatten(abstract_params(config)).items():
        values = random.standard_normal(leaf.shape, np.float32)
        if path.endswith(("bias", "scale")):
            values = path.endswith("scale") + values / 10
        elif path.endswith("kernel"):
            values *= np.prod(leaf.shape[:-1]) ** -0.5 * (5 if path.startswith("quant_conv") else 1)
        params[path] = values.astype(np.float32)
    return unflatten(params)


def taming_tensors(params: dict) -> dict[str, np.ndarray]:
    """Our nested parameters as taming-transformers has them."""
    tensors = {}
    for path, value in flatten(params).items():
        name = path.replace("/", ".").removesuffix(".scale").removesuffix(".kernel").removesuffix(".bias")
        value = np.transpose(value, (3, 2, 0, 1)) if value.ndim == 4 else value
        tensors[f"{name}.{'bias' if path.endswith('bias') else 'weight'}"] = np.ascontiguousarray(value)
    return tensors


def taming_config(config: ImageTokenizerConfig) -> dict:
    """What `vqgan.yaml` holds."""
    ddconfig = {"double_z": False, "z_channels": config.latent_channels, "resolution": config.resolution}
    ddconfig |= {"in_channels": 3, "out_ch": 3, "ch": config.channels, "ch_mult": list(config.channel_multipliers)}
    ddconfig |= {"num_res_blocks": config.num_res_blocks, "dropout": 0.0}
    ddconfig["attn_resolutions"] = list(config.attention_resolutions)
    params = {"embed_dim": config.code_dim, "n_embed": config.num_codes, "ddconfig": ddconfig}
    return {"model": {"base_learning_rate": 4.5e-06, "target": "taming.models.vqgan.VQModel", "params": params}}


def hugging_face_config(config: ImageTokenizerConfig) -> dict:
    return {
        "model_type": "chameleon_vqgan",
        "resolution": config.resolution,
        "base_channels": config.channels,
        "channel_multiplier": list(config.channel_multipliers),
        "num_res_blocks": config.num_res_blocks,
        "attn_resolutions": list(config.attention_resolutions) or None,
        "latent_channels": config.latent_channels,
        "embed_dim": config.code_dim,
        "num_embeddings": config.num_codes,
    }


def write_taming(folder: pathlib.Path, params: dict, config: ImageTokenizerConfig = SMALL) -> pathlib.Path:
    """`vqgan.safetensors` with `vqgan.yaml` beside it; returns the former."""
    safetensors.numpy.save_file(taming_tensors(params), folder / "vqgan.safetensors")
    (folder / "vqgan.yaml").write_text(yaml.safe_dump(taming_config(config)))
    return folder / "vqgan.safetensors"


def write_checkpoint(path: pathlib.Path, tensors: dict[str, np.ndarray]) -> None:
    """What PyTorch Lightning leaves of a training, among it objects that only unpickling could make."""
    torch = pytest.importorskip("torch", reason="needs PyTorch, which makes such files")
    state = {name: torch.from_numpy(tensor.copy()) for name, tensor in tensors.items()}
    weight = torch.nn.Parameter(torch.ones(5, 2))
    optimizer = torch.optim.Adam([weight])
    weight.sum().backward()
    optimizer.step()
    others = {"loss.discriminator.main.0.weight": weight, "loss.logvar": torch.zeros(())}
    callbacks = {torch.nn.Linear: {"best_model_path": pathlib.Path("last.ckpt"), "seen": {1, 2}}}
    torch.save(
        {
            "epoch": 3,
            "callbacks": callbacks,
            "optimizer_states": [optimizer.state_dict()],
            "state_dict": others | state,
        },
        path,
    )


def write_hugging_face(
    folder: pathlib.Path, params: dict, config: ImageTokenizerConfig = SMALL, prefix: str = ""
) -> None:
    """A folder with the decoder in it; with a prefix, that of a whole Chameleon, in two shards."""
    described = hugging_face_config(config)
    tensors = {prefix + name: tensor for name, tensor in taming_tensors(params).items()}
    if not prefix:
        safetensors.numpy.save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    else:
        described = {"model_type": "chameleon", "vq_config": described}
        tensors["lm_head.weight"] = np.ones((2, 2), np.float32)
        places = {name: f"model-0000{1 + index % 2}-of-00002.safetensors" for index, name in enumerate(tensors)}
        for file in set(places.values()):
            shard = {name: tensor for name, tensor in tensors.items() if places[name] == file}
            safetensors.numpy.save_file(shard, folder / file)
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    (folder / "config.json").write_text(json.dumps(described))


class Reference:
    """`ChameleonVQVAE` for codes; for pixels the decoder of `JanusVQVAE`, which is taming-transformers' but for where
    it has attention, and that it counts the levels of `up` from the other end."""

    def __init__(self, config: ImageTokenizerConfig, tensors: dict[str, np.ndarray]):
        self.torch = torch = pytest.importorskip("torch", reason="needs PyTorch, as a reference")
        transformers = pytest.importorskip("transformers", reason="needs transformers, as a reference")
        from transformers.models.janus.modeling_janus import JanusVQVAEAttnBlock, JanusVQVAEDecoder

        settings = hugging_face_config(config)
        self.encoder = transformers.ChameleonVQVAE(transformers.ChameleonVQVAEConfig(**settings)).eval()
        settings = {**settings, "model_type": "janus_vqgan", "out_channels": 3}
        self.decoder = JanusVQVAEDecoder(transformers.JanusVQVAEConfig(**settings)).eval()
        levels = list(zip(config.level_widths, config.level_channels, strict=True))[::-1]
        for level, (width, channels) in zip(self.decoder.up, levels, strict=True):
            count = len(level.block) if width in config.attention_resolutions else 0
            level.attn = torch.nn.ModuleList(JanusVQVAEAttnBlock(channels) for _ in range(count))
        state = {name: torch.from_numpy(tensor.copy()) for name, tensor in tensors.items()}
        own = {name: state.pop(name) for name in tensors if name.startswith("decoder.")}
        self.encoder.load_state_dict(state)
        for old in [name for name in own if name.startswith("decoder.up.")]:
            _, _, level, rest = old.split(".", 3)
            own[f"up.{len(levels) - 1 - int(level)}.{rest}"] = own.pop(old)
        self.decoder.load_state_dict({name.removeprefix("decoder."): tensor for name, tensor in own.items()})

    def codes(self, images: np.ndarray) -> np.ndarray:
        """uint8 [N, R, R, 3] -> int [N, T]."""
        pixels = self.torch.from_numpy(images.transpose(0, 3, 1, 2).astype(np.float32) / 127.5 - 1)
        with self.torch.no_grad():
            return self.encoder.encode(pixels).image_tokens.numpy().reshape(len(images), -1)

    def pixels(self, codes: np.ndarray) -> np.ndarray:
        """int [N, T] -> float32 [N, R, R, 3], around [-1, 1]."""
        side = int(codes.shape[1] ** 0.5)
        with self.torch.no_grad():
            vectors = self.encoder.quantize.embedding(self.torch.from_numpy(codes)).reshape(len(codes), side, side, -1)
            images = self.decoder(self.encoder.post_quant_conv(vectors.permute(0, 3, 1, 2)))
        return images.permute(0, 2, 3, 1).numpy()
