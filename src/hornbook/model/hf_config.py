"""Hugging Face `config.json` to `ModelConfig` and back, for every family."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from hornbook.errors import HornbookError
from hornbook.model.config import Activation, LongRope, ModelConfig, Multipliers
from hornbook.model.hf_phi3_small import config_from_phi3_small, config_to_phi3_small
from hornbook.model.hf_vision import vision_from_hf, vision_to_hf

ARCHITECTURES = {
    "phi": "PhiForCausalLM",
    "phi3": "Phi3ForCausalLM",
    "llama": "LlamaForCausalLM",
    "phimoe": "PhimoeForCausalLM",
    "phi3small": "Phi3SmallForCausalLM",
    "phi3_v": "Phi3VForCausalLM",
}

# The partial rotary factor a family has when its config.json does not say (class defaults).
_ROTARY_DEFAULT = {"phi": 0.5, "phi3": 1.0, "llama": 1.0, "phimoe": 1.0}
_THETA_DEFAULT = {"phi": 1e4, "phi3": 1e4, "llama": 1e4, "phimoe": 1e6}
_EPS_KEY = {
    "phi": "layer_norm_eps",
    "phi3": "rms_norm_eps",
    "llama": "rms_norm_eps",
    "phimoe": "rms_norm_eps",
}
_EPS_DEFAULT = {"phi": 1e-5, "phi3": 1e-5, "llama": 1e-6, "phimoe": 1e-5}
_POSITION_DEFAULT = {"phi": 2048, "phi3": 4096, "llama": 2048, "phimoe": 131072}
_ACTIVATIONS: dict[str, dict[str, Activation]] = {
    "phi": {"gelu_new": "gelu_new"},
    "phi3": {"silu": "silu_glu", "swish": "silu_glu"},
    "llama": {"silu": "silu_glu", "swish": "silu_glu"},
    "phimoe": {"silu": "silu_glu", "swish": "silu_glu"},
}
_REQUIRED = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")


def config_from_hf(config: Mapping[str, Any]) -> ModelConfig:
    """Reads a `config.json` mapping.

    Raises HornbookError for an unknown `model_type`, a missing size, an activation or a rotary
    scaling that the family does not have.
    """
    kind = config.get("model_type")
    if kind not in ARCHITECTURES:
        raise HornbookError(
            f"config.json says model_type = {kind!r}, an architecture this version does not know. "
            f"It knows {', '.join(ARCHITECTURES)}."
        )
    if kind == "phi3small":
        return config_from_phi3_small(config)
    if kind == "phi3_v":
        body = config_from_hf({**config, "model_type": "phi3"})
        return replace(body, family="phi3_v", vision=vision_from_hf(config))
    missing = [name for name in _REQUIRED if config.get(name) is None]
    if missing:
        raise HornbookError(f"config.json (model_type {kind}) lacks {', '.join(missing)}.")
    if config.get("qk_layernorm"):
        raise HornbookError(
            "config.json asks for qk_layernorm, which no released phi uses and this version lacks."
        )
    if kind == "phimoe" and config.get("num_experts_per_tok", 2) != 2:
        raise HornbookError(
            "config.json asks for another number of experts per token than 2, which phimoe routes to."
        )
    act = config.get("hidden_act", "gelu_new" if kind == "phi" else "silu")
    if act not in _ACTIVATIONS[kind]:
        known = ", ".join(_ACTIVATIONS[kind])
        raise HornbookError(f"config.json (model_type {kind}) says hidden_act = {act!r}; known: {known}.")
    rope = _rope_settings(config)
    rotary = rope.get("partial_rotary_factor")
    rotary = config.get("partial_rotary_factor") if rotary is None else rotary
    theta = rope.get("rope_theta")
    theta = config.get("rope_theta") if theta is None else theta
    max_position = config.get("max_position_embeddings") or _POSITION_DEFAULT[kind]
    eos = config.get("eos_token_id")
    is_phi = kind == "phi"
    return ModelConfig(
        family=kind,
        vocab_size=config["vocab_size"],
        hidden_size=config["hidden_size"],
        layers=config["num_hidden_layers"],
        heads=config["num_attention_heads"],
        kv_heads=config.get("num_key_value_heads") or 0,
        head_dim=config.get("head_dim") or 0,
        intermediate_size=config["intermediate_size"],
        block="parallel" if is_phi else "sequential",
        norm="layernorm" if kind in ("phi", "phimoe") else "rmsnorm",
        norm_eps=config.get(_EPS_KEY[kind], _EPS_DEFAULT[kind]),
        activation=_ACTIVATIONS[kind][act],
        experts=config.get("num_local_experts", 16) if kind == "phimoe" else 0,
        router_jitter=config.get("router_jitter_noise", 0.01),
        input_jitter=config.get("input_jitter_noise", 0.0) if kind == "phimoe" else 0.0,
        attention_bias=is_phi or bool(config.get("attention_bias", False)),
        mlp_bias=is_phi or bool(config.get("mlp_bias", False)),
        head_bias=is_phi or bool(config.get("lm_head_bias", False)),
        tied_embeddings=bool(config.get("tie_word_embeddings", False)),
        rope_theta=float(_THETA_DEFAULT[kind] if theta is None else theta),
        rotary_fraction=float(_ROTARY_DEFAULT[kind] if rotary is None else rotary),
        long_rope=_long_rope(rope, config, max_position),
        max_position=max_position,
        sliding_window=config.get("sliding_window") if kind in ("phi3", "phimoe") else None,
        embedding_dropout=config.get("embd_pdrop") or 0.0,
        residual_dropout=config.get("resid_pdrop") or 0.0,
        attention_dropout=config.get("attention_dropout") or 0.0,
        init_std=config.get("initializer_range", 0.02),
        bos_id=config.get("bos_token_id"),
        eos_ids=() if eos is None else tuple(eos) if isinstance(eos, list | tuple) else (eos,),
        pad_id=config.get("pad_token_id"),
    )


def _rope_settings(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The rotary dictionary: `rope_parameters` (transformers 5) or `rope_scaling` (4)."""
    return config.get("rope_parameters") or config.get("rope_scaling") or {}


