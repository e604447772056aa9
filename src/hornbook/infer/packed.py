"""A decoder made ready for the engine: weights in their storage format, fewer and larger operations.

The decoder's own blocks stay; only leaves are replaced (linear layers, RMS norms, the attention module), so
that every architecture the decoder knows runs here too.
"""

from typing import Literal, cast, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hornbook.errors import HornbookError
from hornbook.infer.cache import EngineCache
from hornbook.infer.quantize import (
    GROUP,
    dequantize_int4,
    dequantize_int8,
    int4_linear,
    int8_linear,
    pack_int4,
    quantize_int4,
    quantize_int8,
)
from hornbook.model.attention import Visible
from hornbook.model.decoder import Decoder, hide_unused
from hornbook.model.layers import Attention, RMSNorm

Weights = Literal["auto", "fp32", "bf16", "int8", "int4"]

_FEW_ROWS = 8
"""Up to so many rows the packed kernels beat a bf16 product (measured on AVX-512 with bf16); beyond,
the product runs on a bf16 copy of the same quantized values."""


def has_fast_bf16() -> bool:
    """Whether bf16 matrix products are faster than fp32 ones on this CPU (AVX-512 BF16 or AMX)."""
    cpu = torch.cpu
    return bool(getattr(cpu, "_is_avx512_bf16_supported", lambda: False)())


def resolve(weights: Weights, device: torch.device) -> Weights:
    """What "auto" means on `device`: bf16 where it is fast, else fp32."""
    if weights not in get_args(Weights):
        accepted = ", ".join(get_args(Weights))
        raise HornbookError(f"Engine weights {weights!r} is unknown; accepted are {accepted}.")
    if weights in ("int8", "int4") and device.type != "cpu":
        raise HornbookError(f"Engine weights {weights!r} runs on the CPU only; use bf16 on {device}.")
    if weights != "auto":
        return weights
    return "bf16" if device.type != "cpu" or has_fast_bf16() else "fp32"


class PackedLinear(nn.Module):
    """A linear layer with int8 or int4 weights: the packed kernel for few rows, a bf16 product for many."""

    def __init__(self, weight: Tensor, bias: Tensor | None, weights: Weights) -> None:
        super().__init__()
        self.weights = weights
        self.bias = None if bias is None else bias.detach().bfloat16()
        if weights == "int4":
            q = quantize_int4(weight)
            self.codes, self.scales = pack_int4(q)
            self.dense = dequantize_int4(q).bfloat16()
        else:
            self.codes, scale = quantize_int8(weight)
            self.scales = scale.bfloat16()
            self.dense = dequantize_int8(self.codes, scale).bfloat16()

    def forward(self, x: Tensor) -> Tensor:
        """x (..., in) bf16 -> (..., out) bf16."""
        rows = x.numel() // x.shape[-1]
        if rows > _FEW_ROWS:
            return F.linear(x, self.dense, self.bias)
        flat = x.reshape(rows, -1)
        if self.weights == "int4":
            out = int4_linear(flat, self.codes, self.scales, GROUP)
        else:
            out = int8_linear(flat, self.codes, self.scales)
        if self.bias is not None:
            out = out + self.bias
        return out.view(*x.shape[:-1], -1)


class FusedRMSNorm(nn.Module):
    """RMSNorm as one operation."""

    def __init__(self, norm: RMSNorm, dtype: torch.dtype) -> None:
        super().__init__()
        self.weight = norm.weight.detach().to(dtype)
        self.shape, self.eps = list(norm.weight.shape), norm.eps

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.shape, self.weight, self.eps)


class EngineAttention(nn.Module):
    """The decoder's attention with queries and keys rotated together, and attention left to the cache."""

    def __init__(self, attention: Attention) -> None:
        super().__init__()
        self.layer, self.scale = attention.layer, attention.scale
        self.heads, self.kv_heads, self.head_dim = attention.heads, attention.kv_heads, attention.head_dim
        self.qkv_proj, self.o_proj = attention.qkv_proj, attention.o_proj

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, *, visible: Visible, cache: EngineCache) -> Tensor:
        """x (rows, time, hidden) -> the same shape; cos and sin (rows, 1, time, rotary_dim / 2)."""
        rows, time, _ = x.shape
        heads, kv = self.heads, self.kv_heads
        qkv = self.qkv_proj(x).view(rows, time, heads + 2 * kv, self.head_dim).transpose(1, 2)
        turned = turn(qkv[:, : heads + kv], cos, sin)
        if time > 1:
            turned = turned.to(x.dtype)
        mixed = cache.attend(
            self.layer, turned[:, :heads], turned[:, heads:], qkv[:, heads + kv :], self.scale
        )
        if time == 1:
            mixed = mixed.reshape(rows, 1, heads * self.head_dim)
        else:
            mixed = mixed.transpose(1, 2).reshape(rows, time, heads * self.head_dim)
        out: Tensor = self.o_proj(mixed.to(x.dtype))
        return out


