"""Hugging Face checkpoint folders in and out, without loss and one tensor at a time."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hornbook.errors import HornbookError
from hornbook.model.assemble import Piece, Pieces, assemble, check_tensors, in_rows, listed, parameter_shapes
from hornbook.model.config import ModelConfig
from hornbook.model.decoder import Decoder
from hornbook.model.hf_phi3_small import group, ungroup
from hornbook.model.hf_vision import is_spare, vision_modules, vision_tensors
from hornbook.model.quantized_folder import is_quantized, load_quantized
from hornbook.model.tensor_file import Entry, Planned, atomic_file, read_header, write_tensors

SHARD_BYTES = 5_000_000_000


def tensor_map(config: ModelConfig) -> dict[str, list[Piece]]:
    """Our parameter names, each with the Hugging Face tensors that make it up, in row order.

    Every map is a concatenation of rows: phi and llama store q, k, v (and llama gate and up)
    apart, phi3 stores them fused as we do; phi3small's fused rows are in another order (`reordered`).
    """
    queries, keys = config.heads * config.head_dim, config.kv_heads * config.head_dim
    qkv = [("q_proj", queries), ("k_proj", keys), ("v_proj", keys)]
    inner = config.intermediate_size
    layer: dict[str, list[tuple[str, int]]]
    if config.family == "phi":
        layer = {
            "attention_norm": [("input_layernorm", config.hidden_size)],
            "attention.qkv_proj": [(f"self_attn.{name}", rows) for name, rows in qkv],
            "attention.o_proj": [("self_attn.dense", config.hidden_size)],
            "mlp.up_proj": [("mlp.fc1", inner)],
            "mlp.down_proj": [("mlp.fc2", config.hidden_size)],
        }
    elif config.family == "phimoe":
        experts = [f"block_sparse_moe.experts.{e}" for e in range(config.experts)]
        layer = {
            "attention_norm": [("input_layernorm", config.hidden_size)],
            "attention.qkv_proj": [(f"self_attn.{name}", rows) for name, rows in qkv],
            "attention.o_proj": [("self_attn.o_proj", config.hidden_size)],
            "mlp_norm": [("post_attention_layernorm", config.hidden_size)],
            "mlp.router": [("block_sparse_moe.gate", config.experts)],
            "mlp.gate_up_proj": [(f"{expert}.{part}", inner) for expert in experts for part in ("w1", "w3")],
            "mlp.down_proj": [(f"{expert}.w2", config.hidden_size) for expert in experts],
        }
    elif config.family == "phi3small":
        layer = {
            "attention_norm": [("input_layernorm", config.hidden_size)],
            "attention.qkv_proj": [("self_attn.query_key_value", queries + 2 * keys)],
            "attention.o_proj": [("self_attn.dense", config.hidden_size)],
            "mlp_norm": [("post_attention_layernorm", config.hidden_size)],
            "mlp.gate_up_proj": [("mlp.up_proj", 2 * inner)],
            "mlp.down_proj": [("mlp.down_proj", config.hidden_size)],
        }
    else:
        fused = config.family in ("phi3", "phi3_v")
        layer = {
            "attention_norm": [("input_layernorm", config.hidden_size)],
            "attention.qkv_proj": [("self_attn.qkv_proj", queries + 2 * keys)]
            if fused
            else [(f"self_attn.{name}", rows) for name, rows in qkv],
            "attention.o_proj": [("self_attn.o_proj", config.hidden_size)],
            "mlp_norm": [("post_attention_layernorm", config.hidden_size)],
            "mlp.gate_up_proj": [("mlp.gate_up_proj", 2 * inner)]
            if fused
            else [("mlp.gate_proj", inner), ("mlp.up_proj", inner)],
            "mlp.down_proj": [("mlp.down_proj", config.hidden_size)],
        }
    modules = {"embed_tokens": [("model.embed_tokens", config.vocab_size)]}
    for n in range(config.layers):
        for ours, theirs in layer.items():
            modules[f"layers.{n}.{ours}"] = [(f"model.layers.{n}.{name}", rows) for name, rows in theirs]
    final = "model.final_layernorm" if config.family in ("phi", "phi3small") else "model.norm"
    modules["norm"] = [(final, config.hidden_size)]
    modules["lm_head"] = [("lm_head", config.vocab_size)]
    modules |= vision_modules(config)
    alone = vision_tensors(config)
    out: dict[str, list[Piece]] = {}
    for name in parameter_shapes(config):
        if name in alone:
            stored, count = alone[name]
            out[name] = [Piece(name=stored, start=0, stop=count)]
            continue
        module, _, leaf = name.rpartition(".")
        out[name] = in_rows(modules[module], leaf)
    return out


def reordered(config: ModelConfig, name: str) -> bool:
    """Whether the rows of tensor `name` are kept key head by key head, not queries, keys, values."""
    return config.family == "phi3small" and ".query_key_value." in name


def load_checkpoint(
    folder: str | Path, *, dtype: torch.dtype | None = None, device: torch.device | str = "cpu"
) -> Decoder:
    """Loads a Hugging Face folder of any family that `hf_config.ARCHITECTURES` names, in evaluation mode.

    A folder that `hornbook export --to int4` wrote opens with its codes, on the CPU, in their own dtypes.

    dtype: of the parameters; None keeps the dtype of the files. Peak memory is the model and
    about one tensor. Raises HornbookError for a folder without config or weights, an unknown
    architecture, and, all listed at once, missing, extra and misshapen tensors or NaN in them.
    """
    folder = Path(folder)
    config = read_config(folder)
    if is_quantized(folder):
        return load_quantized(folder)
    entries = _entries(folder)
    pieces = tensor_map(config)
    _check(folder, config, entries, pieces)

    def read_into(name: str, rows: Tensor) -> None:
        if reordered(config, name):
            rows.copy_(ungroup(entries[name].read(), config))
        elif entries[name].dtype == rows.dtype:
            entries[name].read_into(rows)
        else:
            rows.copy_(entries[name].read())

    return assemble(
        folder,
        config,
        pieces,
        read_into=read_into,
        dtype_of=lambda name: entries[name].dtype if dtype is None else dtype,
        device=device,
    )


def read_config(folder: str | Path) -> ModelConfig:
    """The `config.json` of a checkpoint folder as a ModelConfig.

    The ids that end a generation come from generation_config.json where there is one: released
    chat models name their end-of-turn token only there.
    """
    folder = Path(folder)
    path = folder / "config.json"
    if not path.is_file():
        raise HornbookError(f"{folder} holds no config.json, so it is not a checkpoint folder.")
    config = ModelConfig.from_hf(_read_json(path))
    generation = folder / "generation_config.json"
    eos = _read_json(generation).get("eos_token_id") if generation.is_file() else None
    if eos is not None:
        config = replace(config, eos_ids=tuple(eos) if isinstance(eos, list) else (eos,))
    return config


def _read_json(path: Path) -> Mapping[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise HornbookError(f"{path} is not valid JSON ({error}).") from error
    if not isinstance(values, Mapping):
        raise HornbookError(f"{path} holds no JSON object.")
    return values


def _entries(folder: Path) -> dict[str, Entry]:
    """Every tensor of the folder by name, from the index, the single file, or all shards."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        try:
            names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        except (ValueError, KeyError, AttributeError) as error:
            raise HornbookError(f"{index} is not a valid index of weights ({error}).") from error
        files = [folder / Path(str(name)).name for name in names]
    elif (folder / "model.safetensors").is_file():
        files = [folder / "model.safetensors"]
    else:
        raise HornbookError(f"{folder} holds no model.safetensors and no model.safetensors.index.json.")
    absent = [file.name for file in files if not file.is_file()]
    if absent:
        raise HornbookError(
            f"{folder} lacks {listed(absent)}, which its index names. Copy the whole folder again."
        )
    entries: dict[str, Entry] = {}
    for file in files:
        entries |= read_header(file)[0]
    return entries