def _long_rope(rope: Mapping[str, Any], config: Mapping[str, Any], max_position: int) -> LongRope | None:
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind in (None, "default"):
        return None
    # "su" and, in the first phi-3 files, "yarn" are older names of the same method.
    if kind not in ("longrope", "su", "yarn") or "short_factor" not in rope or "long_factor" not in rope:
        raise HornbookError(
            f"config.json asks for rotary scaling {kind!r}, which this version does not know. "
            "It knows 'longrope' with short_factor and long_factor."
        )
    original = (
        config.get("original_max_position_embeddings")
        or rope.get("original_max_position_embeddings")
        or max_position
    )
    return LongRope(
        short_factor=tuple(float(f) for f in rope["short_factor"]),
        long_factor=tuple(float(f) for f in rope["long_factor"]),
        original_max_position=original,
        factor=rope.get("factor"),
        attention_factor=rope.get("attention_factor"),
        short_mscale=rope.get("short_mscale"),
        long_mscale=rope.get("long_mscale"),
    )


def config_to_hf(config: ModelConfig) -> dict[str, Any]:
    """The `config.json` mapping, in the transformers 4 layout that transformers 5 also reads.

    Raises HornbookError where the Hugging Face class of `config.family` cannot express the model.
    """
    _check_expressible(config)
    if config.family == "phi3small":
        return config_to_phi3_small(config)
    if config.vision is not None:
        body = config_to_hf(replace(config, family="phi3", vision=None))
        head = {"architectures": [ARCHITECTURES["phi3_v"]], "model_type": "phi3_v"}
        return body | head | vision_to_hf(config.vision)
    eos: int | list[int] | None = list(config.eos_ids) or None
    if len(config.eos_ids) == 1:
        eos = config.eos_ids[0]
    out: dict[str, Any] = {
        "architectures": [ARCHITECTURES[config.family]],
        "model_type": config.family,
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "intermediate_size": config.intermediate_size,
        "hidden_act": "gelu_new" if config.family == "phi" else "silu",
        _EPS_KEY[config.family]: config.norm_eps,
        "max_position_embeddings": config.max_position,
        "rope_theta": config.rope_theta,
        "rope_scaling": None,
        "tie_word_embeddings": config.tied_embeddings,
        "attention_dropout": config.attention_dropout,
        "initializer_range": config.init_std,
        "bos_token_id": config.bos_id,
        "eos_token_id": eos,
        "pad_token_id": config.pad_id,
        "use_cache": True,
    }
    if config.family == "llama":
        out |= {
            "head_dim": config.head_dim,
            "attention_bias": config.attention_bias,
            "mlp_bias": config.mlp_bias,
        }
        return out
    out |= {
        "partial_rotary_factor": config.rotary_fraction,
        "embd_pdrop": config.embedding_dropout,
        "resid_pdrop": config.residual_dropout,
    }
    if config.family == "phi":
        return out | {"qk_layernorm": False}
    rope = config.long_rope
    if config.family == "phimoe":
        del out["partial_rotary_factor"], out["embd_pdrop"], out["resid_pdrop"]
        out |= {
            "attention_bias": config.attention_bias,
            "lm_head_bias": config.head_bias,
            "num_local_experts": config.experts,
            "num_experts_per_tok": 2,
            "router_jitter_noise": config.router_jitter,
            "input_jitter_noise": config.input_jitter,
            "router_aux_loss_coef": 0.0,
        }
    original = config.max_position if rope is None else rope.original_max_position
    out |= {"sliding_window": config.sliding_window, "original_max_position_embeddings": original}
    if config.head_dim * config.heads != config.hidden_size:
        out["head_dim"] = config.head_dim
    if rope is not None:
        scaling: dict[str, Any] = {
            "type": "longrope",
            "short_factor": list(rope.short_factor),
            "long_factor": list(rope.long_factor),
        }
        for name in ("factor", "attention_factor", "short_mscale", "long_mscale"):
            if getattr(rope, name) is not None:
                scaling[name] = getattr(rope, name)
        out["rope_scaling"] = scaling
    return out


