"""Causal self-attention on CPUs, forward and backward, in blocks of queries that see only what they may.

Each block of queries meets the keys from the earliest document it holds to its own end; the rest is never
computed. Products run in the dtype of the projection (bf16 under autocast), softmax in fp32 inside one
fused operation. The backward pass is written out: five batched products and one fused softmax derivative a
block. On a CPU with bf16 instructions that is about 2.5 times as fast as the library's fused attention
(docs/training.md has the figures), and it needs no compiler.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from hornbook.model import native

BLOCK = 128
KEEP_LIMIT = (
    1024  # longest rows whose probabilities are kept for the backward pass; longer ones make them again
)
_FAR = -torch.inf  # every query sees itself, so no softmax is empty; finite numbers overflow fp16


@dataclass(frozen=True)
class Span:
    """Queries `first` to `last`, which see keys `keys` to `last`.

    bias: additive, (last - first, last - start) for causality alone, (batch, last - first, last - keys) with
    documents or a window; it belongs to the keys from `start` on, all earlier ones are seen freely.
    """

    first: int
    last: int
    keys: int
    start: int
    bias: Tensor


def plan_spans(
    time: int,
    *,
    document: Tensor | None,
    window: int | None,
    dtype: torch.dtype,
    block: int = BLOCK,
) -> tuple[Span, ...]:
    """How the rows are cut: by causality, by document ((batch, time) ids), by window (tokens).

    Tokens of equal ids see each other, whatever the ids are; blocks are smallest when ids do not fall.
    """
    slot = torch.arange(time)
    begin = None
    if document is not None:
        changes = torch.zeros_like(document, dtype=torch.bool)
        changes[:, 1:] = document[:, 1:] != document[:, :-1]
        begin = torch.where(changes, slot, 0).cummax(1).values  # where each token's document starts
        if bool((document[:, 1:] < document[:, :-1]).any()):
            begin = torch.zeros_like(begin)  # an id may come back later: look at all keys
    if window is not None:
        oldest = (slot - window + 1).clamp(min=0)
        begin = oldest[None] if begin is None else torch.maximum(begin, oldest)
    spans = []
    for first in range(0, time, block):
        last = min(time, first + block)
        if begin is None:
            seen = slot[first:last, None] >= slot[None, first:last]
            keys, start = 0, first
        else:
            # Cut in steps of 32 so that the batched products see few different shapes.
            keys = start = int(begin[:, first:last].min()) // 32 * 32
            column = slot[None, None, keys:last]
            seen = (slot[first:last, None] >= column) & (column >= begin[:, first:last, None])
            if document is not None:
                seen = seen & (document[:, first:last, None] == document[:, None, keys:last])
        bias = torch.zeros(seen.shape, dtype=dtype).masked_fill_(~seen, _FAR)
        spans.append(Span(first, last, keys, start, bias))
    return tuple(spans)


def attend_in_blocks(
    qkv: Tensor, cos: Tensor, sin: Tensor, *, heads: int, kv_heads: int, scale: float, spans: tuple[Span, ...]
) -> Tensor:
    """Rotary self-attention of a fused projection.

    qkv: (batch, time, (heads + 2 kv_heads) head_dim), queries first. cos, sin: fp32, broadcastable to (batch,
    heads, time, rotary_dim / 2). Returns (batch, time, heads head_dim) in the dtype of qkv.
    """
    mixed: Tensor = _BlockAttention.apply(qkv, cos, sin, heads, kv_heads, scale, spans)  # type: ignore[no-untyped-call]
    return mixed


class _BlockAttention(torch.autograd.Function):
    """softmax(scale R(q) R(k)^T + bias) v, with R the rotation by position."""

    @staticmethod
    def forward(
        ctx: Any,
        qkv: Tensor,
        cos: Tensor,
        sin: Tensor,
        heads: int,
        kv_heads: int,
        scale: float,
        spans: tuple[Span, ...],
    ) -> Tensor:
        batch, time, width = qkv.shape
        size = width // (heads + 2 * kv_heads)
        with torch.autocast("cpu", enabled=False):
            q, k, v = split_projection(qkv, cos, sin, heads, kv_heads, scale)
            out = torch.empty(batch, time, heads, size, dtype=qkv.dtype)
            keep = ctx.needs_input_grad[0] and time <= KEEP_LIMIT
            kept = []
            for span in spans:
                p = _probabilities(q, k, span, heads)
                _join_heads(torch.bmm(p, v[:, span.keys : span.last]), out, span)
                if keep:
                    kept.append(p)
        ctx.save_for_backward(q, k, v, cos, sin, *kept)
        ctx.facts = heads, kv_heads, scale, spans
        return out.view(batch, time, heads * size)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> Any:
        q, k, v, cos, sin, *kept = ctx.saved_tensors
        heads, kv_heads, scale, spans = ctx.facts
        (grad,) = grads
        batch, time, _ = grad.shape
        size = q.shape[-1]
        grad = grad.to(q.dtype).contiguous().view(batch, time, heads, size)
        with torch.autocast("cpu", enabled=False):
            dq, dk, dv = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
            for number, span in enumerate(spans):
                queries, keys = slice(span.first, span.last), slice(span.keys, span.last)
                p = kept[number] if kept else _probabilities(q, k, span, heads)
                do = _split_heads(grad, span)
                dv[:, keys] += torch.bmm(p.mT, do)
                dp = torch.bmm(do, v[:, keys].mT)
                ds = _softmax_backward(dp, p)
                dq[:, queries] = torch.bmm(ds, k[:, keys])
                dk[:, keys] += torch.bmm(ds.mT, q[:, queries])
            dqkv = _joined_gradient(dq, dk, dv, cos, sin, batch, kv_heads, scale)
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


def _joined_gradient(
    dq: Tensor, dk: Tensor, dv: Tensor, cos: Tensor, sin: Tensor, batch: int, kv_heads: int, scale: float
) -> Tensor:
    """The gradient of the fused projection from those of its rotated parts; key heads are added up."""
    heads, time, size = len(dq) // batch, *dq.shape[1:]
    dqkv = torch.empty(batch, time, heads + 2 * kv_heads, size, dtype=dq.dtype)
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


def _join_heads(block: Tensor, rows: Tensor, span: Span) -> None:
    """Copies (batch heads, queries, size) of a block to its place in rows (batch, time, heads, size)."""
    batch, time, heads, size = rows.shape
    if native.available(block, rows):
        shape = batch, heads, time, size, span.first, span.last
        native.call("heads_together", rows.dtype, block, rows, *shape, False)
        return
    rows[:, span.first : span.last].copy_(block.view(batch, heads, -1, size).transpose(1, 2))


def _split_heads(rows: Tensor, span: Span) -> Tensor:
    """The inverse of `_join_heads`: (batch heads, queries, size) of a block."""
    batch, time, heads, size = rows.shape
    if native.available(rows):
        block = torch.empty(batch * heads, span.last - span.first, size, dtype=rows.dtype)
        shape = batch, heads, time, size, span.first, span.last
        native.call("heads_together", rows.dtype, block, rows, *shape, True)
        return block
    return rows[:, span.first : span.last].transpose(1, 2).reshape(batch * heads, -1, size)


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


def _probabilities(q: Tensor, k: Tensor, span: Span, heads: int) -> Tensor:
    """Softmax weights of one block: (batch heads, queries, keys)."""
    scores = torch.bmm(q[:, span.first : span.last], k[:, span.keys : span.last].mT)
    if native.available(scores, span.bias):
        free, rows = span.start - span.keys, 1 if span.bias.dim() == 2 else len(span.bias)
        shape = len(scores) // heads, heads, *scores.shape[1:], free, rows
        native.call("softmax_forward", scores.dtype, scores, span.bias, *shape)
        return scores
    tail = scores[:, :, span.start - span.keys :]
    if span.bias.dim() == 2:
        tail.add_(span.bias)
    else:
        tail.view(-1, heads, *tail.shape[1:]).add_(span.bias[:, None])
    return torch.softmax(scores, -1)


def _softmax_backward(dp: Tensor, p: Tensor) -> Tensor:
    """p (dp - sum(p dp)) over the last dimension; dp may be overwritten."""
    if native.available(dp, p):
        native.call("softmax_backward", p.dtype, p, dp, p.numel() // p.shape[-1], p.shape[-1])
        return dp
    return torch._softmax_backward_data(dp, p, -1, p.dtype)
