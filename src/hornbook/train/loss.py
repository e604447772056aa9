"""Cross-entropy and log-probabilities of next tokens without ever holding all logits.

The (tokens, vocabulary) logits are made in chunks that stay in the cache. Products run in the autocast
dtype; softmax and loss always in fp32 (in bf16 the loss itself would be rounded to two digits).
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from hornbook.model import native

IGNORE = -100
"""Target that carries no loss (also `hornbook.data.packing.IGNORE`)."""

CHUNK_ELEMENTS = 1 << 22
"""Logits at once on a CPU: what stays in its cache."""
GPU_CHUNK_ELEMENTS = 1 << 27
"""Logits at once elsewhere: rows enough for its matrix products, half a gigabyte in fp32."""


class Head(NamedTuple):
    """The map from hidden states to logits: `scale * (hidden @ weight.T + bias)`."""

    weight: Tensor  # (vocabulary, hidden)
    bias: Tensor | None
    scale: float


def head_of(model: nn.Module) -> Head:
    """The head of a `Decoder` (or of a module that holds one as `.decoder`)."""
    decoder: Any = getattr(model, "decoder", model)
    scale = float(decoder.config.multipliers.logits)
    if decoder.lm_head is None:
        return Head(decoder.embed_tokens.weight, decoder.head_bias, scale)
    return Head(decoder.lm_head.weight, decoder.lm_head.bias, scale)


def cross_entropy_sum(hidden: Tensor, head: Head, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Sum of -log p(target) over all targets that are not -100, and how many they are.

    Gradients are computed in the forward pass, chunk by chunk, so that no logits are kept and none is made
    twice. hidden: (..., hidden size); targets: (...) ids. Returns two scalars (fp32 and int64).
    """
    rows, wanted = _trained(hidden, targets)
    total: Tensor = _CrossEntropySum.apply(  # type: ignore[no-untyped-call]
        rows, head.weight, head.bias, head.scale, wanted
    )
    return total, torch.tensor(wanted.numel(), device=hidden.device)


def token_log_probabilities(hidden: Tensor, head: Head, targets: Tensor) -> Tensor:
    """log p(target) of every position, fp32, 0 where the target is -100; differentiable.

    The backward pass makes the logits of each chunk again (the factor of each token is only known then).
    hidden: (..., hidden size); targets: (...) -> (...).
    """
    rows, wanted = _trained(hidden, targets)
    found: Tensor = _TokenLogProbabilities.apply(  # type: ignore[no-untyped-call]
        rows, head.weight, head.bias, head.scale, wanted
    )
    flat = torch.zeros(targets.numel(), dtype=torch.float32, device=hidden.device)
    flat = flat.index_put((_places(targets),), found)
    return flat.view(targets.shape)


def _places(targets: Tensor) -> Tensor:
    return (targets.reshape(-1) != IGNORE).nonzero().squeeze(1)


