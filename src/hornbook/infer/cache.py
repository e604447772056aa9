"""Where the engine keeps keys and values: pages of 16 tokens that sequences own, share and give back.

`PagedCache` holds the numbers and does the attention of a pass; which page belongs to whom is
`pages.PagePool`'s business. Letters in shapes: N tokens of a pass, S spans, K key-value heads, Q query heads,
P pages, d head size.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hornbook.model.attention import Visible
from hornbook.model.config import ModelConfig
from hornbook.model.sparse_attention import is_dense, sparse_mask

PAGE = 16
"""Tokens of a page."""

_NOTHING = Visible()
_MASK_NUMBERS = 1 << 25
"""Of a mask with heads, the most that is made at once."""
_FEW_QUERIES = 8
"""Up to so many tokens of a span its scores are written out; beyond, torch's fused attention is used."""


@dataclass(frozen=True, slots=True)
class Span:
    """New tokens of one sequence in a pass: `count` of them behind `past` cached ones, in `pages`.

    long: whether LongRoPE turns the sequence by its long factors.
    """

    pages: Sequence[int]
    past: int
    count: int
    long: bool = False


class EngineCache(ABC):
    """A layout of keys and values that does its own attention: what an engine's decoder asks of a cache.

    One pass is `begin`, then, from the decoder, `position`, `visible`, `attend` for every layer in turn, and
    `advance`. The tokens of all spans lie one behind the other in one row. `attend` is told the layer, so
    that layers may differ in what they keep and in what a query sees.
    """

    rope_length: int

    @abstractmethod
    def begin(self, spans: Sequence[Span]) -> None:
        """Says what the next pass reads."""

    @abstractmethod
    def position(self, time: int) -> Tensor:
        """Positions of the `time` = N tokens of the pass, (1, N)."""

    @abstractmethod
    def visible(self, time: int, window: int | None) -> Visible:
        """Called once a pass, before the layers; here the masks of the pass are made."""

    @abstractmethod
    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        """Stores k and v (1, K, N, d) and returns the attention of q (1, Q, N, d), same shape."""

    @abstractmethod
    def copy_page(self, source: int, target: int) -> None:
        """Copies one page of every layer over another."""

    def append(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """The plain attention module's entrance; the engine's modules use `attend`."""
        raise TypeError("an engine cache works with an engine's decoder only")

    def advance(self, time: int) -> None:  # noqa: B027
        """Nothing: the scheduler counts what has been read."""


@dataclass
class _Group:
    """Spans of similar length that attend together. index: their tokens in the pass, (spans, longest).

    query: their positions, where block-sparse layers see less than the others; sparse: what they see, kept
    for the layers of a pass where it is small.
    """

    index: Tensor
    tables: Tensor
    seen: Tensor | None
    real: Tensor | None
    query: Tensor | None = None
    sparse: Tensor | None = None


class PagedCache(EngineCache):
    """keys (layers, pages, K, d, PAGE) and values (layers, pages, K, PAGE, d), in `dtype`.

    Keys lie with their slots side by side: a query meets sixteen of them at a time without a sum across
    lanes. Memory is taken by the system when a page is first written.
    """

    def __init__(self, config: ModelConfig, *, pages: int, dtype: torch.dtype, device: torch.device) -> None:
        self.config, self.pages, self.dtype, self.device = config, pages, dtype, device
        shape = (config.layers, pages, config.kv_heads, config.head_dim, PAGE)
        self.keys = _zeros(shape, dtype, device)
        self.values = _zeros((*shape[:3], PAGE, config.head_dim), dtype, device)
        self.rope_length = 0
        self.span = np.zeros((0, 3), dtype=np.int64)
        self.table = np.zeros((0, 1), dtype=np.int32)
        self.positions = np.zeros(0, dtype=np.int64)
        self.long = np.zeros(0, dtype=bool)
        self._groups: list[_Group] = []

    def begin(self, spans: Sequence[Span]) -> None:
        counts = np.array([span.count for span in spans], dtype=np.int64)
        past = np.array([span.past for span in spans], dtype=np.int64)
        first = np.cumsum(counts) - counts
        self.span = np.stack([first, counts, past], 1)
        needed = -(-(past + counts) // PAGE)
        self.table = np.zeros((len(spans), int(needed.max())), dtype=np.int32)
        for row, (span, count) in enumerate(zip(spans, needed)):
            self.table[row, :count] = span.pages[:count]
        self.positions = np.arange(int(counts.sum())) + np.repeat(past - first, counts)
        self.long = np.repeat(np.array([span.long for span in spans]), counts)
        rope = self.config.long_rope
        if rope is not None:
            self.rope_length = rope.original_max_position + int(self.long.any())

    def position(self, time: int) -> Tensor:
        return torch.from_numpy(self.positions)[None].to(self.device)

    def visible(self, time: int, window: int | None) -> Visible:
        owner = np.repeat(np.arange(len(self.span)), self.span[:, 1])
        page = self.table[owner, self.positions // PAGE].astype(np.int64)
        self._page = torch.from_numpy(page).to(self.device)
        self._slot = torch.from_numpy(self.positions % PAGE).to(self.device)
        self._groups = [self._group(rows, window) for rows in _alike(self.span[:, 1])]
        return _NOTHING

    def _group(self, rows: np.ndarray, window: int | None) -> _Group:
        first, counts, past = self.span[rows].T
        longest = int(counts.max())
        offset = np.arange(longest)
        real = offset[None] < counts[:, None]
        index = np.where(real, first[:, None] + offset, first[:, None])
        query = past[:, None] + offset
        pages = int(-(-(past + counts).max() // PAGE))
        key = np.arange(pages * PAGE)
        seen = key <= query[..., None]
        if window is not None:
            seen &= key > query[..., None] - window
        tables = self.table[rows, :pages].astype(np.int64)
        pattern = self.config.block_sparse
        whole = pattern is None or is_dense(pattern, int((past + counts).max()))
        return _Group(
            query=None if whole else torch.from_numpy(query).to(self.device),
            index=torch.from_numpy(index).to(self.device),
            tables=torch.from_numpy(tables).to(self.device),
            seen=None if seen.all() else torch.from_numpy(seen).to(self.device),
            real=None if real.all() else torch.from_numpy(real).to(self.device),
        )

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        self.keys[layer][self._page, :, :, self._slot] = k[0].transpose(0, 1).to(self.dtype)
        self.values[layer][self._page, :, self._slot] = v[0].transpose(0, 1).to(self.dtype)
        if len(self._groups) == 1 and self._groups[0].real is None:
            mixed = self._mix(
                layer, self._groups[0], q[0], scale
            )  # (S, Q, time, d), in the order of the pass
            return mixed.transpose(0, 1).reshape(q.shape)
        out = torch.empty_like(q[0])
        for group in self._groups:
            mixed = self._mix(layer, group, q[0], scale).transpose(0, 1).to(out.dtype)
            if group.real is None:
                out[:, group.index] = mixed
            else:
                out[:, group.index[group.real]] = mixed[:, group.real]
        return out[None]

    def _mix(self, layer: int, group: _Group, q: Tensor, scale: float) -> Tensor:
        """Attention of a group's queries, (spans, Q, longest, d)."""
        spans, time = group.index.shape
        kv, size = self.config.kv_heads, self.config.head_dim
        q = q[:, group.index].transpose(0, 1)
        keys = self.keys[layer][group.tables].permute(0, 2, 3, 1, 4).reshape(spans, kv, size, -1)
        values = self.values[layer][group.tables].transpose(1, 2).reshape(spans, kv, -1, size)
        heads = q.shape[1]
        pattern = self.config.block_sparse
        sparse = group.query is not None and pattern is not None and pattern.is_sparse(layer)
        if time > _FEW_QUERIES:
            mask = None if group.seen is None else group.seen[:, None]
            keys, values = keys.transpose(2, 3), values
            if heads != kv:
                keys, values = (x.repeat_interleave(heads // kv, 1) for x in (keys, values))
            if sparse:
                return self._mix_in_pieces(group, q.to(keys.dtype), keys, values, scale)
            return F.scaled_dot_product_attention(q.to(keys.dtype), keys, values, attn_mask=mask, scale=scale)
        if self.device.type == "cpu":  # products of few queries are slower in bf16 there (measured)
            keys, values = keys.float(), values.float()
        inner = heads // kv * time
        scores = torch.matmul((q * scale).to(keys.dtype).reshape(spans, kv, inner, size), keys)
        if sparse:
            if group.sparse is None:
                group.sparse = self._seen_through_stripes(group, slice(None))
            scores = scores.masked_fill_(~group.sparse.reshape(scores.shape), float("-inf"))
        elif group.seen is not None:
            hidden = ~group.seen[:, None, None].expand(-1, kv, heads // kv, -1, -1)
            scores = scores.masked_fill_(hidden.reshape(scores.shape), float("-inf"))
        mixed = torch.matmul(torch.softmax(scores, -1), values)
        return mixed.view(spans, heads, time, size)

    def _seen_through_stripes(self, group: _Group, part: slice) -> Tensor:
        """What each head of a block-sparse layer sees, (spans, Q, queries of `part`, slots)."""
        pattern = self.config.block_sparse
        assert pattern is not None
        assert group.query is not None
        slots = torch.arange(group.tables.shape[1] * PAGE, device=self.device)
        query = group.query[:, part]
        return sparse_mask(pattern, self.config.heads, query, slots.expand(len(query), -1))

    def _mix_in_pieces(self, group: _Group, q: Tensor, keys: Tensor, values: Tensor, scale: float) -> Tensor:
        """A block-sparse layer's many queries, so many at a time that what each head sees stays small."""
        spans, heads, time, _ = q.shape
        step = max(1, _MASK_NUMBERS // (spans * heads * keys.shape[2]))
        out = torch.empty_like(q)
        for first in range(0, time, step):
            part = slice(first, first + step)
            mask = self._seen_through_stripes(group, part)
            out[:, :, part] = F.scaled_dot_product_attention(
                q[:, :, part], keys, values, attn_mask=mask, scale=scale
            )
        return out

    def copy_page(self, source: int, target: int) -> None:
        self.keys[:, target] = self.keys[:, source]
        self.values[:, target] = self.values[:, source]


def _alike(counts: np.ndarray) -> list[np.ndarray]:
    """Rows whose lengths are near enough to be padded to one another, in the order of the pass inside
    each."""
    order = np.argsort(-counts, kind="stable")
    groups: list[list[int]] = []
    for row in order.tolist():
        if (
            groups
            and 2 * counts[row] > counts[groups[-1][0]]
            and (counts[row] > 1) == (counts[groups[-1][0]] > 1)
        ):
            groups[-1].append(row)
        else:
            groups.append([row])
    return [np.sort(np.array(group)) for group in groups]


def _zeros(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Zeros that take no memory before they are written, where the system allows it."""
    if device.type != "cpu":
        return torch.zeros(shape, dtype=dtype, device=device)
    plain = {2: np.int16, 4: np.int32}[dtype.itemsize]
    return torch.from_numpy(np.zeros(shape, dtype=plain)).view(dtype)
