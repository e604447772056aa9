"""A dense decoder whose whole pass is one call of the kernels in `hornbook/model/decode.cpp`.

Weights lie in the order in which the kernels read them. Activations are fp32, rounded to bf16 before a bf16
matrix, and to 8 bits in groups of 32 before an int8 or int4 matrix.
"""

import ctypes
import functools
from ctypes import POINTER, Structure, c_double, c_int, c_int64, c_void_p
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from hornbook.infer.cache import PagedCache
from hornbook.infer.weights import Weights, as_codes
from hornbook.model import native
from hornbook.model.config import ModelConfig
from hornbook.model.decoder import Decoder, hide_unused
from hornbook.model.layers import MLP, Block
from hornbook.model.quantized import GROUP, Codes

SOURCE = native.SOURCE.with_name("decode.cpp")
UNIT = 32
_KINDS = {"fp32": 0, "bf16": 1, "int8": 2, "int4": 3}
_ACTIVATIONS = {"silu_glu": 0, "gelu_new": 1, "gegelu": 2}
_INT4_STEP = 16 * UNIT + 2 * UNIT


class _Matrix(Structure):
    _fields_ = [
        *((name, c_int64) for name in ("kind", "out", "columns", "padded", "groups", "units")),
        *((name, c_void_p) for name in ("codes", "scales", "bias")),
    ]


class _Norm(Structure):
    _fields_ = [("weight", c_void_p), ("bias", c_void_p)]


class _Layer(Structure):
    _fields_ = [
        *((name, _Norm) for name in ("attention_norm", "mlp_norm")),
        *((name, _Matrix) for name in ("qkv", "o", "up", "down")),
    ]


class _Model(Structure):
    _fields_ = [
        *((name, c_int64) for name in ("layers", "hidden", "heads", "kv", "size", "inner", "half", "window")),
        *((name, c_int64) for name in ("parallel", "layer_norm", "activation", "embedding_kind")),
        *((name, c_double) for name in ("eps", "scale", "residual", "embedding_scale", "limit")),
        ("embedding", c_void_p),
        ("layer", POINTER(_Layer)),
        ("norm", _Norm),
        ("head", _Matrix),
    ]


class _Pass(Structure):
    _fields_ = [
        *((name, c_int64) for name in ("tokens", "spans", "wanted", "table_width", "pages", "cache_kind")),
        ("threads", c_int64),
        *((name, c_void_p) for name in ("ids", "span", "table", "cos", "sin", "want", "keys", "values")),
        *((name, c_void_p) for name in ("hidden", "logits")),
    ]


@functools.cache
def library() -> ctypes.CDLL | None:
    """The kernels; None where there is no compiler."""
    return native.load(SOURCE)


def serves(config: ModelConfig, device: torch.device) -> bool:
    """Whether a model of this shape runs here: dense, rotary, on the CPU, and the kernels can be had."""
    dense = config.experts == 0 and config.block_sparse is None and config.positions == "rotary"
    return dense and device.type == "cpu" and library() is not None


@dataclass
class _Held:
    """Memory that the structures point into."""

    tensors: list[Tensor] = field(default_factory=list)

    def __call__(self, tensor: Tensor) -> int:
        self.tensors.append(tensor)
        return tensor.data_ptr()