def _trained(hidden: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Hidden states and ids of the positions that carry loss: masked positions cost nothing."""
    flat, ids = hidden.reshape(-1, hidden.shape[-1]), targets.reshape(-1)
    places = _places(targets)
    if places.numel() < ids.numel():
        flat, ids = flat[places], ids[places]
    return flat, ids


def _compute_dtype(x: Tensor) -> torch.dtype:
    if torch.is_autocast_enabled(x.device.type):
        return torch.get_autocast_dtype(x.device.type)
    return x.dtype


def _chunks(count: int, weight: Tensor) -> Iterator[slice]:
    elements = CHUNK_ELEMENTS if weight.device.type == "cpu" else GPU_CHUNK_ELEMENTS
    size = max(64, elements // len(weight))
    pieces = max(1, -(-count // size))
    size = -(-count // pieces)
    return (slice(first, min(first + size, count)) for first in range(0, count, max(1, size)))


def _log_softmax(hidden: Tensor, weight: Tensor, bias: Tensor | None, scale: float) -> Tensor:
    logits = torch.nn.functional.linear(hidden, weight, bias)
    if scale != 1.0:
        return torch.log_softmax(logits.float() * scale, dim=-1)
    return torch.log_softmax(logits, dim=-1, dtype=torch.float32)


class _CrossEntropySum(torch.autograd.Function):
    """-sum log softmax(scale * (h W^T + b))[target]; dlogits = scale * (softmax - onehot)."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, scale: float, targets: Tensor
    ) -> Tensor:
        dtype = _compute_dtype(hidden)
        needs = any(ctx.needs_input_grad[:3])
        with torch.autocast(hidden.device.type, enabled=False):
            h, w = hidden.to(dtype), weight.to(dtype)
            b = None if bias is None else bias.to(dtype)
            total = torch.zeros((), dtype=torch.float32, device=hidden.device)
            if needs:
                dh = torch.empty_like(h)
                dw = torch.zeros_like(weight, dtype=torch.float32)
                db = None if bias is None else torch.zeros_like(bias, dtype=torch.float32)
            for part in _chunks(len(targets), weight):
                if needs and native.available(h):
                    d = torch.nn.functional.linear(h[part], w, b)
                    losses = torch.empty(len(d), dtype=torch.float32)
                    native.call(
                        "cross_entropy", dtype, d, targets[part].contiguous(), losses, *d.shape, float(scale)
                    )
                    total += losses.sum()
                else:
                    log_p = _log_softmax(h[part], w, b, scale)
                    at = targets[part].unsqueeze(1)
                    total -= log_p.gather(1, at).sum()
                    if not needs:
                        continue
                    d = log_p.exp_()
                    d.scatter_add_(1, at, d.new_full((1, 1), -1.0).expand(at.shape))
                    if scale != 1.0:
                        d.mul_(scale)
                if db is not None:
                    db += d.sum(0, dtype=torch.float32)
                d = d.to(dtype)
                torch.mm(d, w, out=dh[part])
                dw += torch.mm(d.T, h[part])
            if needs:
                ctx.save_for_backward(dh, dw, db)
                ctx.dtypes = hidden.dtype, weight.dtype, None if bias is None else bias.dtype
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (grad,) = grads
        dh, dw, db = ctx.saved_tensors
        kept_h, kept_w, kept_b = ctx.dtypes
        # The usual factor is 1: reading it costs nothing on the CPU and spares two passes over memory.
        if grad.device.type != "cpu" or grad.item() != 1.0:
            dh, dw, db = dh * grad.to(dh.dtype), dw * grad, None if db is None else db * grad
        return dh.to(kept_h), dw.to(kept_w), None if db is None else db.to(kept_b), None, None


class _TokenLogProbabilities(torch.autograd.Function):
    """log softmax(scale * (h W^T + b))[target] for every row; chunks are made again in the backward pass."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, scale: float, targets: Tensor
    ) -> Tensor:
        dtype = _compute_dtype(hidden)
        with torch.autocast(hidden.device.type, enabled=False):
            h, w = hidden.to(dtype), weight.to(dtype)
            b = None if bias is None else bias.to(dtype)
            found = torch.empty(len(targets), dtype=torch.float32, device=hidden.device)
            for part in _chunks(len(targets), weight):
                log_p = _log_softmax(h[part], w, b, scale)
                found[part] = log_p.gather(1, targets[part].unsqueeze(1)).squeeze(1)
        ctx.save_for_backward(hidden, weight, bias, targets)
        ctx.dtype, ctx.scale = dtype, scale
        return found

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (grad,) = grads
        hidden, weight, bias, targets = ctx.saved_tensors
        h, w = hidden.to(ctx.dtype), weight.to(ctx.dtype)
        b = None if bias is None else bias.to(ctx.dtype)
        dh = torch.empty_like(h)
        dw = torch.zeros_like(weight, dtype=torch.float32)
        db = None if bias is None else torch.zeros_like(bias, dtype=torch.float32)
        with torch.autocast(hidden.device.type, enabled=False):
            for part in _chunks(len(targets), weight):
                d = _log_softmax(h[part], w, b, ctx.scale).exp_().neg_()
                at = targets[part].unsqueeze(1)
                d.scatter_add_(1, at, d.new_ones((1, 1)).expand(at.shape))
                d.mul_(grad[part].unsqueeze(1) * ctx.scale)
                if db is not None:
                    db += d.sum(0)
                d = d.to(ctx.dtype)
                torch.mm(d, w, out=dh[part])
                dw += torch.mm(d.T, h[part])
        return (
            dh.to(hidden.dtype),
            dw.to(weight.dtype),
            None if bias is None or db is None else db.to(bias.dtype),
            None,
            None,
        )
