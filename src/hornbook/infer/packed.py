"""A decoder made ready for the engine with torch alone: any family, any device.

The decoder's own blocks stay; only leaves are replaced (linear layers, RMS norms, the attention module), so
that every architecture the decoder knows runs here too. Where the kernels of `native_decoder` serve they do
the same faster.
"""

from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hornbook.infer.cache import EngineCache, PagedCache
from hornbook.infer.weights import Weights, as_codes
from hornbook.model.attention import Visible
from hornbook.model.decoder import Decoder, hide_unused
from hornbook.model.layers import Attention, RMSNorm
from hornbook.model.quantized import GROUP, Codes, QuantLinear

_FEW_ROWS = 8
"""Up to so many rows the packed kernels beat a bf16 product (measured on AVX-512 with bf16); beyond,
the product runs on a bf16 copy of the same quantized values."""


class PackedLinear(nn.Module):
    """A linear layer of 4- or 8-bit codes: ATen's packed kernel for few rows, a bf16 product for many."""

    def __init__(self, codes: Codes, bias: Tensor | None) -> None:
        super().__init__()
        self.bits = codes.bits
        self.bias = None if bias is None else bias.detach().bfloat16()
        self.dense = codes.dense().bfloat16()
        self.packs = codes.shape[1] % GROUP == 0 and codes.shape[0] % 16 == 0
        if self.bits == 8:
            self.codes, self.scales = codes.codes, codes.scales
        elif self.packs:
            self.codes = torch.ops.aten._convert_weight_to_int4pack_for_cpu(codes.codes.int(), 1)
            both = torch.stack(
                [codes.scales, torch.zeros_like(codes.scales)], -1
            )  # no minimum: it is symmetric
            self.scales = both.transpose(0, 1).contiguous()

    def forward(self, x: Tensor) -> Tensor:
        """x (..., in) bf16 -> (..., out) bf16."""
        rows = x.numel() // x.shape[-1]
        if rows > _FEW_ROWS or not self.packs:
            return F.linear(x, self.dense, self.bias)
        flat = x.reshape(rows, -1)
        out: Tensor
        if self.bits == 4:
            out = torch.ops.aten._weight_int4pack_mm_for_cpu(flat, self.codes, GROUP, self.scales)
        else:
            out = torch.ops.aten._weight_int8pack_mm(flat, self.codes, self.scales)
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
        """x (1, tokens, hidden) -> the same shape; cos and sin (1, 1, tokens, rotary_dim / 2)."""
        rows, time, _ = x.shape
        heads, kv = self.heads, self.kv_heads
        qkv = self.qkv_proj(x).view(rows, time, heads + 2 * kv, self.head_dim).transpose(1, 2)
        turned = turn(qkv[:, : heads + kv], cos, sin)
        mixed = cache.attend(
            self.layer, turned[:, :heads], turned[:, heads:], qkv[:, heads + kv :], self.scale
        )
        out: Tensor = self.o_proj(
            mixed.transpose(1, 2).reshape(rows, time, heads * self.head_dim).to(x.dtype)
        )
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


class TorchDecoder(nn.Module):
    """A decoder in one of the storage formats. The model it was made from is not changed."""

    mixes_rope = False

    def __init__(self, model: Decoder, weights: Weights) -> None:
        super().__init__()
        self.config = model.config
        self.weights = weights
        self.dtype = torch.float32 if weights == "fp32" else torch.bfloat16
        self.device = model.embed_tokens.weight.device
        with torch.device("meta"):
            body = Decoder(model.config)
        body.rope, body.positions = model.rope, model.positions
        body.eval()
        for target, source in zip(body.layers, model.layers):
            self._fill(target, source)
        body.norm = self._norm(model.norm)
        head = model.embed_tokens if model.lm_head is None else model.lm_head
        bias = model.head_bias if model.lm_head is None else model.lm_head.bias
        self.head: nn.Module
        if self._coded:
            codes = as_codes(head, "int8")
            self.head = PackedLinear(codes, bias)
            tied = model.lm_head is None or model.config.tied_embeddings
            table = codes if tied else as_codes(model.embed_tokens, "int8")
            body.embed_tokens.weight = self._plain(table.dense())
        else:
            body.embed_tokens.weight = self._plain(model.embed_tokens.weight)
            self.head = self._dense(head.weight, bias)
            if model.lm_head is None:
                cast(nn.Linear, self.head).weight = body.embed_tokens.weight
        body.lm_head, body.head_bias = None, None
        body.vision = None  # the engine reads text alone
        self.body = body

    @property
    def _coded(self) -> bool:
        return self.weights in ("int8", "int4")

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

    def _fill(self, target: nn.Module, source: nn.Module) -> None:
        """Puts ready leaves in the places of the source's, all the way down."""
        for name, child in source.named_children():
            if isinstance(child, nn.Linear | QuantLinear):
                whole = isinstance(child, QuantLinear) or name not in _LEFT_WHOLE or self.config.experts == 0
                if self._coded and whole:
                    ready: nn.Module = PackedLinear(as_codes(child, self.weights), child.bias)
                else:
                    ready = self._dense(cast(Tensor, child.weight), cast(Tensor | None, child.bias))
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
        """Hidden states after the final norm, (1, tokens, hidden), of the pass that `cache.begin` was
        told."""
        hidden: Tensor = self.body(tokens, cache=cache)
        return hidden

    @torch.inference_mode()
    def run(self, ids: np.ndarray, cache: PagedCache, want: np.ndarray) -> tuple[Tensor, Tensor]:
        """Hidden states (wanted, hidden) and logits (wanted, vocab_size), fp32, of the tokens `want`."""
        hidden = self.body(torch.from_numpy(ids)[None].to(self.device), cache=cache)
        chosen = hidden[0, torch.from_numpy(want).to(self.device)]
        return chosen.float(), self.logits(chosen)

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


_LEFT_WHOLE = ("router", "gate_up_proj", "down_proj")
"""Of a sparse layer: its experts are slices of one matrix, which the packed kernels cannot take."""
