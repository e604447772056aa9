"""GGUF models in and out: architectures `phi3`, `phimoe`, `llama` and `phi2` of llama.cpp."""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from hornbook.errors import HornbookError
from hornbook.model.assemble import Piece, assemble, check_tensors, in_rows, parameter_shapes
from hornbook.model.config import EXPERTS_PER_TOKEN, Family, LongRope, ModelConfig
from hornbook.model.decoder import Decoder
from hornbook.model.gguf_file import (
    FLOAT32,
    STRING,
    UINT32,
    GGUFFile,
    Planned,
    Value,
    block,
    write_gguf,
)
from hornbook.model.gguf_tokenizer import tokenizer_metadata

Kind = Literal["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1"]

# llama.cpp's numbers for "mostly of this kind".
_FILE_TYPES = {"F32": 0, "F16": 1, "Q4_0": 2, "Q4_1": 3, "Q8_0": 7, "BF16": 32}
_ARCHITECTURE: dict[Family, str] = {"phi": "phi2", "phi3": "phi3", "llama": "llama", "phimoe": "phimoe"}
_FAMILY = {arch: family for family, arch in _ARCHITECTURE.items()}
_LONG, _SHORT = "rope_factors_long.weight", "rope_factors_short.weight"


def gguf_map(config: ModelConfig) -> dict[str, list[Piece]]:
    """Our parameter names, each with the GGUF tensors that make it up, in row order."""
    queries, keys = config.heads * config.head_dim, config.kv_heads * config.head_dim
    hidden, inner = config.hidden_size, config.intermediate_size
    layer = {
        "attention_norm": [("attn_norm", hidden)],
        "attention.qkv_proj": [("attn_qkv", queries + 2 * keys)],
        "attention.o_proj": [("attn_output", hidden)],
        "mlp.down_proj": [("ffn_down", hidden)],
    }
    apart = {"attention.qkv_proj": [("attn_q", queries), ("attn_k", keys), ("attn_v", keys)]}
    if config.family == "phi":
        layer["mlp.up_proj"] = [("ffn_up", inner)]
    elif config.family == "phi3":
        layer |= {"mlp_norm": [("ffn_norm", hidden)], "mlp.gate_up_proj": [("ffn_up", 2 * inner)]}
    elif config.family == "phimoe":
        layer |= apart | {
            "mlp_norm": [("ffn_norm", hidden)],
            "mlp.router": [("ffn_gate_inp", config.experts)],
        }
        layer |= {
            "mlp.gate_up_proj": [("ffn_gate_exps", inner), ("ffn_up_exps", inner)],
            "mlp.down_proj": [("ffn_down_exps", hidden)],
        }
    else:
        layer |= apart | {
            "mlp_norm": [("ffn_norm", hidden)],
            "mlp.gate_up_proj": [("ffn_gate", inner), ("ffn_up", inner)],
        }
    modules = {"embed_tokens": [("token_embd", config.vocab_size)]}
    for n in range(config.layers):
        for ours, theirs in layer.items():
            modules[f"layers.{n}.{ours}"] = [(f"blk.{n}.{name}", rows) for name, rows in theirs]
    modules["norm"] = [("output_norm", hidden)]
    modules["lm_head"] = [("output", config.vocab_size)]
    out = {}
    for name in parameter_shapes(config):
        module, _, leaf = name.rpartition(".")
        pieces = in_rows(modules[module], leaf)
        if "_exps." in pieces[0].name:
            pieces = [replace(piece, stacked=config.experts) for piece in pieces]
        out[name] = pieces
    return out


def _heads_in(config: ModelConfig, tensor: str) -> int | None:
    """How many heads a tensor's rows are that llama.cpp keeps in interleaved rotary order, else None."""
    part = tensor.split(".")[-2]
    if config.family != "llama" or part not in ("attn_q", "attn_k"):
        return None
    return config.heads if part == "attn_q" else config.kv_heads


def interleave(rows: Tensor, heads: int) -> Tensor:
    """Half-split rotary order (Hugging Face, ours) to llama.cpp's interleaved pairs, per head."""
    return rows.reshape(heads, 2, -1, *rows.shape[1:]).transpose(1, 2).reshape(rows.shape)


def deinterleave(rows: Tensor, heads: int) -> Tensor:
    """The inverse of `interleave`."""
    return rows.reshape(heads, -1, 2, *rows.shape[1:]).transpose(1, 2).reshape(rows.shape)


