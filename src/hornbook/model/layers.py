"""Norms, MLP, attention and block: the parts a decoder is stacked from."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hornbook.model.attention import Visible, attend
from hornbook.model.cache import Cache
from hornbook.model.config import GATED, ModelConfig
from hornbook.model.flex_sparse import attend_flex
from hornbook.model.fused import add_rms_norm, rms_norm, swiglu, transformed
from hornbook.model.moe import SparseMLP
from hornbook.model.projected_attention import attend_projected
from hornbook.model.rope import rotate


class Linear(nn.Linear):
    """A linear layer whose numbers are drawn once, by `Decoder.reset_parameters`, not at construction.

    The usual drawing would be thrown away, and on the meta device it costs a second of imports.
    """

    def reset_parameters(self) -> None:
        """Nothing: see the class."""


class Embedding(nn.Embedding):
    """An embedding table whose numbers are drawn once, by `Decoder.reset_parameters`."""

    def reset_parameters(self) -> None:
        """Nothing: see the class `Linear`."""


def _by_hand(x: Tensor) -> bool:
    """Whether the backward passes written in `hornbook.model.fused` are the fastest: training on a CPU."""
    plain = torch.compiler.is_compiling() or transformed() or x.dtype == torch.float64
    return torch.is_grad_enabled() and x.device.type == "cpu" and not plain


class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) * weight over the last dimension, computed in fp32."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        if _by_hand(x):
            return rms_norm(x, self.weight, self.eps)
        wide = x.float()
        wide = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)
        # The last cast matters only where the norm is kept in fp32 beside half-precision matrices.
        return (wide.to(x.dtype) * self.weight).to(x.dtype)


class LayerNorm(nn.Module):
    """Layer normalisation with weight and bias, computed in fp32."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.bias = nn.Parameter(torch.zeros(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        size = self.weight.shape
        return F.layer_norm(x.float(), size, self.weight.float(), self.bias.float(), self.eps).to(x.dtype)


def make_norm(config: ModelConfig) -> nn.Module:
    """The norm that `config.norm` names, over the hidden size."""
    kind = RMSNorm if config.norm == "rmsnorm" else LayerNorm
    return kind(config.hidden_size, config.norm_eps)


def add_and_norm(norm: nn.Module, x: Tensor, branch: Tensor) -> tuple[Tensor, Tensor]:
    """(x + branch, the norm of that): the residual stream and what the next branch reads."""
    if isinstance(norm, RMSNorm) and _by_hand(x):
        return add_rms_norm(x, branch, norm.weight, norm.eps)
    x = x + branch
    return x, norm(x)


def gegelu(x: Tensor, limit: float) -> Tensor:
    """phi-3-small's gated activation: a sigmoid(1.702 a) (b + 1) of even channels a and odd channels b.

    a is clamped from above and b on both sides at `limit`; infinities are left alone.
    Halves the last dimension.
    """
    a, b = x[..., ::2], x[..., 1::2]
    a = torch.where(torch.isinf(a), a, a.clamp(max=limit))
    b = torch.where(torch.isinf(b), b, b.clamp(min=-limit, max=limit))
    return a * torch.sigmoid(1.702 * a) * (b + 1)