class NativeDecoder:
    """A decoder ready to run with weights in one storage format. The model it was made from is not changed.

    kernels: the library, for tests; by default the one built for this processor.
    """

    mixes_rope = True

    def __init__(self, model: Decoder, weights: Weights, kernels: ctypes.CDLL | None = None) -> None:
        found = kernels or library()
        if found is None:
            raise ValueError("the kernels are not there: ask `serves` first")
        self._library = found
        self.config, self.weights = model.config, weights
        self.dtype = torch.float32 if weights == "fp32" else torch.bfloat16
        self.device = torch.device("cpu")
        self._rope = model.rope
        self._hold = _Held()
        self._angles: dict[bool, tuple[np.ndarray, np.ndarray]] = {}
        self._model = self._describe(model)

    # -- weights --------------------------------------------------------------------------------

    def _describe(self, model: Decoder) -> _Model:
        config = model.config
        layers = (_Layer * config.layers)()
        for place, block in zip(layers, cast(list[Block], list(model.layers))):
            attention, mlp = block.attention, cast(MLP, block.mlp)
            place.attention_norm = self._norm(block.attention_norm)
            if not block.parallel:
                place.mlp_norm = self._norm(block.mlp_norm)
            up = mlp.up_proj if config.activation == "gelu_new" else mlp.gate_up_proj
            place.qkv, place.o = self._matrix(attention.qkv_proj), self._matrix(attention.o_proj)
            place.up, place.down = self._matrix(up), self._matrix(mlp.down_proj)
        last = model.lm_head or model.embed_tokens
        bias = model.head_bias if model.lm_head is None else model.lm_head.bias
        embedding = model.embed_tokens.weight.detach()
        if self._coded:
            codes = as_codes(last, "int8")
            head = self._codes(codes, bias)
            tied = model.lm_head is None or config.tied_embeddings
            embedding = (codes if tied else as_codes(model.embed_tokens, "int8")).dense()
        else:
            head = self._floats(last.weight, bias)
        embedding = embedding.to(self.dtype).contiguous()
        return _Model(
            layers=config.layers,
            hidden=config.hidden_size,
            heads=config.heads,
            kv=config.kv_heads,
            size=config.head_dim,
            inner=config.intermediate_size,
            half=config.rotary_dim // 2,
            window=config.sliding_window or 0,
            parallel=config.block == "parallel",
            layer_norm=config.norm == "layernorm",
            activation=_ACTIVATIONS[config.activation],
            embedding_kind=_KINDS["fp32" if self.dtype == torch.float32 else "bf16"],
            eps=config.norm_eps,
            scale=config.softmax_scale,
            residual=config.multipliers.residual,
            embedding_scale=config.multipliers.embedding,
            limit=config.gegelu_limit,
            embedding=self._hold(embedding),
            layer=layers,
            norm=self._norm(model.norm),
            head=head,
        )

    @property
    def _coded(self) -> bool:
        return self.weights in ("int8", "int4")

    def _norm(self, norm: nn.Module) -> _Norm:
        bias = getattr(norm, "bias", None)
        weight = self._hold(cast(Tensor, norm.weight).detach().float().contiguous())
        return _Norm(weight, None if bias is None else self._hold(bias.detach().float().contiguous()))

    def _matrix(self, layer: nn.Module) -> _Matrix:
        bias = cast(Tensor | None, layer.bias)
        if self._coded:
            return self._codes(as_codes(layer, self.weights), bias)
        return self._floats(cast(Tensor, layer.weight), bias)

    def _shape(self, kind: str, rows: int, columns: int, bias: Tensor | None) -> tuple[_Matrix, int, int]:
        units, groups = -(-rows // UNIT), -(-columns // GROUP)
        wide = None
        if bias is not None:
            wide = torch.zeros(units * UNIT)
            wide[:rows] = bias.detach().float()
        matrix = _Matrix(
            kind=_KINDS[kind],
            out=rows,
            columns=columns,
            padded=groups * GROUP,
            groups=groups,
            units=units,
            bias=None if wide is None else self._hold(wide),
        )
        return matrix, units, groups

    def _floats(self, weight: Tensor, bias: Tensor | None) -> _Matrix:
        half = self.dtype == torch.bfloat16
        source = weight.detach().to(self.dtype).contiguous()
        rows, columns = source.shape
        matrix, units, groups = self._shape("bf16" if half else "fp32", rows, columns, bias)
        packed = torch.empty(units * UNIT * groups * GROUP, dtype=self.dtype)
        self._call("pack_floats", source, packed, rows, columns, groups * GROUP, half)
        matrix.codes = self._hold(packed)
        return matrix

    def _codes(self, codes: Codes, bias: Tensor | None) -> _Matrix:
        rows, columns = codes.shape
        matrix, units, groups = self._shape("int4" if codes.bits == 4 else "int8", rows, columns, bias)
        if codes.bits == 4:
            packed = torch.empty(units * groups * _INT4_STEP, dtype=torch.uint8)
            scales = codes.scales.contiguous()
            self._call("pack_int4", codes.codes.contiguous(), scales, packed, rows, columns)
        else:
            packed = torch.empty(units * UNIT * groups * GROUP, dtype=torch.uint8)
            self._call("pack_int8", codes.codes.contiguous(), packed, rows, columns, groups * GROUP)
            wide = torch.zeros(units * UNIT)
            wide[:rows] = codes.scales.float()
            matrix.scales = self._hold(wide)
        matrix.codes = self._hold(packed)
        return matrix

    def _call(self, name: str, *arguments: Any) -> None:
        values = [
            c_void_p(a.data_ptr())
            if isinstance(a, Tensor)
            else c_int(a)
            if isinstance(a, bool)
            else c_int64(a)
            for a in arguments
        ]
        getattr(self._library, name)(*values, c_int(torch.get_num_threads()))

    def weight_bytes(self) -> int:
        """Bytes of all weights as they are stored here."""
        return sum(t.numel() * t.element_size() for t in self._hold.tensors)

    # -- passes ---------------------------------------------------------------------------------

    def run(self, ids: np.ndarray, cache: PagedCache, want: np.ndarray) -> tuple[Tensor, Tensor]:
        """One pass over the spans that `cache.begin` was told.

        ids: int64 (tokens,). want: int64, which tokens' results are asked for. Returns hidden states after
        the last norm (wanted, hidden) and logits (wanted, vocab_size), both fp32.
        """
        count, units = len(want), self._model.head.units
        hidden = np.empty((count, self.config.hidden_size), dtype=np.float32)
        logits = torch.empty(count, units * UNIT)
        cos, sin = self._turns(cache)
        table, span = cache.table, cache.span
        done = _Pass(
            tokens=len(ids),
            spans=len(span),
            wanted=count,
            table_width=table.shape[1],
            pages=cache.pages,
            cache_kind=_KINDS["fp32" if cache.dtype == torch.float32 else "bf16"],
            threads=torch.get_num_threads(),
            ids=ids.ctypes.data,
            span=span.ctypes.data,
            table=table.ctypes.data,
            cos=cos.ctypes.data,
            sin=sin.ctypes.data,
            want=want.ctypes.data,
            keys=cache.keys.data_ptr(),
            values=cache.values.data_ptr(),
            hidden=hidden.ctypes.data,
            logits=logits.data_ptr(),
        )
        self._library.run_pass(ctypes.byref(self._model), ctypes.byref(done))
        logits = logits[:, : self.config.vocab_size]
        multiplier = self.config.multipliers.logits
        if multiplier != 1.0:
            logits = logits * multiplier
        return torch.from_numpy(hidden), hide_unused(logits, self.config)

    def _turns(self, cache: PagedCache) -> tuple[np.ndarray, np.ndarray]:
        """cos and sin of each token of the pass, from tables that grow with the positions met."""
        position, long = cache.positions, cache.long
        if not long.any():
            cos, sin = self._table(False, int(position.max()))
            return cos[position], sin[position]
        if long.all():
            cos, sin = self._table(True, int(position.max()))
            return cos[position], sin[position]
        both = [self._table(beyond, int(position.max())) for beyond in (False, True)]
        pick = long[:, None]
        cos, sin = (np.where(pick, b[position], a[position]) for a, b in zip(*both))
        return cos, sin

    def _table(self, long: bool, position: int) -> tuple[np.ndarray, np.ndarray]:
        known = self._angles.get(long)
        if known is None or len(known[0]) <= position:
            rows = min(max(2 * position, 1024), max(self.config.max_position, position + 1))
            rope = self.config.long_rope
            length = 0 if rope is None else rope.original_max_position + long
            cos, sin = self._rope(torch.arange(rows), length)
            known = self._angles[long] = (cos.contiguous().numpy(), sin.contiguous().numpy())
        return known


def quantize_int4(weight: Tensor) -> Codes | None:
    """`hornbook.model.quantized.nearest_int4` by the kernels; None where they are not."""
    kernels = library()
    if kernels is None:
        return None
    wide = weight.detach().float().contiguous()
    rows, columns = wide.shape
    codes = torch.empty(rows, columns, dtype=torch.uint8)
    scales = torch.empty(rows, columns // GROUP, dtype=torch.bfloat16)
    pointers = (c_void_p(t.data_ptr()) for t in (wide, codes, scales))
    kernels.quantize_int4(*pointers, c_int64(rows), c_int64(columns), c_int(torch.get_num_threads()))
    return Codes(bits=4, codes=codes, scales=scales)