def read_gguf_config(file: GGUFFile) -> ModelConfig:
    """The ModelConfig that a GGUF file's metadata describes."""
    arch = file.get("general.architecture")
    if arch not in _FAMILY:
        raise HornbookError(
            f"{file.path} has the architecture {arch!r}, which this version does not know. "
            f"It knows {', '.join(_FAMILY)}."
        )
    family: Family = _FAMILY[arch]

    def number(key: str) -> int:
        value = file.get(f"{arch}.{key}")
        if not isinstance(value, int):
            raise HornbookError(f"{file.path} lacks {arch}.{key} in its metadata (found {value!r}).")
        return value

    def real(key: str, default: float) -> float:
        # Written as fp32: the shortest decimal with that value is what the author meant.
        return float(str(np.float32(file.get(f"{arch}.{key}", default))))

    heads, hidden = number("attention.head_count"), number("embedding_length")
    head_dim = file.get(f"{arch}.attention.key_length") or hidden // heads
    embedding = file.tensors.get("token_embd.weight")
    window = file.get(f"{arch}.attention.sliding_window")
    eos = file.get("tokenizer.ggml.eos_token_id")
    turn = file.get("tokenizer.ggml.eot_token_id")
    is_phi, is_moe = family == "phi", family == "phimoe"
    if is_moe and file.get(f"{arch}.expert_used_count") != EXPERTS_PER_TOKEN:
        raise HornbookError(
            f"{file.path} uses {file.get(f'{arch}.expert_used_count')} experts a token; phimoe routes to "
            f"{EXPERTS_PER_TOKEN}."
        )
    scaling = file.get(f"{arch}.rope.scaling.type", "none")
    if scaling not in ("none", "longrope"):
        raise HornbookError(
            f"{file.path} asks for rotary scaling {scaling!r}, which this version does not know."
        )
    return ModelConfig(
        family=family,
        vocab_size=embedding.shape[0] if embedding else len(file.get("tokenizer.ggml.tokens", [0])),
        hidden_size=hidden,
        layers=number("block_count"),
        heads=heads,
        kv_heads=file.get(f"{arch}.attention.head_count_kv") or 0,
        head_dim=head_dim,
        intermediate_size=number("feed_forward_length"),
        block="parallel" if is_phi else "sequential",
        norm="layernorm" if is_phi or is_moe else "rmsnorm",
        norm_eps=real(f"attention.layer_norm_{'' if is_phi else 'rms_'}epsilon", 1e-5),
        activation="gelu_new" if is_phi else "silu_glu",
        experts=number("expert_count") if is_moe else 0,
        router_jitter=real("router_jitter_noise", 0.01),
        input_jitter=real("input_jitter_noise", 0.01 if is_moe else 0.0),
        attention_bias=is_phi or "blk.0.attn_q.bias" in file.tensors,
        mlp_bias=is_phi or "blk.0.ffn_up.bias" in file.tensors,
        head_bias="output.bias" in file.tensors,
        tied_embeddings="output.weight" not in file.tensors,
        rope_theta=real("rope.freq_base", 10_000.0),
        rotary_fraction=_fraction(file.get(f"{arch}.rope.dimension_count") or head_dim, head_dim),
        long_rope=_read_long_rope(file, arch),
        max_position=number("context_length"),
        sliding_window=window or None,
        bos_id=file.get("tokenizer.ggml.bos_token_id"),
        eos_ids=tuple(dict.fromkeys(i for i in (eos, turn) if i is not None)),
        pad_id=file.get("tokenizer.ggml.padding_token_id"),
    )


def _fraction(rotary_dim: int, head_dim: int) -> float:
    """The number that int(head_dim * number) turns into rotary_dim again, rounding or not."""
    fraction = rotary_dim / head_dim
    return fraction if int(head_dim * fraction) == rotary_dim else math.nextafter(fraction, 2.0)


def _read_long_rope(file: GGUFFile, arch: str) -> LongRope | None:
    if _LONG not in file.tensors or _SHORT not in file.tensors:
        return None
    short, long = (tuple(float(str(f)) for f in file.read(name).float().numpy()) for name in (_SHORT, _LONG))
    factor = file.get(f"{arch}.rope.scaling.attn_factor")
    return LongRope(
        short_factor=short,
        long_factor=long,
        original_max_position=file.get(f"{arch}.rope.scaling.original_context_length")
        or file.get(f"{arch}.context_length"),
        attention_factor=None if factor is None else float(factor),
    )


