"""Q4_0 blocks with scales chosen for the least squared error, in llama.cpp's layout.

A block is 32 numbers as a scale d (fp16) and 32 codes q of 4 bits that stand for (q - 8) d; byte i holds
the codes of number i (low half) and i + 16 (high half).
"""

import torch
from torch import Tensor

BLOCK = 32
_FACTORS = (1.0, 0.94, 0.88, 0.82, 1.06)
"""Factors tried on the scale that maps a block's largest number to -8."""
_ROWS = 1 << 16
_LARGEST = 65504.0


def encode_q4_0(values: Tensor) -> Tensor:
    """values (..., columns) with whole blocks -> uint8 (blocks, 18).

    For each block the usual scale and some others are tried; for the codes each gives, the best scale is a
    division (least squares), and the pair with the smallest squared error stays. The error is never
    above that of the usual scale alone.
    """
    blocks = values.detach().float().reshape(-1, BLOCK)
    return torch.cat([_encode(part) for part in torch.split(blocks, _ROWS)])


def _encode(blocks: Tensor) -> Tensor:
    largest = blocks.gather(1, blocks.abs().argmax(1, keepdim=True))
    best_scale, best_codes, best_error = _codes(blocks, largest / -8)
    tried = [largest / -7]  # what was read from a file whose largest code is -7 is written as it was
    for factor in _FACTORS:
        _, codes, _ = _codes(blocks, largest * (factor / -8))
        power = (codes * codes).sum(1, keepdim=True)
        tried.append((blocks * codes).sum(1, keepdim=True) / power.clamp_min(1))
    for candidate in tried:
        scale, codes, error = _codes(blocks, candidate)
        better = error < best_error
        best_scale = torch.where(better, scale, best_scale)
        best_codes = torch.where(better, codes, best_codes)
        best_error = torch.where(better, error, best_error)
    # Codes without -8 can be had with either sign of the scale: the positive one is written.
    turned = torch.where((best_scale < 0) & (best_codes > -8).all(1, keepdim=True), -1.0, 1.0)
    best_scale, best_codes = best_scale * turned, best_codes * turned
    nibbles = (best_codes + 8).to(torch.uint8)
    packed = nibbles[:, : BLOCK // 2] | (nibbles[:, BLOCK // 2 :] << 4)
    return torch.cat([best_scale.half().view(torch.uint8), packed], 1)


def _codes(blocks: Tensor, scale: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The scale as it will be stored, the nearest codes (-8 to 7) and the squared error of each block."""
    stored = scale.clamp(-_LARGEST, _LARGEST).half().float()
    inverse = torch.where(stored == 0, 0.0, 1 / stored)
    codes = (blocks * inverse).round().clamp(-8, 7)
    return stored, codes, ((codes * stored - blocks) ** 2).sum(1, keepdim=True)