def _check(folder: Path, config: ModelConfig, entries: Mapping[str, Entry], pieces: Pieces) -> None:
    """Compares what the files hold with what the config asks for; one error lists every difference."""
    integers = [n for n, entry in entries.items() if not entry.dtype.is_floating_point and not is_spare(n)]
    check_tensors(
        folder,
        config,
        pieces,
        {name: entry.shape for name, entry in entries.items()},
        ignored=lambda name: (
            ".rotary_emb." in name
            or (config.vision is not None and is_spare(name))
            or (config.tied_embeddings and name == "lm_head.weight")
        ),
        other_problems=[f"{len(integers)} not floating point: {listed(integers)}"] if integers else [],
    )
    if config.tied_embeddings and "lm_head.weight" in entries:
        head, embedding = entries["lm_head.weight"], entries["model.embed_tokens.weight"]
        if head.shape != embedding.shape or not torch.equal(head.read(), embedding.read()):
            raise HornbookError(
                f"config.json in {folder} says the embeddings are tied, but lm_head.weight differs from "
                "model.embed_tokens.weight. Set tie_word_embeddings to false to load both."
            )


def save_checkpoint(
    model: Decoder,
    folder: str | Path,
    *,
    dtype: torch.dtype | None = None,
    shard_bytes: int = SHARD_BYTES,
) -> None:
    """Writes config.json, generation_config.json and model*.safetensors as `transformers` loads them.

    dtype: of the numbers on disk; None keeps the model's. Files appear whole or not at all and
    config.json comes last. Peak memory is about one tensor above the model. Tied embeddings are
    written once. Tokenizer files are the data room's business and are left alone.
    """
    folder = Path(folder)
    hf = model.config.to_hf()
    folder.mkdir(parents=True, exist_ok=True)
    parameters = dict(model.named_parameters())
    planned = [
        _planned(model.config, parameters[name], part, dtype)
        for name, parts in tensor_map(model.config).items()
        for part in parts
    ]
    shards: list[list[Planned]] = [[]]
    filled = 0
    for tensor in planned:
        if shards[-1] and filled + tensor.bytes > shard_bytes:
            shards.append([])
            filled = 0
        shards[-1].append(tensor)
        filled += tensor.bytes
    if len(shards) == 1:
        names = ["model.safetensors"]
    else:
        names = [f"model-{n:05d}-of-{len(shards):05d}.safetensors" for n in range(1, len(shards) + 1)]
    for file, shard in zip(names, shards, strict=True):
        write_tensors(folder / file, shard)
    index = folder / "model.safetensors.index.json"
    if len(shards) > 1:
        total = sum(tensor.bytes for tensor in planned)
        where = {tensor.name: file for file, shard in zip(names, shards, strict=True) for tensor in shard}
        _write_json(index, {"metadata": {"total_size": total}, "weight_map": where})
    else:
        index.unlink(missing_ok=True)
    for stale in folder.glob("model*.safetensors"):
        if stale.name not in names:
            stale.unlink()
    hf["dtype"] = hf["torch_dtype"] = str(planned[0].dtype).removeprefix("torch.")
    _write_json(folder / "generation_config.json", _generation_config(model.config))
    _write_json(folder / "config.json", hf)