def load_gguf(
    path: str | Path | GGUFFile, *, dtype: torch.dtype | None = None, device: torch.device | str = "cpu"
) -> Decoder:
    """Loads a GGUF model of architecture llama, phi3, phimoe or phi2, in evaluation mode.

    dtype: of the parameters; None keeps F32, F16 and BF16 matrices, turns blocks (Q8_0, Q4_0,
    K-quants, ...) into fp32, and leaves norms in the F32 they are stored in. Raises HornbookError
    for a truncated file, an unknown architecture, and, all listed at once, missing, extra and
    misshapen tensors.
    """
    file = path if isinstance(path, GGUFFile) else GGUFFile(path)
    config = read_gguf_config(file)
    pieces = gguf_map(config)
    check_tensors(
        file.path,
        config,
        pieces,
        {name: info.shape for name, info in file.tensors.items()},
        ignored=lambda name: name in (_LONG, _SHORT) and config.long_rope is not None,
    )

    def read_into(name: str, rows: Tensor) -> None:
        heads = _heads_in(config, name)
        value = file.read(name)
        rows.copy_(value if heads is None else deinterleave(value, heads))

    def dtype_of(name: str) -> torch.dtype:
        if dtype is not None:
            return dtype
        # A bias is F32 in every file, but a product needs it in the type of its matrix.
        matrix = name.removesuffix(".bias") + ".weight"
        stored = file.tensors[matrix if matrix in file.tensors else name].kind
        return {"F16": torch.float16, "BF16": torch.bfloat16}.get(stored, torch.float32)

    return assemble(
        file.path,
        config,
        pieces,
        read_into=read_into,
        dtype_of=dtype_of,
        device=device,
    )


def save_gguf(
    model: Decoder,
    tokenizer_folder: str | Path,
    path: str | Path,
    kind: Kind,
    *,
    name: str = "Hornbook",
    text_only: bool = False,
    centred: bool = False,
) -> None:
    """Writes a GGUF file that llama.cpp runs, with tokenizer and chat template inside; atomic.

    kind: "F32", "F16", "BF16", "Q8_0", "Q4_0" or "Q4_1" of the matrices. Norms, biases and LongRoPE
    factors stay F32; under a 4-bit kind the embeddings and the head are Q8_0; a matrix whose rows are
    no multiple of the block of 32 stays F16. `name` is written as general.name.

    text_only: leave the picture encoder of a vision model out; without it such a model is refused.
    centred: take the mean out of everything that writes to the residual stream of a phimoe model. Its own
    LayerNorm does the same, so nothing changes for it; llama.cpp, which has the norm without that
    subtraction, then computes it exactly. Off, reading and writing again gives the same numbers.
    `departures` says what llama.cpp computes otherwise all the same.
    """
    if kind not in get_args(Kind):
        raise HornbookError(
            f"GGUF kind {kind!r} cannot be written; choose one of {', '.join(get_args(Kind))}."
        )
    config = _expressible(model.config, text_only)
    if centred and (config.family != "phimoe" or config.tied_embeddings):
        raise HornbookError("Only phimoe models with a head of their own can be written centred.")
    metadata = _metadata(config, kind, name) | tokenizer_metadata(tokenizer_folder, config.vocab_size)
    vocabulary = metadata["tokenizer.ggml.tokens"].value
    extra = [i for i in config.eos_ids if i != metadata_value(metadata, "tokenizer.ggml.eos_token_id")]
    if config.eos_ids and "tokenizer.ggml.eos_token_id" not in metadata:
        metadata["tokenizer.ggml.eos_token_id"] = Value(kind=UINT32, value=config.eos_ids[0])
        extra = list(config.eos_ids[1:])
    if extra and extra[0] < len(vocabulary):
        metadata["tokenizer.ggml.eot_token_id"] = Value(kind=UINT32, value=extra[0])
    parameters = dict(model.named_parameters())
    tensors = [
        _planned(config, parameters[ours], part, kind, _residual_axis(ours) if centred else None)
        for ours, parts in gguf_map(config).items()
        for part in parts
    ]
    if config.long_rope is not None:
        tensors += [
            _factors(_LONG, config.long_rope.long_factor),
            _factors(_SHORT, config.long_rope.short_factor),
        ]
    write_gguf(Path(path), metadata, tensors)


def _expressible(config: ModelConfig, text_only: bool) -> ModelConfig:
    """`config` as an architecture that llama.cpp has, or HornbookError saying why there is none."""
    if config.vision is not None:
        if not text_only:
            raise HornbookError(
                "llama.cpp has no architecture for phi3_v: its file would hold the text model without the "
                "picture encoder. Ask for that with text_only=True, or export to a Hugging Face folder."
            )
        config = replace(config, family="phi3", vision=None)
    if config.family == "phi3small":
        raise HornbookError(
            "llama.cpp has no architecture for phi3small: it knows neither block-sparse attention nor GEGELU "
            "nor the multipliers of muP. Export to a Hugging Face folder instead."
        )
    config.to_hf()  # refuses what the architecture's arithmetic cannot express
    return config


