"""Rotary self-attention of a fused projection, cut into pieces that hold only what is seen.

What all such passes share is here: the rotation and its derivative, the order of heads, what is kept for the
backward pass. How the scores are cut is a `Cut`: `Spans` (block_attention.py) for dense layers, `Stripes`
(sparse_attention.py) for block-sparse ones.
"""

from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from hornbook.model import native

KEEP_LIMIT = (
    1024  # longest rows whose probabilities are kept for the backward pass; longer ones make them again
)
FAR = -torch.inf  # every query sees itself, so no softmax is empty; finite numbers overflow fp16


class Cut(Protocol):
    """Softmax attention over the pairs that are seen. q, k, v: (batch heads, time, size); q is scaled."""

    def mix(self, q: Tensor, k: Tensor, v: Tensor, out: Tensor, keep: bool) -> list[Tensor]:
        """Fills out (batch, time, heads, size); with `keep` returns the probabilities of each piece."""

    def gradients(
        self, q: Tensor, k: Tensor, v: Tensor, grad: Tensor, kept: list[Tensor]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients of q, k and v for that of `out`; without `kept` probabilities are made again."""


def attend_projected(
    qkv: Tensor, cos: Tensor, sin: Tensor, *, heads: int, kv_heads: int, scale: float, cut: Cut
) -> Tensor:
    """softmax(scale R(q) R(k)^T) v over what `cut` shows, with R the rotation by position.

    qkv: (batch, time, (heads + 2 kv_heads) head_dim), queries first. cos, sin: fp32, broadcastable to (batch,
    heads, time, rotary_dim / 2). Returns (batch, time, heads head_dim) in the dtype of qkv.
    """
    mixed: Tensor = _Projected.apply(qkv, cos, sin, heads, kv_heads, scale, cut)  # type: ignore[no-untyped-call]
    return mixed


class _Projected(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, qkv: Tensor, cos: Tensor, sin: Tensor, heads: int, kv_heads: int, scale: float, cut: Cut
    ) -> Tensor:
        batch, time, width = qkv.shape
        size = width // (heads + 2 * kv_heads)
        with torch.autocast(qkv.device.type, enabled=False):
            q, k, v = split_projection(qkv, cos, sin, heads, kv_heads, scale)
            out = torch.empty(batch, time, heads, size, dtype=qkv.dtype, device=qkv.device)
            kept = cut.mix(q, k, v, out, ctx.needs_input_grad[0] and time <= KEEP_LIMIT)
        ctx.save_for_backward(q, k, v, cos, sin, *kept)
        ctx.facts = kv_heads, scale, cut
        return out.view(batch, time, heads * size)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> Any:
        q, k, v, cos, sin, *kept = ctx.saved_tensors
        kv_heads, scale, cut = ctx.facts
        batch, time, _ = grads[0].shape
        grad = grads[0].to(q.dtype).contiguous().view(batch, time, -1, q.shape[-1])
        with torch.autocast(q.device.type, enabled=False):
            dq, dk, dv = cut.gradients(q, k, v, grad, kept)
            dqkv = _join_gradients(dq, dk, dv, cos, sin, batch, kv_heads, scale)
        return dqkv.view(batch, time, -1), None, None, None, None, None, None


def split_projection(
    qkv: Tensor, cos: Tensor, sin: Tensor, heads: int, kv_heads: int, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Rotated, scaled queries; rotated keys; values: contiguous (batch heads, time, size), keys repeated."""
    batch, time, width = qkv.shape
    size = width // (heads + 2 * kv_heads)
    if native.available(qkv, cos, sin) and cos.dtype == sin.dtype == torch.float32:
        q, k, v = (torch.empty(batch * heads, time, size, dtype=qkv.dtype) for _ in range(3))
        _native_rotary(qkv.contiguous(), q, k, v, cos, sin, heads, kv_heads, scale, back=False)
        return q, k, v
    parts = qkv.view(batch, time, heads + 2 * kv_heads, size).transpose(1, 2)
    q = torch.empty(batch, heads, time, size, dtype=qkv.dtype, device=qkv.device)
    k = torch.empty(batch, kv_heads, time, size, dtype=qkv.dtype, device=qkv.device)
    rotate_into(q, parts[:, :heads], cos, sin, scale)
    rotate_into(k, parts[:, heads : heads + kv_heads], cos, sin, 1.0)
    v = parts[:, heads + kv_heads :]
    if heads != kv_heads:
        k, v = (x.repeat_interleave(heads // kv_heads, dim=1) for x in (k, v))
    return tuple(x.reshape(batch * heads, time, size) for x in (q, k, v))  # type: ignore[return-value]


def _join_gradients(
    dq: Tensor, dk: Tensor, dv: Tensor, cos: Tensor, sin: Tensor, batch: int, kv_heads: int, scale: float
) -> Tensor:
    """The gradient of the fused projection from those of its rotated parts; key heads are added up."""
    heads, time, size = len(dq) // batch, *dq.shape[1:]
    dqkv = torch.empty(batch, time, heads + 2 * kv_heads, size, dtype=dq.dtype, device=dq.device)
    if native.available(dqkv, cos, sin) and cos.dtype == sin.dtype == torch.float32:
        _native_rotary(dqkv, dq, dk, dv, cos, sin, heads, kv_heads, scale, back=True)
        return dqkv
    group = heads // kv_heads
    dq, dk, dv = (x.view(batch, heads, time, size) for x in (dq, dk, dv))
    if group > 1:
        dk, dv = (x.view(batch, kv_heads, group, time, size).sum(2) for x in (dk, dv))
    rotate_into(dqkv[:, :, :heads].transpose(1, 2), dq, cos, -sin, scale)
    rotate_into(dqkv[:, :, heads : heads + kv_heads].transpose(1, 2), dk, cos, -sin, 1.0)
    dqkv[:, :, heads + kv_heads :].copy_(dv.transpose(1, 2))
    return dqkv


def _native_rotary(
    qkv: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cos: Tensor,
    sin: Tensor,
    heads: int,
    kv_heads: int,
    scale: float,
    *,
    back: bool,
) -> None:
    """`rotary` of the kernels: from qkv to q, k and v, or back."""
    time, size = q.shape[-2:]
    batch, half = q.numel() // (heads * time * size), cos.shape[-1]
    rows = cos.numel() // (time * half)
    cos, sin = cos.contiguous(), sin.contiguous()
    shape = batch, time, heads, kv_heads, size, half, rows
    native.call("rotary", q.dtype, qkv, q, k, v, cos, sin, *shape, float(scale), back)


def rotate_into(out: Tensor, x: Tensor, cos: Tensor, sin: Tensor, scale: float) -> None:
    """out = scale * (x rotated), both (batch, heads, time, size); in fp32, row by row to stay in cache."""
    half = cos.shape[-1]
    wide = torch.promote_types(x.dtype, cos.dtype)
    if scale != 1.0:
        cos, sin = cos.to(wide) * scale, sin.to(wide) * scale
    if cos.dim() < 4:
        cos, sin = cos.expand(1, 1, *cos.shape[-2:]), sin.expand(1, 1, *sin.shape[-2:])
    for row in range(len(x)):
        c, s = (cos[row], sin[row]) if len(cos) > 1 else (cos[0], sin[0])
        first, second = x[row, ..., :half].to(wide), x[row, ..., half : 2 * half].to(wide)
        out[row, ..., :half] = (first * c).addcmul_(second, s, value=-1)
        out[row, ..., half : 2 * half] = (second * c).addcmul_(first, s)
        if 2 * half < x.shape[-1]:
            rest = x[row, ..., 2 * half :]
            out[row, ..., 2 * half :] = rest * scale if scale != 1.0 else rest