def turn(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """`model.rope.rotate` in fewer operations; the result is fp32 and contiguous."""
    half = cos.shape[-1]
    wide = x.float()
    first, second = wide[..., :half], wide[..., half : 2 * half]
    out = torch.empty_like(wide, memory_format=torch.contiguous_format)
    torch.mul(first, cos, out=out[..., :half]).addcmul_(second, sin, value=-1)
    torch.mul(second, cos, out=out[..., half : 2 * half]).addcmul_(first, sin)
    if 2 * half < x.shape[-1]:
        out[..., 2 * half :] = wide[..., 2 * half :]
    return out


class ReadyDecoder(nn.Module):
    """A decoder in one of the storage formats. The model it was made from is not changed."""

    def __init__(self, model: Decoder, weights: Weights) -> None:
        super().__init__()
        if model.config.block_sparse is not None:
            raise HornbookError(
                "The engine does not know block-sparse attention (phi-3-small). Use the decoder with a "
                "KeyValueCache from hornbook.model.cache."
            )
        self.config = model.config
        self.weights = weights
        self.dtype = torch.float32 if weights == "fp32" else torch.bfloat16
        with torch.device("meta"):
            body = Decoder(model.config)
        body.rope, body.positions = model.rope, model.positions
        body.eval()
        for target, source in zip(body.layers, model.layers):
            self._fill(target, source)
        body.norm = self._norm(model.norm)
        body.embed_tokens.weight = self._plain(model.embed_tokens.weight)
        head = model.embed_tokens if model.lm_head is None else model.lm_head
        bias = model.head_bias if model.lm_head is None else model.lm_head.bias
        head_weight = head.weight
        self.head: nn.Module
        if weights in ("int8", "int4"):
            self.head = self._packed(head_weight, bias)
        else:
            self.head = self._dense(head_weight, bias)
            if model.lm_head is None:
                cast(nn.Linear, self.head).weight = body.embed_tokens.weight
        body.lm_head, body.head_bias = None, None
        body.vision = None  # the engine reads text alone
        self.body = body

    def _plain(self, value: Tensor) -> nn.Parameter:
        return nn.Parameter(value.detach().to(self.dtype), requires_grad=False)

    def _norm(self, norm: nn.Module) -> nn.Module:
        if isinstance(norm, RMSNorm):
            return FusedRMSNorm(norm, self.dtype)
        return norm

    def _dense(self, weight: Tensor, bias: Tensor | None) -> nn.Module:
        layer = nn.Linear(1, 1, bias=bias is not None, device="meta")
        layer.weight = self._plain(weight)
        if bias is not None:
            layer.bias = self._plain(bias)
        return layer

    def _packed(self, weight: Tensor, bias: Tensor | None) -> nn.Module:
        if weight.shape[1] % GROUP or weight.shape[0] % 16:
            return self._dense(weight, bias)
        return PackedLinear(weight, bias, self.weights)

    def _fill(self, target: nn.Module, source: nn.Module) -> None:
        """Puts ready leaves in the places of the source's, all the way down."""
        for name, child in source.named_children():
            if isinstance(child, nn.Linear):
                ready = (
                    self._packed(child.weight, child.bias)
                    if self.weights in ("int8", "int4")
                    else self._dense(child.weight, child.bias)
                )
                setattr(target, name, ready)
            elif isinstance(child, RMSNorm):
                setattr(target, name, self._norm(child))
            elif any(True for _ in child.children()):
                self._fill(getattr(target, name), child)
                if isinstance(child, Attention):
                    setattr(target, name, EngineAttention(getattr(target, name)))
            else:
                setattr(target, name, child)

    def forward(self, tokens: Tensor, cache: EngineCache) -> Tensor:
        """Hidden states after the final norm, (rows, time, hidden)."""
        hidden: Tensor = self.body(tokens, cache=cache)
        return hidden

    def logits(self, hidden: Tensor) -> Tensor:
        """Unnormalised log-probabilities, fp32."""
        out: Tensor = self.head(hidden).float()
        multiplier = self.config.multipliers.logits
        return hide_unused(out * multiplier if multiplier != 1.0 else out, self.config)

    def weight_bytes(self) -> int:
        """Bytes of all weights as they are stored here."""
        tensors: dict[int, Tensor] = {id(t): t for t in self.parameters()}
        for module in self.modules():
            for value in vars(module).values():
                if isinstance(value, Tensor):
                    tensors[id(value)] = value
        return sum(t.numel() * t.element_size() for t in tensors.values())
