"""Group-wise round-to-nearest quantization of weights, and the two packed kernels of ATen for the CPU."""

from dataclasses import dataclass

import torch
from torch import Tensor

GROUP = 32
"""Weights that share one scale (and, at 4 bits, one minimum)."""


@dataclass(frozen=True)
class Int4:
    """w ~ (code - 8) * scale + offset: codes (out, in) int32 in 0..15, the others (out, in / group)."""

    codes: Tensor
    scale: Tensor
    offset: Tensor
    group: int


def quantize_int4(weight: Tensor, *, group: int = GROUP) -> Int4:
    """Round to nearest with a scale and a minimum for every `group` neighbours of a row.

    weight: (out, in) with `in` divisible by `group`. The 16 levels span the group's minimum and
    maximum; scales and offsets are rounded to bf16 (what the kernel takes) before codes are chosen.
    """
    out, columns = weight.shape
    if columns % group:
        raise ValueError(f"{columns} input columns are not a multiple of the group of {group}")
    grouped = weight.detach().float().view(out, columns // group, group)
    low, high = grouped.amin(-1), grouped.amax(-1)
    scale = ((high - low) / 15).clamp_min(1e-8).bfloat16().float()
    offset = (low + 8 * scale).bfloat16().float()
    codes = ((grouped - offset[..., None]) / scale[..., None]).round().add(8).clamp(0, 15)
    return Int4(codes.view(out, columns).to(torch.int32), scale, offset, group)


def dequantize_int4(q: Int4) -> Tensor:
    """The matrix the codes stand for, fp32 (out, in)."""
    out, columns = q.codes.shape
    grouped = (q.codes.view(out, columns // q.group, q.group) - 8).float()
    return (grouped * q.scale[..., None] + q.offset[..., None]).view(out, columns)


def pack_int4(q: Int4) -> tuple[Tensor, Tensor]:
    """What `int4_linear` takes: packed codes, and scales with offsets (in / group, out, 2) in bf16."""
    packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(q.codes, 1)
    both = torch.stack([q.scale, q.offset], -1).transpose(0, 1).contiguous().bfloat16()
    return packed, both


def int4_linear(x: Tensor, packed: Tensor, scales: Tensor, group: int) -> Tensor:
    """x (rows, in) bf16 times the packed matrix, (rows, out) bf16."""
    out: Tensor = torch.ops.aten._weight_int4pack_mm_for_cpu(x, packed, group, scales)
    return out


def quantize_int8(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Round to nearest, one scale for each output row: codes (out, in) int8, scale (out,) fp32.

    The scale is rounded to bf16 first, which is what the kernel multiplies by.
    """
    wide = weight.detach().float()
    scale = (wide.abs().amax(-1) / 127).clamp_min(1e-8).bfloat16().float()
    return (wide / scale[:, None]).round().clamp(-127, 127).to(torch.int8), scale


def dequantize_int8(codes: Tensor, scale: Tensor) -> Tensor:
    """The matrix the codes stand for, fp32 (out, in)."""
    return codes.float() * scale[:, None]


def int8_linear(x: Tensor, codes: Tensor, scale: Tensor) -> Tensor:
    """x (rows, in) bf16 times the coded matrix, (rows, out) bf16; scale (out,) bf16."""
    out: Tensor = torch.ops.aten._weight_int8pack_mm(x, codes, scale)
    return out