def departures(config: ModelConfig) -> tuple[str, ...]:
    """What llama.cpp computes otherwise than this model, in sentences for the user who exports it."""
    out = []
    if config.vision is not None:
        out.append("The file holds the text model; the picture encoder and its projection are left out.")
    window = config.sliding_window
    if config.family in ("phi3", "phi3_v") and window is not None and window < config.max_position:
        out.append(
            f"llama.cpp ignores the sliding window of {window} tokens: it reads longer texts differently."
        )
    if config.experts:
        out.append(
            "llama.cpp weighs the two experts of a token by a softmax that sums to one; the model's own "
            "rule (SparseMixer) gives each about 1, so its answers differ there."
        )
        if config.tied_embeddings:
            out.append("llama.cpp normalises without subtracting the mean; with tied embeddings that shows.")
    return tuple(out)


def _residual_axis(parameter: str) -> int | None:
    """The hidden dimension of what writes to the residual stream, counted from the end; else None."""
    if parameter == "embed_tokens.weight" or parameter.endswith(".o_proj.bias"):
        return -1
    return -2 if parameter.endswith((".o_proj.weight", ".down_proj.weight")) else None


def metadata_value(metadata: Mapping[str, Value], key: str) -> object:
    """The plain value of a key, or None."""
    return metadata[key].value if key in metadata else None


def _metadata(config: ModelConfig, kind: str, name: str) -> dict[str, Value]:
    arch = _ARCHITECTURE[config.family]
    # phimoe has LayerNorm; its epsilon is named as in its config.json.
    epsilon = "layer_norm_epsilon" if config.family == "phi" else "layer_norm_rms_epsilon"
    numbers: dict[str, int | float] = {
        "context_length": config.max_position,
        "embedding_length": config.hidden_size,
        "block_count": config.layers,
        "feed_forward_length": config.intermediate_size,
        "attention.head_count": config.heads,
        "attention.head_count_kv": config.kv_heads,
        f"attention.{epsilon}": float(config.norm_eps),
        "attention.key_length": config.head_dim,
        "attention.value_length": config.head_dim,
        "rope.dimension_count": config.rotary_dim,
        "rope.freq_base": float(config.rope_theta),
        "vocab_size": config.vocab_size,
    }
    if config.experts:
        numbers |= {
            "expert_count": config.experts,
            "expert_used_count": EXPERTS_PER_TOKEN,
            "router_jitter_noise": float(config.router_jitter),
            "input_jitter_noise": float(config.input_jitter),
        }
    if config.family in ("phi3", "phimoe"):
        # 0 says "no window": without the key older llama.cpp assumes phi-3-mini's.
        numbers["attention.sliding_window"] = config.sliding_window or 0
        original = config.max_position if config.long_rope is None else config.long_rope.original_max_position
        numbers["rope.scaling.original_context_length"] = original
    if config.long_rope is not None:
        short, long = (
            config.long_rope.magnitude(config.max_position, long=beyond) for beyond in (False, True)
        )
        if short != long:
            raise HornbookError(
                "GGUF has one attention factor; this model has different short and long ones."
            )
        numbers["rope.scaling.attn_factor"] = short
    out = {
        "general.architecture": Value(kind=STRING, value=arch),
        "general.name": Value(kind=STRING, value=name),
        "general.file_type": Value(kind=UINT32, value=_FILE_TYPES[kind]),
        "general.quantization_version": Value(kind=UINT32, value=2),
    }
    for key, value in numbers.items():
        out[f"{arch}.{key}"] = Value(kind=FLOAT32 if isinstance(value, float) else UINT32, value=value)
    return out


def _planned(config: ModelConfig, parameter: Tensor, part: Piece, kind: str, axis: int | None) -> Planned:
    """axis: the dimension whose mean is taken out, or None."""
    shape = part.shape(parameter.shape)
    # A bias lies in F32 beside its matrix, but is added in the matrix's type wherever the file is read.
    half = {"F16": torch.float16, "BF16": torch.bfloat16}.get(kind)
    rounded = half if part.name.endswith(".bias") and "norm" not in part.name else None
    if len(shape) == 1 or (".ffn_gate_inp." in part.name and kind not in ("F16", "BF16")):
        kind = "F32"  # a router in blocks would send tokens to other experts
    elif kind.startswith("Q4") and part.name in ("token_embd.weight", "output.weight"):
        kind = "Q8_0"
    if shape[-1] % block(kind)[0]:
        kind = "F16"
    heads = _heads_in(config, part.name)

    def make() -> Tensor:
        rows = part.of(parameter.detach())
        if axis is not None:
            wide = rows.double()
            rows = (wide - wide.mean(axis, keepdim=True)).float()
        if rounded is not None:
            rows = rows.to(rounded)
        return rows if heads is None else interleave(rows, heads)

    return Planned(name=part.name, kind=kind, shape=shape, make=make)


def _factors(name: str, factors: tuple[float, ...]) -> Planned:
    make: Callable[[], Tensor] = lambda: torch.tensor(factors)  # noqa: E731
    return Planned(name=name, kind="F32", shape=(len(factors),), make=make)