def verify_checkpoint(model: Decoder, folder: str | Path, *, dtype: torch.dtype | None = None) -> int:
    """Reads a written folder back, one tensor at a time: how many tensors are `model`'s bit for bit.

    dtype: what the numbers were written in. Raises HornbookError naming every tensor that is another.
    """
    folder = Path(folder)
    entries, parameters = _entries(folder), dict(model.named_parameters())
    planned = [
        _planned(model.config, parameters[name], part, dtype)
        for name, parts in tensor_map(model.config).items()
        for part in parts
    ]
    wrong = [
        tensor.name
        for tensor in planned
        if tensor.name not in entries
        or not torch.equal(entries[tensor.name].read(), tensor.make().detach().to("cpu", tensor.dtype))
    ]
    if wrong:
        raise HornbookError(
            f"{folder} was not written as it should be: {listed(wrong)}. Check the disk and write it again."
        )
    return len(planned)


def _planned(config: ModelConfig, parameter: Tensor, part: Piece, dtype: torch.dtype | None) -> Planned:
    def make() -> Tensor:
        rows = part.of(parameter)
        return group(rows, config) if reordered(config, part.name) else rows

    return Planned(
        name=part.name,
        dtype=parameter.dtype if dtype is None else dtype,
        shape=part.shape(parameter.shape),
        make=make,
    )


def _generation_config(config: ModelConfig) -> dict[str, Any]:
    out: dict[str, Any] = {"_from_model_config": True}
    if config.bos_id is not None:
        out["bos_token_id"] = config.bos_id
    if config.eos_ids:
        out["eos_token_id"] = list(config.eos_ids) if len(config.eos_ids) > 1 else config.eos_ids[0]
    if config.pad_id is not None:
        out["pad_token_id"] = config.pad_id
    return out


def _write_json(path: Path, value: object) -> None:
    with atomic_file(path) as stream:
        stream.write((json.dumps(value, indent=2) + "\n").encode())