class MLP(nn.Module):
    """hidden -> intermediate -> hidden. Gated kinds fuse gate and up in one projection, gate rows first."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.activation = config.activation
        self.limit = config.gegelu_limit
        size, bias = config.intermediate_size, config.mlp_bias
        if config.activation in GATED:
            self.gate_up_proj = Linear(config.hidden_size, 2 * size, bias=bias)
        else:
            self.up_proj = Linear(config.hidden_size, size, bias=bias)
        self.down_proj = Linear(size, config.hidden_size, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        if self.activation == "silu_glu":
            gate_up = self.gate_up_proj(x)
            if _by_hand(x):
                inner = swiglu(gate_up)
            else:
                gate, up = gate_up.chunk(2, dim=-1)
                inner = F.silu(gate) * up
        elif self.activation == "gegelu":
            inner = gegelu(self.gate_up_proj(x), self.limit)
        else:
            inner = F.gelu(self.up_proj(x), approximate="tanh")
        out: Tensor = self.down_proj(inner)
        return out


class Attention(nn.Module):
    """Grouped-query attention with a fused projection: query rows, then key rows, then value rows."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.sparse = config.block_sparse is not None and config.block_sparse.is_sparse(layer)
        self.heads, self.kv_heads, self.head_dim = config.heads, config.kv_heads, config.head_dim
        self.scale = config.softmax_scale
        self.dropout = config.attention_dropout
        queries, bias = config.heads * config.head_dim, config.attention_bias
        self.qkv_proj = Linear(config.hidden_size, queries + 2 * config.kv_heads * config.head_dim, bias=bias)
        self.o_proj = Linear(queries, config.hidden_size, bias=bias)

    def forward(
        self, x: Tensor, cos: Tensor, sin: Tensor, *, visible: Visible, cache: Cache | None = None
    ) -> Tensor:
        """x (batch, time, hidden); cos and sin broadcastable to (batch, heads, time, rotary_dim / 2)."""
        batch, time, _ = x.shape
        if self.sparse and visible.sparse is not None:
            visible = visible.sparse
        heads, kv_heads, scale = self.heads, self.kv_heads, self.scale
        projected = self.qkv_proj(x)
        cut = visible.stripes or (visible.spans if cache is None else None)
        qkv = projected.view(batch, time, heads + 2 * kv_heads, self.head_dim).transpose(1, 2)
        if cache is not None or cut is None:
            q, k, v = qkv.split([heads, kv_heads, kv_heads], dim=1)
            q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        if cache is not None:
            k, v = cache.append(self.layer, k, v)
        out: Tensor
        if cut is not None:
            mixed = attend_projected(
                projected, cos, sin, heads=heads, kv_heads=kv_heads, scale=scale, cut=cut
            )
            out = self.o_proj(mixed)
            return out
        if visible.flex is not None:
            mixed = attend_flex(q, k, v, mask=visible.flex, scale=scale)
        else:
            dropout = self.dropout if self.training else 0.0
            mixed = attend(q, k, v, visible=visible, scale=scale, dropout=dropout)
        out = self.o_proj(mixed.transpose(1, 2).reshape(batch, time, -1))
        return out


class Block(nn.Module):
    """One layer: sequential pre-norm (phi-3) or parallel with one shared norm (phi-1, 1.5, 2)."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.parallel = config.block == "parallel"
        self.dropout, self.mlp_dropout = config.residual_dropout, config.mlp_dropout
        self.multiplier = config.multipliers.residual
        self.attention_norm = make_norm(config)
        self.attention = Attention(config, layer)
        if not self.parallel:
            self.mlp_norm = make_norm(config)
        self.mlp = SparseMLP(config, Linear) if config.experts else MLP(config)

    def _branch(self, x: Tensor) -> Tensor:
        if self.multiplier != 1.0:
            x = x * self.multiplier
        return F.dropout(x, self.dropout, self.training) if self.dropout else x

    def _feed_forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.mlp(x)
        return F.dropout(out, self.mlp_dropout, self.training) if self.mlp_dropout else out

    def forward(
        self, x: Tensor, cos: Tensor, sin: Tensor, *, visible: Visible, cache: Cache | None = None
    ) -> Tensor:
        """x (batch, time, hidden) -> the same shape."""
        normed = self.attention_norm(x)
        attended = self._branch(self.attention(normed, cos, sin, visible=visible, cache=cache))
        if self.parallel:
            return x + attended + self._branch(self._feed_forward(normed))
        x, normed = add_and_norm(self.mlp_norm, x, attended)
        return x + self._branch(self._feed_forward(normed))
