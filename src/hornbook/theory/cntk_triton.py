"""The convolutional kernels on a GPU: one Triton program for each pair of images and displacement.

The recursion of `hornbook.theory.cntk` never mixes displacements between the two pixels, so a program takes
one plane of fixed displacement through all layers: correlations, angles and both kernels stay in registers;
the window sum alone goes through a scratch plane that fits the cache. Zero padding, float32, sums float64.
With TRITON_INTERPRET=1 in the environment the same program runs on a CPU, slowly; that is how it is tested.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

SCRATCH_BYTES = 2**28  # at most so much for planes in flight; more pairs are done in turn


@triton.jit
def _arcsine(r):
    """asin for |r| <= 1 by the polynomial of the compiled engine."""
    size = tl.abs(r)
    big = size > 0.5
    z = tl.where(big, 0.5 * (1.0 - size), r * r)
    t = tl.where(big, tl.sqrt(z), size)
    p = z * 4.2163199048e-2 + 2.4181311049e-2
    p = p * z + 4.5470025998e-2
    p = p * z + 7.4953002686e-2
    p = p * z + 1.6666752422e-1
    p = p * z * t + t
    p = tl.where(big, 1.5707963267948966 - 2.0 * p, p)
    return tl.where(r < 0, -p, p)


@triton.jit
def _planes(
    x,
    z,
    root_x,
    root_z,
    weight_rows,
    weight_columns,
    slot,
    scratch,
    out,
    first_pair,
    z_count,
    far_rows,
    far_columns,
    channels,
    bias,
    HEIGHT: tl.constexpr,
    WIDTH: tl.constexpr,
    LAYERS: tl.constexpr,
    SLOTS: tl.constexpr,
    POOLS: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_COLUMNS: tl.constexpr,
):
    here = tl.program_id(0)
    plane = tl.program_id(1)
    pair = first_pair + here
    one = pair // z_count
    other = pair % z_count
    di = plane // (2 * far_columns + 1) - far_rows
    dj = plane % (2 * far_columns + 1) - far_columns
    top = tl.maximum(-di, 0)
    left = tl.maximum(-dj, 0)
    rows = HEIGHT - tl.abs(di)
    columns = WIDTH - tl.abs(dj)
    a = tl.arange(0, BLOCK_ROWS)[:, None]
    b = tl.arange(0, BLOCK_COLUMNS)[None, :]
    inside = (a < rows) & (b < columns)
    i = top + a
    j = left + b
    own = i * WIDTH + j
    its = (i + di) * WIDTH + j + dj
    area = HEIGHT * WIDTH
    k = tl.zeros((BLOCK_ROWS, BLOCK_COLUMNS), dtype=tl.float32)
    for channel in range(channels):
        left_value = tl.load(x + (one * channels + channel) * area + own, mask=inside, other=0.0)
        right_value = tl.load(z + (other * channels + channel) * area + its, mask=inside, other=0.0)
        k += left_value * right_value
    n = k
    planes = (2 * far_rows + 1) * (2 * far_columns + 1)
    base = scratch + (here * planes + plane) * 2 * BLOCK_ROWS * BLOCK_COLUMNS
    at = a * BLOCK_COLUMNS + b
    scale = 0.03536776513153229  # 1 / (9 pi)
    for layer in range(LAYERS):
        tl.store(base + at, k, mask=inside)
        tl.store(base + BLOCK_ROWS * BLOCK_COLUMNS + at, n, mask=inside)
        tl.debug_barrier()
        s = tl.zeros((BLOCK_ROWS, BLOCK_COLUMNS), dtype=tl.float32) + bias
        t = tl.zeros((BLOCK_ROWS, BLOCK_COLUMNS), dtype=tl.float32) + bias
        for down in tl.static_range(-1, 2):
            for right in tl.static_range(-1, 2):
                near = inside & (a + down >= 0) & (a + down < rows)
                near = near & (b + right >= 0) & (b + right < columns)
                shift = at + down * BLOCK_COLUMNS + right
                s += tl.load(base + shift, mask=near, other=0.0)
                t += tl.load(base + BLOCK_ROWS * BLOCK_COLUMNS + shift, mask=near, other=0.0)
        tl.debug_barrier()
        root = tl.load(root_x + (one * LAYERS + layer) * area + own, mask=inside, other=0.0)
        root = root * tl.load(root_z + (other * LAYERS + layer) * area + its, mask=inside, other=0.0)
        r = tl.where(root > 0, s / tl.where(root > 0, root, 1.0), 0.0)
        # As in the compiled engine: correlations within rounding of 1 count as 1.
        r = tl.where(r > 1.0 - 4e-7, 1.0, tl.maximum(r, -1.0))
        angle = (1.5707963267948966 + _arcsine(r)) * scale
        k = root * (tl.sqrt((1.0 - r) * (1.0 + r)) * scale + r * angle)
        n = angle * t + k
        k = tl.where(inside, k, 0.0)
        n = tl.where(inside, n, 0.0)
        place = tl.load(slot + layer)
        if place >= 0:
            for pool in range(POOLS):
                down_weight = tl.load(
                    weight_rows + (pool * HEIGHT + i) * HEIGHT + i + di, mask=(a < rows), other=0.0
                )
                right_weight = tl.load(
                    weight_columns + (pool * WIDTH + j) * WIDTH + j + dj, mask=(b < columns), other=0.0
                )
                weight = down_weight * right_weight
                cell = out + ((pair * SLOTS + place) * 2) * POOLS + pool
                tl.atomic_add(cell, tl.sum(weight * k).to(tl.float64))
                tl.atomic_add(cell + POOLS, tl.sum(weight * n).to(tl.float64))


def rows(
    x: Tensor,
    z: Tensor,
    roots_x: Tensor,
    roots_z: Tensor,
    *,
    slot: Tensor,
    weight_rows: Tensor,
    weight_columns: Tensor,
    reach: int,
    bias: float,
) -> Tensor:
    """Kernels of all x with all z, (slots, 2, pools, n, m) float64 on the device of x.

    x, z: (n, channels, h, w) and (m, ...) float32. roots_x, roots_z: (n, layers, h, w), square roots of the
    variances. slot: (layers,) int32, place of each layer's result or -1. weight_rows, weight_columns: (pools,
    h, h) and (pools, w, w) float32. reach: largest displacement with a weight. bias: gamma^2.
    """
    height, width = x.shape[-2:]
    layers, pools, slots = len(slot), len(weight_rows), int(slot.max()) + 1
    far_rows, far_columns = min(reach, height - 1), min(reach, width - 1)
    planes = (2 * far_rows + 1) * (2 * far_columns + 1)
    block = [triton.next_power_of_2(size) for size in (height, width)]
    pairs = len(x) * len(z)
    together = max(1, min(pairs, SCRATCH_BYTES // (8 * planes * block[0] * block[1])))
    scratch = torch.empty(together * planes * 2 * block[0] * block[1], device=x.device)
    out = torch.zeros(pairs, slots, 2, pools, dtype=torch.float64, device=x.device)
    given = [t.contiguous() for t in (x, z, roots_x, roots_z, weight_rows, weight_columns, slot)]
    for first in range(0, pairs, together):
        grid = (min(together, pairs - first), planes)
        _planes[grid](
            *given,
            scratch,
            out,
            first,
            len(z),
            far_rows,
            far_columns,
            x.shape[1],
            bias,
            HEIGHT=height,
            WIDTH=width,
            LAYERS=layers,
            SLOTS=slots,
            POOLS=pools,
            BLOCK_ROWS=block[0],
            BLOCK_COLUMNS=block[1],
        )
    return out.view(len(x), len(z), slots, 2, pools).permute(2, 3, 4, 0, 1)
