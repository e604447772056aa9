"""Causal self-attention on CPUs, forward and backward, in blocks of queries that see only what they may.

Each block of queries meets the keys from the earliest document it holds to its own end; the rest is never
computed. Products run in the dtype of the projection (bf16 under autocast), softmax in fp32 inside one
fused operation. The backward pass is written out: five batched products and one fused softmax derivative a
block. On a CPU with bf16 instructions that is about 2.5 times as fast as the library's fused attention
(docs/training.md has the figures), and it needs no compiler.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from hornbook.model import native
from hornbook.model.projected_attention import FAR

BLOCK = 128


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


@dataclass(frozen=True)
class Spans:
    """A pass cut into blocks of queries: a `Cut` of `hornbook.model.projected_attention`."""

    spans: tuple[Span, ...]

    def mix(self, q: Tensor, k: Tensor, v: Tensor, out: Tensor, keep: bool) -> list[Tensor]:
        """See `Cut`."""
        kept = []
        for span in self.spans:
            p = _probabilities(q, k, span, out.shape[2])
            _join_heads(torch.bmm(p, v[:, span.keys : span.last]), out, span)
            if keep:
                kept.append(p)
        return kept

    def gradients(
        self, q: Tensor, k: Tensor, v: Tensor, grad: Tensor, kept: list[Tensor]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """See `Cut`."""
        dq, dk, dv = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
        for number, span in enumerate(self.spans):
            queries, keys = slice(span.first, span.last), slice(span.keys, span.last)
            p = kept[number] if kept else _probabilities(q, k, span, grad.shape[2])
            do = _split_heads(grad, span)
            dv[:, keys] += torch.bmm(p.mT, do)
            dp = torch.bmm(do, v[:, keys].mT)
            ds = _softmax_backward(dp, p)
            dq[:, queries] = torch.bmm(ds, k[:, keys])
            dk[:, keys] += torch.bmm(ds.mT, q[:, queries])
        return dq, dk, dv


def plan_spans(
    time: int,
    *,
    document: Tensor | None,
    window: int | None,
    dtype: torch.dtype,
    block: int = BLOCK,
) -> Spans:
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
        bias = torch.zeros(seen.shape, dtype=dtype).masked_fill_(~seen, FAR)
        spans.append(Span(first, last, keys, start, bias))
    return Spans(tuple(spans))


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
