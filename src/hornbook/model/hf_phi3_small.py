"""phi-3-small's own `config.json` (model_type "phi3small") and the row order of its fused projection."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from hornbook.errors import HornbookError
from hornbook.model.config import BlockSparse, LongRope, ModelConfig, Multipliers

# The cl100k ids that the tokenizer never produces; the published model hides their logits.
UNUSED_IDS = (100256, 100258, 100259, 100260, 100264, 100265, *range(100267, 100352))
_TOKENIZER_ROWS = 100352


def config_from_phi3_small(config: Mapping[str, Any]) -> ModelConfig:
    """Reads a phi3small `config.json`; settings it does not name have the published class's defaults."""

    def value(name: str, default: Any) -> Any:
        return config[name] if config.get(name) is not None else default

    hidden, vocab = value("hidden_size", 4096), value("vocab_size", _TOKENIZER_ROWS)
    for name, only in (("hidden_act", "gegelu"), ("rope_position_scale", 1.0)):
        if value(name, only) != only:
            raise HornbookError(
                f"config.json (model_type phi3small) says {name} = {config[name]!r}; known: {only!r}."
            )
    inner = value("ff_intermediate_size", None if config.get("ff_dim_multiplier") else 14336)
    if inner is None:
        inner = int(config["ff_dim_multiplier"] * (hidden // 3) * 2)
        if value("gegelu_pad_to_256", True):
            inner = -(-inner // 256) * 256
    scaled = value("mup_use_scaling", True)
    unused = value("dummy_token_indices", UNUSED_IDS if vocab == _TOKENIZER_ROWS else ())
    eos = value("eos_token_id", 100257)
    max_position = value("max_position_embeddings", 8192)
    return ModelConfig(
        family="phi3small",
        vocab_size=vocab,
        hidden_size=hidden,
        layers=value("num_hidden_layers", 32),
        heads=value("num_attention_heads", 32),
        kv_heads=value("num_key_value_heads", 8),
        intermediate_size=inner,
        norm="layernorm",
        norm_eps=value("layer_norm_epsilon", 1e-5),
        activation="gegelu",
        gegelu_limit=value("gegelu_limit", 20.0),
        attention_bias=True,
        mlp_bias=True,
        tied_embeddings=value("tie_word_embeddings", True),
        rope_theta=float(value("rope_embedding_base", 1e6)),
        long_rope=_long_rope(config, max_position),
        max_position=max_position,
        block_sparse=BlockSparse(
            block=value("blocksparse_block_size", 64),
            local_blocks=value("blocksparse_num_local_blocks", 16),
            stride=value("blocksparse_vert_stride", 8),
            same_for_all_heads=value("blocksparse_homo_head_pattern", False),
            dense_every=config.get("dense_attention_every_n_layers", 2) or 0,
        ),
        embedding_dropout=value("embedding_dropout_prob", 0.1),
        mlp_dropout=value("ffn_dropout_prob", 0.1),
        attention_dropout=value("attention_dropout_prob", 0.0),
        init_std=value("initializer_range", 0.02),
        multipliers=Multipliers(
            embedding=value("mup_embedding_multiplier", 10.0),
            logits=1.0 / value("mup_width_multiplier", 8.0),
            attention=value("mup_attn_multiplier", 1.0),
        )
        if scaled
        else Multipliers(),
        bos_id=value("bos_token_id", 100257),
        eos_ids=tuple(eos) if isinstance(eos, list | tuple) else (eos,),
        pad_id=config.get("pad_token_id"),
        unused_ids=tuple(unused),
    )


def _long_rope(config: Mapping[str, Any], max_position: int) -> LongRope | None:
    rope = config.get("rope_scaling")
    if not rope:
        return None
    absent = [name for name in ("short_factor", "long_factor") if name not in rope]
    if absent:
        raise HornbookError(f"config.json (model_type phi3small) has a rope_scaling without {absent}.")
    return LongRope(
        short_factor=tuple(float(f) for f in rope["short_factor"]),
        long_factor=tuple(float(f) for f in rope["long_factor"]),
        original_max_position=rope.get("original_max_position_embeddings")
        or config.get("original_max_position_embeddings")
        or max_position,
        short_mscale=rope.get("short_mscale"),
        long_mscale=rope.get("long_mscale"),
    )


def config_to_phi3_small(config: ModelConfig) -> dict[str, Any]:
    """The `config.json` mapping that the published remote code reads."""
    pattern, scale, rope = config.block_sparse, config.multipliers, config.long_rope
    if pattern is None:
        raise HornbookError("A phi3small model needs block_sparse; set dense_every=1 for dense layers only.")
    eos: int | list[int] | None = list(config.eos_ids) or None
    out: dict[str, Any] = {
        "architectures": ["Phi3SmallForCausalLM"],
        "model_type": "phi3small",
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "ff_dim_multiplier": None,
        "ff_intermediate_size": config.intermediate_size,
        "hidden_act": "gegelu",
        "gegelu_limit": config.gegelu_limit,
        "gegelu_pad_to_256": True,
        "layer_norm_epsilon": config.norm_eps,
        "max_position_embeddings": config.max_position,
        "rope_embedding_base": config.rope_theta,
        "rope_position_scale": 1.0,
        "rope_scaling": None,
        "blocksparse_block_size": pattern.block,
        "blocksparse_triton_kernel_block_size": pattern.block,
        "blocksparse_num_local_blocks": pattern.local_blocks,
        "blocksparse_vert_stride": pattern.stride,
        "blocksparse_homo_head_pattern": pattern.same_for_all_heads,
        "dense_attention_every_n_layers": pattern.dense_every or None,
        "embedding_dropout_prob": config.embedding_dropout,
        "ffn_dropout_prob": config.mlp_dropout,
        "attention_dropout_prob": config.attention_dropout,
        "initializer_range": config.init_std,
        "mup_use_scaling": scale != Multipliers(),
        "mup_embedding_multiplier": scale.embedding,
        "mup_width_multiplier": 1.0 / scale.logits,
        "mup_attn_multiplier": 1.0 if scale.attention is None else scale.attention,
        "tie_word_embeddings": config.tied_embeddings,
        "dummy_token_indices": list(config.unused_ids),
        "pad_sequence_to_multiple_of_64": True,
        "bos_token_id": config.bos_id,
        "eos_token_id": config.eos_ids[0] if len(config.eos_ids) == 1 else eos,
        "pad_token_id": config.pad_id,
        "use_cache": True,
    }
    if rope is not None:
        scaling: dict[str, Any] = {
            "type": "su",
            "short_factor": list(rope.short_factor),
            "long_factor": list(rope.long_factor),
            "original_max_position_embeddings": rope.original_max_position,
        }
        magnitudes = (rope.magnitude(config.max_position, long=long) for long in (False, True))
        scaling["short_mscale"], scaling["long_mscale"] = magnitudes
        out["rope_scaling"] = scaling
        out["original_max_position_embeddings"] = rope.original_max_position
    return out


def ungroup(rows: Tensor, config: ModelConfig) -> Tensor:
    """Rows as published (of each key head its query heads, then the key, then the value) to our order: all
    query heads, all key heads, all value heads.
    """
    group = config.heads // config.kv_heads
    parts = rows.reshape(config.kv_heads, group + 2, config.head_dim, *rows.shape[1:])
    apart = (parts[:, :group].flatten(0, 1), parts[:, group], parts[:, group + 1])
    return torch.cat(apart).reshape(rows.shape)


def group(rows: Tensor, config: ModelConfig) -> Tensor:
    """The inverse of `ungroup`."""
    keys, rest = config.kv_heads, (config.head_dim, *rows.shape[1:])
    ends = [config.heads * config.head_dim, keys * config.head_dim, keys * config.head_dim]
    apart = [part.reshape(keys, -1, *rest) for part in torch.split(rows, ends)]
    return torch.cat(apart, 1).reshape(rows.shape)
