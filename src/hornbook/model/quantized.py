"""Weights of 4 or 8 bits: codes with scales, the layer that holds them, and rounding to nearest.

int4: w = (code - 8) * scale, code in 0 ... 15, one bf16 scale for every 32 neighbours of a row: 4.5 bits a
weight.
int8: w = code * scale, code in -127 ... 127, one bf16 scale a row. Symmetric on purpose: the product
of codes with codes needs no minimum, and a Gaussian group loses nothing by it.
"""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

GROUP = 32
"""Neighbouring weights of a row that share one scale at 4 bits."""

Bits = Literal[4, 8]
_TRIALS = 9


@dataclass(frozen=True, kw_only=True)
class Codes:
    """One matrix (out, in). codes: uint8 in 0 ... 15 (4 bits) or int8 (8 bits), one a weight.

    scales: bf16, (out, in / GROUP) at 4 bits, (out,) at 8.
    """

    bits: Bits
    codes: Tensor
    scales: Tensor

    @property
    def shape(self) -> torch.Size:
        return self.codes.shape

    def dense(self) -> Tensor:
        """The matrix the codes stand for, fp32."""
        out, columns = self.codes.shape
        if self.bits == 8:
            return self.codes.float() * self.scales.float()[:, None]
        grouped = self.codes.view(out, columns // GROUP, GROUP).float() - 8
        return (grouped * self.scales.float()[..., None]).view(out, columns)

    def nbytes(self) -> int:
        """Bytes on disk: two 4-bit codes to a byte, and the scales."""
        return self.codes.numel() * self.bits // 8 + self.scales.numel() * 2


def fits_int4(weight: Tensor) -> bool:
    """Whether rows fall into whole groups."""
    return weight.shape[1] % GROUP == 0


def nearest_int4(weight: Tensor) -> Codes:
    """Round to nearest in groups of 32; weight (out, in), `in` a multiple of 32.

    Of nine scales, from the one that meets a group's largest number exactly with -8 down to -6, the one with
    the least squared error is taken.
    """
    out, columns = weight.shape
    if columns % GROUP:
        raise ValueError(f"{columns} input columns are not a multiple of the group of {GROUP}")
    x = weight.detach().float().reshape(out, columns // GROUP, GROUP)
    largest = x.gather(-1, x.abs().argmax(-1, keepdim=True))[..., 0]
    best = torch.zeros_like(largest)
    least = torch.full_like(largest, torch.inf)
    for trial in range(_TRIALS):
        scale = (largest / (-8 + 0.25 * trial)).bfloat16().float()
        error = (_codes4(x, scale) * scale[..., None] - x).square().sum(-1)
        better = (error < least) & (scale != 0)
        best, least = torch.where(better, scale, best), torch.where(better, error, least)
    codes = (_codes4(x, best) + 8).to(torch.uint8).view(out, columns)
    return Codes(bits=4, codes=codes, scales=best.bfloat16())


def _codes4(x: Tensor, scale: Tensor) -> Tensor:
    inverse = torch.where(scale == 0, 0.0, 1 / scale)
    return (x * inverse[..., None]).round().clamp(-8, 7)


def nearest_int8(weight: Tensor) -> Codes:
    """Round to nearest, a scale for each row (rounded to bf16 before codes are chosen)."""
    wide = weight.detach().float()
    scale = (wide.abs().amax(-1) / 127).clamp_min(1e-8).bfloat16()
    codes = (wide / scale.float()[:, None]).round().clamp(-127, 127).to(torch.int8)
    return Codes(bits=8, codes=codes, scales=scale)


def pair_up(codes: Tensor) -> Tensor:
    """4-bit codes (out, in) as bytes (out, in / 2): the even column in the low half."""
    return codes[:, ::2] | (codes[:, 1::2] << 4)


def take_apart(packed: Tensor) -> Tensor:
    """The inverse of `pair_up`."""
    return torch.stack([packed & 15, packed >> 4], -1).flatten(1)


class QuantLinear(nn.Module):
    """A linear layer that keeps codes instead of numbers. `forward` multiplies by the matrix they stand
    for."""

    def __init__(self, codes: Codes, bias: Tensor | None) -> None:
        super().__init__()
        self.codes = codes
        self.bias = None if bias is None else nn.Parameter(bias.detach(), requires_grad=False)
        self.out_features, self.in_features = codes.shape

    def forward(self, x: Tensor) -> Tensor:
        """x (..., in) -> (..., out)."""
        bias = None if self.bias is None else self.bias.to(x.dtype)
        return F.linear(x, self.codes.dense().to(x.dtype), bias)
