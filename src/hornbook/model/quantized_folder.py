"""A quantized decoder in a folder: config.json as the ecosystem has it, and `quantized.safetensors` with the
codes.

Tensors carry our names: `layers.0.mlp.down_proj.codes` (two 4-bit codes to a byte, or signed bytes),
`.scales` (bf16), `.bias`; `embed_tokens` and `lm_head` alike, `lm_head` only where it is not the embedding's.
"""

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from hornbook.errors import HornbookError
from hornbook.model.assemble import listed
from hornbook.model.decoder import Decoder
from hornbook.model.quantized import Codes, QuantLinear, nearest_int8, pair_up, take_apart
from hornbook.model.tensor_file import Entry, Planned, atomic_file, read_header, write_tensors

FILE = "quantized.safetensors"
METHOD = "hornbook"


def is_quantized(folder: str | Path) -> bool:
    """Whether the folder holds a model that `save_quantized` wrote."""
    return (Path(folder) / FILE).is_file()


def save_quantized(model: Decoder, folder: str | Path) -> None:
    """Writes what `hornbook.model.quantize.quantize` made; config.json comes last."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    planned = [
        Planned(name=name, dtype=value.dtype, shape=tuple(value.shape), make=partial(torch.clone, value))
        for name, value in _tensors(model)
    ]
    write_tensors(folder / FILE, planned)
    bits = min((m.codes.bits for m in model.layers.modules() if isinstance(m, QuantLinear)), default=8)
    hf = model.config.to_hf()
    hf["quantization_config"] = {
        "quant_method": METHOD,
        "bits": bits,
        "group_size": 32 if bits == 4 else None,
    }
    for name, value in (
        ("generation_config.json", {"eos_token_id": list(model.config.eos_ids)}),
        ("config.json", hf),
    ):
        with atomic_file(folder / name) as stream:
            stream.write((json.dumps(value, indent=2) + "\n").encode())


def _tensors(model: Decoder) -> Iterator[tuple[str, Tensor]]:
    head: nn.Module | None = model.lm_head
    if not isinstance(head, QuantLinear):
        raise ValueError("the model holds plain numbers; quantize it first")
    table = head.codes if model.config.tied_embeddings else nearest_int8(model.embed_tokens.weight)
    yield "embed_tokens.codes", table.codes
    yield "embed_tokens.scales", table.scales
    for name, module in model.named_modules():
        if isinstance(module, QuantLinear):
            if name != "lm_head" or not model.config.tied_embeddings:
                codes = module.codes
                yield f"{name}.codes", pair_up(codes.codes) if codes.bits == 4 else codes.codes
                yield f"{name}.scales", codes.scales
            if module.bias is not None:
                yield f"{name}.bias", module.bias
        elif name != "embed_tokens":
            for leaf, parameter in module.named_parameters(recurse=False):
                yield f"{name}.{leaf}", parameter


def load_quantized(folder: str | Path) -> Decoder:
    """The decoder of a folder that `save_quantized` wrote, in evaluation mode, on the CPU.

    Raises:
        HornbookError: tensors that are missing, extra or misshapen, all listed at once; NaN in scales.
    """
    from hornbook.model.hf import read_config

    folder = Path(folder)
    config = read_config(folder)
    entries, _ = read_header(folder / FILE)
    with torch.device("meta"):
        model = Decoder(config)
    wrong = _differences(model, entries)
    if wrong:
        raise HornbookError(f"{folder / FILE} does not fit its config.json: {listed(wrong)}.")
    table = _codes(entries, "embed_tokens", config.hidden_size)
    for name, module in list(model.named_modules()):
        if name in ("embed_tokens", "lm_head"):
            continue
        if isinstance(module, nn.Linear):
            holder, _, leaf = name.rpartition(".")
            bias = entries[f"{name}.bias"].read() if module.bias is not None else None
            setattr(
                model.get_submodule(holder),
                leaf,
                QuantLinear(_codes(entries, name, module.in_features), bias),
            )
            continue
        for leaf, _ in list(module.named_parameters(recurse=False)):
            if name:
                value = nn.Parameter(entries[f"{name}.{leaf}"].read(), requires_grad=False)
                setattr(module, leaf, value)
    head = table if config.tied_embeddings else _codes(entries, "lm_head", config.hidden_size)
    head_bias = entries["lm_head.bias"].read() if "lm_head.bias" in entries else None
    model.embed_tokens.weight = nn.Parameter(table.dense().bfloat16(), requires_grad=False)
    model.head_bias = None
    model.lm_head = QuantLinear(head, head_bias)  # type: ignore[assignment]
    for name, module in model.named_modules():
        if isinstance(module, QuantLinear) and not bool(module.codes.scales.isfinite().all()):
            raise HornbookError(
                f"{folder / FILE} holds scales of {name} that are not numbers: quantize it again."
            )
    return model.eval()


def _differences(model: Decoder, entries: dict[str, Entry]) -> list[str]:
    """What is missing, extra or of another shape."""
    config = model.config
    expected: dict[str, tuple[tuple[int, ...], ...]] = {}

    def matrix(name: str, rows: int, columns: int) -> None:
        expected[f"{name}.codes"] = ((rows, columns), (rows, columns // 2))
        expected[f"{name}.scales"] = ((rows,), (rows, columns // 32))

    matrix("embed_tokens", config.vocab_size, config.hidden_size)
    if not config.tied_embeddings:
        matrix("lm_head", config.vocab_size, config.hidden_size)
    if config.head_bias:
        expected["lm_head.bias"] = ((config.vocab_size,),)
    for name, module in model.named_modules():
        if name in ("", "embed_tokens", "lm_head"):
            continue
        for leaf, parameter in module.named_parameters(recurse=False):
            if isinstance(module, nn.Linear) and leaf == "weight":
                matrix(name, *parameter.shape)
            else:
                expected[f"{name}.{leaf}"] = (tuple(parameter.shape),)
    wrong = [f"{name} is missing" for name in expected if name not in entries]
    wrong += [f"{name} is unknown" for name in entries if name not in expected]
    wrong += [
        f"{name} has shape {entries[name].shape}"
        for name, shapes in expected.items()
        if name in entries and entries[name].shape not in shapes
    ]
    return wrong


def _codes(entries: dict[str, Entry], name: str, columns: int) -> Codes:
    codes, scales = entries[f"{name}.codes"].read(), entries[f"{name}.scales"].read()
    if codes.dtype == torch.uint8:
        return Codes(bits=4, codes=take_apart(codes)[:, :columns], scales=scales)
    return Codes(bits=8, codes=codes, scales=scales)
