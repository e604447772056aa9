"""What single neurons and heads of a decoder do (Eldan and Li 2023, arXiv 2305.07759, section 5).

A neuron is one number inside the MLP, just before the projection back to the residual stream. A head is read
by how much of its attention is a matter of distance alone.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from hornbook.model.decoder import Decoder
from hornbook.model.layers import MLP, Attention
from hornbook.model.rope import rotate


@torch.no_grad()
def activations(decoder: Decoder, tokens: Tensor) -> list[Tensor]:
    """Of every layer, (batch, time, neurons): what its MLP hands to `down_proj`.

    tokens: (batch, time) ids. Layers of experts have no neurons that every token passes and are refused.

    Raises:
        TypeError: a layer of experts.
    """
    found: list[Tensor] = []
    handles = [
        _mlp(decoder, layer).down_proj.register_forward_pre_hook(
            lambda module, args: found.append(args[0].float())
        )
        for layer in range(len(decoder.layers))
    ]
    try:
        decoder(tokens)
    finally:
        for handle in handles:
            handle.remove()
    return found


@contextmanager
def silenced(decoder: Decoder, layer: int, neuron: int) -> Iterator[None]:
    """Inside it, one neuron is zero for every token."""

    def zero(module: Any, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        inner = args[0].clone()
        inner[..., neuron] = 0
        return (inner, *args[1:])

    handle = _mlp(decoder, layer).down_proj.register_forward_pre_hook(zero)
    try:
        yield
    finally:
        handle.remove()


def _mlp(decoder: Decoder, layer: int) -> MLP:
    mlp = decoder.layers[layer].mlp
    if not isinstance(mlp, MLP):
        raise TypeError(f"layer {layer} is a {type(mlp).__name__}; neurons are read of a plain MLP.")
    return mlp


@torch.no_grad()
def attention_weights(decoder: Decoder, tokens: Tensor) -> list[Tensor]:
    """Of every layer, (batch, heads, queries, keys): causal attention over whole rows.

    tokens: (batch, time) ids. Block-sparse layers and windows are read as if they were dense.
    """
    found: list[Tensor] = []

    def weigh(module: Attention, args: tuple[Tensor, ...], named: Mapping[str, Any]) -> None:
        x, cos, sin = args
        batch, time, _ = x.shape
        qkv = module.qkv_proj(x).view(batch, time, -1, module.head_dim).transpose(1, 2)
        q, k, _ = qkv.split([module.heads, module.kv_heads, module.kv_heads], dim=1)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        k = k.repeat_interleave(module.heads // module.kv_heads, dim=1)
        scores = (q @ k.transpose(-1, -2)).float() * module.scale
        later = torch.ones(time, time, dtype=torch.bool, device=x.device).triu(1)
        found.append(scores.masked_fill(later, -torch.inf).softmax(-1))

    handles = [
        decoder.get_submodule(f"layers.{at}.attention").register_forward_pre_hook(weigh, with_kwargs=True)
        for at in range(len(decoder.layers))
    ]
    try:
        decoder(tokens)
    finally:
        for handle in handles:
            handle.remove()
    return found


def share_by_distance(weights: Sequence[Tensor], *, least: int = 16) -> list[float]:
    """Share of the variance of each head's attention that the distance from query to key explains.

    A head that looks a fixed number of tokens back has 1, one that looks for a word wherever it stands
    little.

    Args:
        weights: (heads, queries, keys) of each text.
        least: queries before this place are left out: they have few keys to choose among.
    """
    longest = max(one.shape[-1] for one in weights)
    heads = weights[0].shape[0]
    count = torch.zeros(longest, dtype=torch.float64)
    total, square = torch.zeros(2, heads, longest, dtype=torch.float64)
    for one in weights:
        time = one.shape[-1]
        query, key = torch.tril_indices(time, time)
        kept = query >= least
        query, key = query[kept], key[kept]
        values, distance = one[:, query, key].double(), query - key
        count.index_add_(0, distance, torch.ones(len(distance), dtype=torch.float64))
        total.index_add_(1, distance, values)
        square.index_add_(1, distance, values.square())
    everything = square.sum(1) - total.sum(1).square() / count.sum()
    within = (square - total.square() / count.clamp(min=1)).sum(1)
    return [float(share) for share in 1 - within / everything.clamp(min=1e-30)]


def strongest_words(values: Tensor, words: Sequence[str], *, count: int = 10) -> list[list[str]]:
    """Of each neuron, the different words at which it is largest, largest first.

    Each word counts once, by its largest value: otherwise a neuron's strongest tokens are one word again and
    again, in random weights too.

    Args:
        values: (tokens, neurons). words: of each token.
    """
    known = sorted(set(words))
    place = {word: at for at, word in enumerate(known)}
    index = torch.tensor([place[word] for word in words]).unsqueeze(1).expand_as(values)
    best = torch.full((len(known), values.shape[1]), -torch.inf, dtype=values.dtype)
    best.scatter_reduce_(0, index, values, "amax")
    top = best.topk(min(count, len(known)), dim=0).indices
    return [[known[int(at)] for at in column] for column in top.T]


def purity(kinds: Sequence[str]) -> float:
    """Share of the commonest kind."""
    return max(kinds.count(kind) for kind in set(kinds)) / len(kinds)
