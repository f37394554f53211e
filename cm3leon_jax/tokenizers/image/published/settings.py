"""What the config beside published weights says: the resolution, and settings that the weights must bear out.

Hugging Face keeps a `config.json`, of a `ChameleonVQVAE` or of a whole Chameleon around it; taming-transformers and
Meta's Chameleon a YAML file with a section `ddconfig`.
"""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Any

import yaml

from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.runtime.files import read_json
from cm3leon_jax.tokenizers.image.config import ImageTokenizerConfig

CONFIG_FILE = "config.json"
MODEL_TYPE = "chameleon_vqgan"
# Our settings by the names that others have for them; resolution and attention are looked at by themselves.
HUGGING_FACE = {
    "base_channels": "channels",
    "channel_multiplier": "channel_multipliers",
    "num_res_blocks": "num_res_blocks",
    "latent_channels": "latent_channels",
    "embed_dim": "code_dim",
    "num_embeddings": "num_codes",
}
_TAMING = {
    "ch": "channels",
    "ch_mult": "channel_multipliers",
    "num_res_blocks": "num_res_blocks",
    "z_channels": "latent_channels",
    "embed_dim": "code_dim",
    "n_embed": "num_codes",
}
_FIXED = {"in_channels": 3, "double_latent": False, "double_z": False, "out_ch": 3, "attn_type": "vanilla"}
_LARGEST_YAML = 1 << 16  # bytes
_DEEPEST_YAML = 50  # sections in sections
_REMEDY = "take the config that was published with the weights"


@dataclasses.dataclass(frozen=True)
class Settings:
    """Settings as the file at `path` has them, under the names of `ours`. Methods raise `UserError`."""

    values: dict[str, Any]
    path: pathlib.Path
    ours: dict[str, str]

    @property
    def resolution(self) -> int:
        value = self.values.get("resolution", 512)  # Hugging Face's default; taming-transformers has none
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise UserError(f"{self.path} has resolution = {value!r} where a number of pixels is due; {_REMEDY}")
        return value

    def check(self, config: ImageTokenizerConfig) -> None:
        """That nothing here contradicts what the weights' shapes say."""
        for name, value in self.values.items():
            due = _FIXED.get(name, getattr(config, self.ours[name]) if name in self.ours else value)
            if value != (list(due) if isinstance(due, tuple) else due):
                raise UserError(f"{self.path} has {name} = {value!r} where the weights have {due!r}; {_REMEDY}")
        if self.values.get("resolution", 512) is None:
            return  # the widths of levels, by which attention is named, are not said
        widths = [self.resolution >> level for level in range(len(config.level_widths))]
        stated = [width for width in widths if width in (self.values.get("attn_resolutions") or ())]
        # Images may be imported at another resolution than this one, so it is levels that are compared.
        pairs = zip(widths, config.level_widths, strict=True)
        found = [width for width, own in pairs if own in config.attention_resolutions]
        if stated != found:
            raise UserError(f"{self.path} has attention at {stated} where the weights have it at {found}; {_REMEDY}")


def read_settings(weights: pathlib.Path) -> Settings | None:
    """Those of the config beside the file of weights; None where there is none. `UserError` where it is another
    model's, or cannot be read."""
    files = sorted(file for file in weights.parent.iterdir() if file.suffix in (".yaml", ".yml"))
    own = [file for file in files if file.stem == weights.stem]
    if own:
        return _read_yaml(own[0])
    if (weights.parent / CONFIG_FILE).is_file():
        return _read_json(weights.parent / CONFIG_FILE)
    return _read_yaml(files[0]) if len(files) == 1 else None


def _read_json(path: pathlib.Path) -> Settings:
    values = read_json(path, what="config of the weights", make_with="save_pretrained")
    kind = values.get("model_type") if isinstance(values, dict) else None
    if kind not in (MODEL_TYPE, "chameleon"):
        raise UserError(f"{path} describes a model of type {kind!r}, not {MODEL_TYPE!r} or 'chameleon'; {_REMEDY}")
    return _settings(values if kind == MODEL_TYPE else values.get("vq_config") or {}, path, HUGGING_FACE)


def _read_yaml(path: pathlib.Path) -> Settings:
    try:
        if path.stat().st_size > _LARGEST_YAML:
            raise ValueError(f"it has more than {_LARGEST_YAML} bytes")
        text = path.read_text(encoding="utf-8")
        _refuse_what_grows(text)
        params = yaml.safe_load(text)["model"]["params"]
        params = params.get("first_stage_config", {}).get("params", params)  # latent diffusion around a VQGAN
        sizes = {name: params[name] for name in ("embed_dim", "n_embed") if name in params}
        values = {"resolution": None, **params["ddconfig"], **sizes}
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError, yaml.YAMLError) as error:
        reason = ascii(" ".join(str(error).split()))[1:-1][:200]
        raise UserError(
            f"{path} cannot be read as a VQGAN's config ({reason}); it must have model.params.ddconfig, or "
            "lie elsewhere"
        ) from None
    return _settings(values, path, _TAMING)


def _refuse_what_grows(text: str) -> None:
    """Aliases, with which a few lines can stand for more than fits into memory; nesting, which takes quadratic time."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEEPEST_YAML or isinstance(event, yaml.AliasEvent):
            raise ValueError("it has aliases, or too many sections in sections")


def _settings(values: Any, path: pathlib.Path, ours: dict[str, str]) -> Settings:
    if not isinstance(values, dict) or not isinstance(values.get("attn_resolutions") or [], list):
        raise UserError(f"{path} does not describe a VQGAN as a section of settings; {_REMEDY}")
    return Settings(values, path, ours)
