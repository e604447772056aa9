"""Storage formats of weights, and a layer's codes in them."""

from typing import Literal, get_args

import torch
from torch import nn

from hornbook.errors import HornbookError
from hornbook.model.quantized import Codes, QuantLinear, fits_int4, nearest_int4, nearest_int8

Weights = Literal["auto", "fp32", "bf16", "int8", "int4"]


def has_fast_bf16() -> bool:
    """Whether bf16 matrix products are faster than fp32 ones on this CPU (AVX-512 BF16 or AMX)."""
    cpu = torch.cpu
    return bool(getattr(cpu, "_is_avx512_bf16_supported", lambda: False)())


def resolve(weights: Weights, device: torch.device) -> Weights:
    """What "auto" means on `device`: bf16 where it is fast, else fp32."""
    if weights not in get_args(Weights):
        accepted = ", ".join(get_args(Weights))
        raise HornbookError(f"Engine weights {weights!r} is unknown; accepted are {accepted}.")
    if weights in ("int8", "int4") and device.type != "cpu":
        raise HornbookError(f"Engine weights {weights!r} runs on the CPU only; use bf16 on {device}.")
    if weights != "auto":
        return weights
    return "bf16" if device.type != "cpu" or has_fast_bf16() else "fp32"


def stored_as(layers: list[nn.Module]) -> Weights | None:
    """The format in which a model was quantized before; None for one of plain numbers."""
    bits = {layer.codes.bits for layer in layers if isinstance(layer, QuantLinear)}
    return "int4" if 4 in bits else "int8" if bits else None


def as_codes(layer: nn.Module, weights: Weights) -> Codes:
    """The codes of a linear layer or an embedding: those it holds, or its numbers rounded to nearest.

    Rows that do not fall into groups of 32 take 8 bits also under "int4".
    """
    if isinstance(layer, QuantLinear):
        return layer.codes
    weight = layer.weight
    assert isinstance(weight, torch.Tensor)
    if weights == "int4" and fits_int4(weight):
        from hornbook.infer.native_decoder import quantize_int4

        return quantize_int4(weight) or nearest_int4(weight)
    return nearest_int8(weight)
