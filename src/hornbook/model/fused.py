"""Element-wise parts of a block with their own backward passes, for CPUs.

Left to autograd, a norm or a gated activation walks over memory ten times. Where there is a compiler the
kernels of `hornbook.model.native` walk once; elsewhere the rows go through torch in pieces that stay in the
cache and every buffer is written once. Results are those of the plain formulas.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from hornbook.model import native

PIECE = 1 << 18  # elements of one piece: 1 MiB in fp32


def transformed() -> bool:
    """Whether a `torch.func` transform (vmap, jvp, ...) is at work: it cannot use a backward pass of ours."""
    return bool(torch._C._are_functorch_transforms_active())


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
        ctx.native = native.available(flat)
        if ctx.native:
            native.call("swiglu_forward", flat.dtype, flat.contiguous(), out, len(flat), half)
        for piece in [] if ctx.native else _pieces(len(flat), half):
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
        out = torch.empty(flat.shape, dtype=flat.dtype)
        if ctx.native and grad.dtype == flat.dtype:
            native.call(
                "swiglu_backward", flat.dtype, flat.contiguous(), grad.contiguous(), out, len(flat), half
            )
            return out.view(gate_up.shape)
        for piece in _pieces(len(flat), half):
            gate, up, g = flat[piece, :half], flat[piece, half:], grad[piece]
            torch.mul(g, torch.nn.functional.silu(gate), out=out[piece, half:])
            out[piece, :half] = torch.ops.aten.silu_backward(g * up, gate)
        return out.view(gate_up.shape)


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """x / sqrt(mean(x^2) + eps) * weight, computed in fp32, in the autocast dtype (the next product's)."""
    _, out = _RMSNorm.apply(x, None, weight, eps, _dtype(x))  # type: ignore[no-untyped-call]
    normed: Tensor = out
    return normed


def add_rms_norm(x: Tensor, branch: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """(x + branch, its `rms_norm`): the residual stream and what the next branch reads, in one pass."""
    stream, out = _RMSNorm.apply(x, branch, weight, eps, _dtype(x))  # type: ignore[no-untyped-call]
    return stream, out


class _RMSNorm(torch.autograd.Function):
    """Returns (stream, normed); without a branch the stream is None."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, branch: Tensor | None, weight: Tensor, eps: float, dtype: torch.dtype
    ) -> tuple[Tensor | None, Tensor]:
        width = x.shape[-1]
        flat = x.reshape(-1, width).contiguous()
        wide = torch.promote_types(x.dtype, torch.float32)
        out = torch.empty(flat.shape, dtype=dtype)
        scale = torch.empty(len(flat), 1, dtype=wide)
        w = weight.to(wide)
        stream = flat
        ctx.native = native.available(flat, out) and (x.dtype, dtype) in native.PAIRS
        if ctx.native:
            added = None if branch is None else branch.reshape(-1, width).to(dtype).contiguous()
            stream = flat if added is None else torch.empty_like(flat)
            native.call(
                "rms_norm_forward",
                dtype,
                flat,
                added,
                w,
                stream,
                out,
                scale,
                len(flat),
                width,
                eps,
                stream=x.dtype,
            )
        else:
            if branch is not None:
                stream = flat + branch.reshape(-1, width)
            for piece in _pieces(len(flat), width):
                rows = stream[piece].to(wide)
                s = torch.linalg.vector_norm(rows, dim=-1, keepdim=True)
                s = s.square_().div_(width).add_(eps).rsqrt_()
                scale[piece] = s
                out[piece] = (rows * s).mul_(w)
        stream = stream.view(x.shape)
        ctx.save_for_backward(stream, weight, scale)
        ctx.branch = None if branch is None else branch.dtype
        return (None if branch is None else stream), out.view(x.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> Any:
        x, weight, scale = ctx.saved_tensors
        width = x.shape[-1]
        flat, grad = x.reshape(-1, width), grads[1].reshape(-1, width)
        straight = None if ctx.branch is None else grads[0].reshape(-1, width)
        out = torch.empty(flat.shape, dtype=x.dtype)
        dw = torch.zeros(width, dtype=scale.dtype)
        w = weight.to(scale.dtype)
        dbranch = None
        if ctx.native and (x.dtype, grad.dtype) in native.PAIRS:
            if straight is not None:
                straight, dbranch = (
                    straight.to(x.dtype).contiguous(),
                    torch.empty(flat.shape, dtype=grad.dtype),
                )
            native.call(
                "rms_norm_backward",
                grad.dtype,
                flat,
                scale,
                w,
                grad.contiguous(),
                straight,
                out,
                dbranch,
                dw,
                len(flat),
                width,
                stream=x.dtype,
            )
        else:
            for piece in _pieces(len(flat), width):
                s = scale[piece]
                normed = flat[piece].to(scale.dtype) * s
                g = grad[piece].to(scale.dtype)
                product = g * normed
                dw += product.sum(0)
                along = (product @ w).unsqueeze(1).div_(width)
                out[piece] = (g * w).sub_(normed.mul_(along)).mul_(s)
            if straight is not None:
                out += straight
                dbranch = out
        if dbranch is not None:
            dbranch = dbranch.to(ctx.branch).view(x.shape)
        return out.view(x.shape), dbranch, dw.to(weight.dtype), None, None
