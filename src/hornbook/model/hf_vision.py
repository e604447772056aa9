"""What `phi3_v` folders hold beside a phi3's: settings of the vision encoder, and its tensors' names."""

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

from hornbook.errors import HornbookError
from hornbook.model.config import ModelConfig
from hornbook.model.vision_config import VisionConfig

_PREFIX = "model.vision_embed_tokens"
_RELEASED = VisionConfig()
_SETTINGS = {
    "embedding_cls": "image",
    "hd_transform_order": "sub_glb",
    "projection_cls": "mlp",
    "use_hd_transform": True,
    "with_learnable_separator": True,
}


def vision_from_hf(config: Mapping[str, Any]) -> VisionConfig:
    """The encoder of a `phi3_v` config.json.

    The released files name the encoder and leave its sizes to their class; sizes of another encoder lie under
    `img_processor.vision_config`, which only this package reads.
    """
    layer, processor = config.get("embd_layer") or {}, config.get("img_processor") or {}
    for name, only in _SETTINGS.items():
        if layer.get(name, only) != only:
            raise HornbookError(f"config.json says embd_layer.{name} = {layer[name]!r}; known: {only!r}.")
    sizes = dict(processor.get("vision_config") or {})
    unknown = sorted(set(sizes) - {f.name for f in fields(VisionConfig)})
    if unknown:
        raise HornbookError(f"config.json has unknown vision settings: {', '.join(unknown)}.")
    vision = VisionConfig(**sizes)
    if processor.get("image_dim_out", vision.hidden_size) != vision.hidden_size:
        raise HornbookError(
            f"config.json says img_processor.image_dim_out = {processor['image_dim_out']}, but the encoder's "
            f"features have {vision.hidden_size} numbers."
        )
    return vision


def vision_to_hf(vision: VisionConfig) -> dict[str, Any]:
    """The keys that a `phi3_v` config.json has beside a phi3's."""
    processor: dict[str, Any] = {
        "image_dim_out": vision.hidden_size,
        "model_name": "openai/clip-vit-large-patch14-336",
        "name": "clip_vision_model",
        "num_img_tokens": vision.merged**2,
    }
    if vision != _RELEASED:
        del processor["model_name"]
        processor["vision_config"] = asdict(vision)
    return {"embd_layer": dict(_SETTINGS), "img_processor": processor}


def vision_modules(config: ModelConfig) -> dict[str, list[tuple[str, int]]]:
    """Our modules, each with the published ones whose rows make it up; for `hf.tensor_map`."""
    vision = config.vision
    if vision is None:
        return {}
    size, inner, clip = vision.hidden_size, vision.intermediate_size, f"{_PREFIX}.img_processor.vision_model"
    out = {
        "vision.project_in": [(f"{_PREFIX}.img_projection.0", config.hidden_size)],
        "vision.project_out": [(f"{_PREFIX}.img_projection.2", config.hidden_size)],
        "vision.tower.pre_norm": [(f"{clip}.pre_layrnorm", size)],
        "vision.tower.post_norm": [(f"{clip}.post_layernorm", size)],
    }
    layer = {
        "attention_norm": [("layer_norm1", size)],
        "qkv_proj": [(f"self_attn.{part}_proj", size) for part in ("q", "k", "v")],
        "o_proj": [("self_attn.out_proj", size)],
        "mlp_norm": [("layer_norm2", size)],
        "up_proj": [("mlp.fc1", inner)],
        "down_proj": [("mlp.fc2", size)],
    }
    for n in range(vision.layers):
        for ours, theirs in layer.items():
            names = [(f"{clip}.encoder.layers.{n}.{name}", rows) for name, rows in theirs]
            out[f"vision.tower.layers.{n}.{ours}"] = names
    return out


def vision_tensors(config: ModelConfig) -> dict[str, tuple[str, int]]:
    """Our parameters outside such modules, each with its published name and rows."""
    vision = config.vision
    if vision is None:
        return {}
    embeddings = f"{_PREFIX}.img_processor.vision_model.embeddings"
    return {
        "vision.newline": (f"{_PREFIX}.sub_GN", 1),
        "vision.separator": (f"{_PREFIX}.glb_GN", 1),
        "vision.tower.class_embedding": (f"{embeddings}.class_embedding", vision.hidden_size),
        "vision.tower.patch_embedding": (f"{embeddings}.patch_embedding.weight", vision.hidden_size),
        "vision.tower.position_embedding": (f"{embeddings}.position_embedding.weight", vision.grid**2 + 1),
    }


def is_spare(name: str) -> bool:
    """Whether a file may hold tensor `name` without its being used: counters, and a second word table."""
    return name.endswith(".embeddings.position_ids") or name == f"{_PREFIX}.wte.weight"