def _check_expressible(config: ModelConfig) -> None:
    """Refuses to write a config.json that would silently mean another model."""
    expected: dict[str, object] = {"positions": "rotary"}
    if config.family != "phimoe":
        expected["experts"] = 0
    if config.family != "phi3small":
        expected |= {"multipliers": Multipliers(), "block_sparse": None, "mlp_dropout": 0.0, "unused_ids": ()}
    if config.family == "phi":
        expected |= {
            "block": "parallel",
            "norm": "layernorm",
            "activation": "gelu_new",
            "attention_bias": True,
            "mlp_bias": True,
            "head_bias": True,
            "long_rope": None,
            "sliding_window": None,
            "head_dim": config.hidden_size // config.heads,
        }
    elif config.family == "phimoe":
        expected |= {
            "block": "sequential",
            "norm": "layernorm",
            "activation": "silu_glu",
            "mlp_bias": False,
            "rotary_fraction": 1.0,
            "embedding_dropout": 0.0,
            "residual_dropout": 0.0,
        }
    elif config.family == "phi3small":
        expected |= {
            "block": "sequential",
            "norm": "layernorm",
            "activation": "gegelu",
            "attention_bias": True,
            "mlp_bias": True,
            "head_bias": False,
            "rotary_fraction": 1.0,
            "residual_dropout": 0.0,
            "sliding_window": None,
            "head_dim": config.hidden_size // config.heads,
        }
        scale = config.multipliers
        if scale != Multipliers() and (scale.attention is None or scale.residual != 1.0):
            expected["multipliers"] = "all but residual, with attention set"
    else:
        expected |= {"block": "sequential", "norm": "rmsnorm", "activation": "silu_glu", "head_bias": False}
    if config.family in ("phi3", "phi3_v"):
        expected |= {"attention_bias": False, "mlp_bias": False}
    if config.family == "llama":
        expected |= {
            "long_rope": None,
            "sliding_window": None,
            "rotary_fraction": 1.0,
            "embedding_dropout": 0.0,
            "residual_dropout": 0.0,
        }
    if (config.vision is None) == (config.family == "phi3_v"):
        expected["vision"] = "set in phi3_v models and in no others"
    wrong = [
        f"{name} = {getattr(config, name)!r}"
        for name, value in expected.items()
        if getattr(config, name) != value
    ]
    if config.long_rope is not None and config.long_rope.start_tokens:
        wrong.append(f"long_rope.start_tokens = {config.long_rope.start_tokens}")
    if wrong:
        raise HornbookError(
            f"A Hugging Face {ARCHITECTURES[config.family]} cannot express {', '.join(wrong)}; "
            f"change the setting, or the model's family."
        )
