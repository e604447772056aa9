"""Element-wise parts of a block with their own backward passes, for CPUs without a compiler.

Left to autograd, a norm or a gated activation walks over memory ten times; here the rows go through in pieces
that stay in the cache and every buffer is written once. Results are those of the plain formulas.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

PIECE = 1 << 18  # elements of one piece: 1 MiB in fp32


def _pieces(rows: int, width: int) -> list[slice]:
    size = max(1, PIECE // width)
    return [slice(first, min(first + size, rows)) for first in range(0, rows, size)]


def _dtype(x: Tensor) -> torch.dtype:
    return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype


def swiglu(gate_up: Tensor) -> Tensor:
    """silu(gate) * up for gate_up (..., 2 size), gate first: (..., size)."""
    out: Tensor = _SwiGLU.apply(gate_up)  # type: ignore[no-untyped-call]
    return out


class _SwiGLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate_up: Tensor) -> Tensor:
        flat = gate_up.reshape(-1, gate_up.shape[-1])
        half = flat.shape[-1] // 2
        out = torch.empty(len(flat), half, dtype=flat.dtype)
        for piece in _pieces(len(flat), half):
            torch.mul(torch.nn.functional.silu(flat[piece, :half]), flat[piece, half:], out=out[piece])
        ctx.save_for_backward(gate_up)
        return out.view(*gate_up.shape[:-1], half)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> Any:
        (gate_up,) = ctx.saved_tensors
        flat = gate_up.reshape(-1, gate_up.shape[-1])
        half = flat.shape[-1] // 2
        grad = grads[0].reshape(-1, half)
        out = torch.empty_like(flat)
        for piece in _pieces(len(flat), half):
            gate, up, g = flat[piece, :half], flat[piece, half:], grad[piece]
            torch.mul(g, torch.nn.functional.silu(gate), out=out[piece, half:])
            out[piece, :half] = torch.ops.aten.silu_backward(g * up, gate)
        return out.view(gate_up.shape)


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """x / sqrt(mean(x^2) + eps) * weight, computed in fp32, in the autocast dtype (the next product's)."""
    out: Tensor = _RMSNorm.apply(x, weight, eps, _dtype(x))  # type: ignore[no-untyped-call]
    return out


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float, dtype: torch.dtype) -> Tensor:
        flat = x.reshape(-1, x.shape[-1])
        wide = torch.promote_types(x.dtype, torch.float32)
        width = flat.shape[-1]
        out = torch.empty(flat.shape, dtype=dtype)
        scale = torch.empty(len(flat), 1, dtype=wide)
        w = weight.to(wide)
        for piece in _pieces(len(flat), width):
            rows = flat[piece].to(wide)
            s = torch.linalg.vector_norm(rows, dim=-1, keepdim=True)
            s = s.square_().div_(width).add_(eps).rsqrt_()
            scale[piece] = s
            out[piece] = (rows * s).mul_(w)
        ctx.save_for_backward(x, weight, scale)
        return out.view(x.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> Any:
        x, weight, scale = ctx.saved_tensors
        width = x.shape[-1]
        flat, grad = x.reshape(-1, width), grads[0].reshape(-1, width)
        out = torch.empty(flat.shape, dtype=x.dtype)
        dw = torch.zeros(width, dtype=scale.dtype)
        w = weight.to(scale.dtype)
        for piece in _pieces(len(flat), width):
            s = scale[piece]
            normed = flat[piece].to(scale.dtype) * s
            g = grad[piece].to(scale.dtype)
            product = g * normed
            dw += product.sum(0)
            along = (product @ w).unsqueeze(1).div_(width)
            out[piece] = (g * w).sub_(normed.mul_(along)).mul_(s)
        return out.view(x.shape), dw.to(weight.dtype), None, None
