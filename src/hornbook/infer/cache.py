"""Where the engine keeps keys and values: `PromptCache` while a prompt is read, `RowCache` while rows answer.

Both do the attention themselves (`attend`), so that the layout stays their own business. Letters in shapes:
R rows being answered, G prompts, W = R / G rows of each prompt, K key-value heads, Q query heads, P prompt
slots, C slots of a row, d head size.
"""

from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor

from hornbook.model.attention import Visible
from hornbook.model.config import ModelConfig

_NOTHING = Visible()


class EngineCache(ABC):
    """A layout of keys and values that does its own attention: what an engine's decoder asks of a cache.

    One pass is `position`, `visible`, then `attend` for every layer in turn, then `advance`. `attend` is
    told the layer, so that layers may differ in what they keep and in what a query sees.
    """

    rope_length: int

    @abstractmethod
    def position(self, time: int) -> Tensor:
        """Positions of the next `time` tokens, (rows, time)."""

    @abstractmethod
    def visible(self, time: int, window: int | None) -> Visible:
        """Called once a pass, before the layers; here the masks of the pass are made."""

    @abstractmethod
    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        """Stores k and v (rows, K, time, d) and returns the attention of q (rows, Q, time, d), same shape."""

    @abstractmethod
    def advance(self, time: int) -> None:
        """Counts `time` tokens as read."""

    def append(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """The plain attention module's entrance; the engine's modules use `attend`."""
        raise TypeError("an engine cache works with an engine's decoder only")


class PromptCache(EngineCache):
    """Prompts padded on the right, read in one pass or in chunks: keys and values (layers, G, K, P, d).

    Padding needs no mask: nothing real stands behind it in its row.
    """

    def __init__(
        self,
        config: ModelConfig,
        *,
        prompts: int,
        length: int,
        dtype: torch.dtype,
        device: torch.device,
        rope_length: int,
    ) -> None:
        shape = (config.layers, prompts, config.kv_heads, length, config.head_dim)
        self.keys = torch.empty(shape, dtype=dtype, device=device)
        self.values = torch.empty(shape, dtype=dtype, device=device)
        self.used = 0
        self.rope_length = rope_length
        self._mask: Tensor | None = None

    def position(self, time: int) -> Tensor:
        return torch.arange(self.used, self.used + time, device=self.keys.device)[None]

    def visible(self, time: int, window: int | None) -> Visible:
        end = self.used + time
        self._mask = None
        if self.used > 0 or (window is not None and window < end):
            query = torch.arange(self.used, end, device=self.keys.device)[:, None]
            key = torch.arange(end, device=self.keys.device)[None, :]
            self._mask = query >= key
            if window is not None:
                self._mask &= query - key < window
        return _NOTHING

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        end = self.used + k.shape[2]
        self.keys[layer, :, :, self.used : end] = k
        self.values[layer, :, :, self.used : end] = v
        if self.used:
            k = self.keys[layer, :, :, :end].to(q.dtype)
            v = self.values[layer, :, :, :end].to(q.dtype)
        repeat = q.shape[1] // k.shape[1]
        if repeat > 1:
            k, v = k.repeat_interleave(repeat, 1), v.repeat_interleave(repeat, 1)
        return F.scaled_dot_product_attention(
            q, k, v, attn_mask=self._mask, is_causal=self._mask is None and q.shape[2] > 1, scale=scale
        )

    def advance(self, time: int) -> None:
        self.used += time


_FEW_QUERIES = 4
"""Up to so many queries a key head the product matrix times queries is the faster way round (measured)."""


def _product(left: Tensor, right: Tensor) -> Tensor:
    """left (n, queries, a) times right (n, a, b); few queries are multiplied from the other side."""
    if left.shape[1] <= _FEW_QUERIES:
        return torch.bmm(right.transpose(1, 2), left.transpose(1, 2)).transpose(1, 2)
    return torch.bmm(left, right)


class RowCache(EngineCache):
    """Rows being answered, aligned on the right: the next token of every row goes to the same slot.

    Row r's own tokens fill the slots start[r] to slot - 1, whatever their positions: the slot of a key
    does not matter to attention once rotary positions are in it. Writing is then one copy for all
    rows, and reading covers the slots from the earliest start.

    With `width` > 0 the rows belong to prompts, `width` neighbouring rows to each; the prompt's keys and
    values are kept once (`prompt_keys` (layers, G, K, P, d), aligned on the left, `prompt_lengths` slots
    long) and read once for all its rows. With `width` 0 a row's prompt lies in its own slots.
    """

    def __init__(
        self,
        config: ModelConfig,
        *,
        rows: int,
        slots: int,
        prompts: int = 0,
        prompt_slots: int = 0,
        dtype: torch.dtype,
        device: torch.device,
        rope_length: int,
    ) -> None:
        shape = (config.layers, rows, config.kv_heads, slots, config.head_dim)
        self.keys = torch.zeros(shape, dtype=dtype, device=device)
        # Values lie with their slots side by side: summing over slots then reads memory in order, which
        # halves the time of a step's attention on a CPU (measured).
        shape = (*shape[:3], config.head_dim, slots)
        self.values = torch.zeros(shape, dtype=dtype, device=device).transpose(-1, -2)
        shape = (config.layers, prompts, config.kv_heads, prompt_slots, config.head_dim)
        self.prompt_keys = torch.zeros(shape, dtype=dtype, device=device)
        self.prompt_values = torch.zeros(shape, dtype=dtype, device=device)
        self.start = torch.zeros(rows, dtype=torch.long)
        self.prompt_lengths = torch.zeros(prompts, dtype=torch.long)
        self.slots, self.slot = slots, 0
        self.rows = rows
        self.width = 0
        self.rope_length = rope_length
        self.device = device
        self._mask: Tensor | None = None
        self._low = 0
        self._prompt_high = 0

    @property
    def prompts(self) -> int:
        """How many prompts the live rows belong to (0 where rows hold their own)."""
        return self.rows // self.width if self.width else 0

    def behind(self) -> Tensor:
        """Position of the next token of each live row, (R,)."""
        own = self.slot - self.start[: self.rows]
        if self.width:
            own = own + self.prompt_lengths[: self.prompts].repeat_interleave(self.width)
        return own

    def position(self, time: int) -> Tensor:
        return (self.behind()[:, None] + torch.arange(time)).to(self.device)

    def visible(self, time: int, window: int | None) -> Visible:
        """Makes the pass's additive mask, (R, K, Q / K * time, P + slots) broadcast, or None."""
        start = self.start[: self.rows]
        self._low = int(start.min()) if len(start) else 0
        behind = self.behind()
        if window is not None and int(behind.max()) + time <= window:
            window = None
        query = behind[:, None] + torch.arange(time)
        slot = torch.arange(self._low, self.slot + time)
        shift = behind - self.slot
        seen = (slot[None, :] >= start[:, None])[:, None, :].expand(-1, time, -1)
        if time > 1:
            seen = seen & (slot[None, None, :] + shift[:, None, None] <= query[:, :, None])
        if window is not None:
            seen = seen & (slot[None, None, :] + shift[:, None, None] > query[:, :, None] - window)
        if self.width:
            lengths = self.prompt_lengths[: self.prompts].repeat_interleave(self.width)
            self._prompt_high = int(lengths.max())
            key = torch.arange(self._prompt_high)
            known = (key[None, :] < lengths[:, None])[:, None, :].expand(-1, time, -1)
            if window is not None:
                known = known & (key[None, None, :] > query[:, :, None] - window)
            seen = torch.cat([known, seen], -1)
        self._mask = None
        if not bool(seen.all()):
            self._mask = torch.where(seen, 0.0, float("-inf")).to(self.keys.dtype).to(self.device)
        self._wide: Tensor | None = None
        return _NOTHING

    def _masked(self, scores: Tensor, time: int) -> Tensor:
        """Adds the mask (R, time, keys) to scores (R * K, Q / K * time, keys), in place."""
        if self._mask is None:
            return scores
        if self._wide is None:
            heads, inner = scores.shape[0] // self.rows, scores.shape[1] // time
            shape = (self.rows, heads, inner, time, scores.shape[2])
            self._wide = self._mask[:, None, None].expand(shape).reshape(scores.shape)
        return scores.add_(self._wide)

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        rows, heads, time, size = q.shape
        kv, slot = k.shape[1], self.slot
        self.keys[layer, :rows, :, slot : slot + time] = k
        self.values[layer, :rows, :, slot : slot + time] = v
        inner = heads // kv * time
        keys = self.keys[layer, :rows, :, self._low : slot + time].flatten(0, 1)
        values = self.values[layer, :rows, :, self._low : slot + time].flatten(0, 1)
        q = (q * scale).to(keys.dtype)
        own = _product(q.reshape(rows * kv, inner, size), keys.transpose(1, 2))
        if not self.width:
            weight = torch.softmax(self._masked(own, time), -1)
            return _product(weight, values).reshape(rows, heads, time, size)
        prompts, width, high = self.prompts, self.width, self._prompt_high
        grouped = q.view(prompts, width, kv, inner, size).transpose(1, 2)
        grouped = grouped.reshape(prompts * kv, width * inner, size)
        shared = torch.bmm(grouped, self.prompt_keys[layer, :prompts, :, :high].flatten(0, 1).transpose(1, 2))
        shared = shared.view(prompts, kv, width, inner, high).transpose(1, 2)
        scores = torch.cat([shared.reshape(rows * kv, inner, high), own], -1)
        weight = torch.softmax(self._masked(scores, time), -1)
        mixed = _product(weight[:, :, high:], values)
        grouped = weight[:, :, :high].view(prompts, width, kv, inner, high).transpose(1, 2)
        grouped = grouped.reshape(prompts * kv, width * inner, high)
        known = torch.bmm(grouped, self.prompt_values[layer, :prompts, :, :high].flatten(0, 1))
        known = known.view(prompts, kv, width, inner, size).transpose(1, 2)
        return mixed.reshape(rows, heads, time, size) + known.reshape(rows, heads, time, size)

    def advance(self, time: int) -> None:
        self.slot += time

    def take_prompt(self, source: PromptCache, index: int, length: int, row: int) -> None:
        """Copies one read prompt into a row's own slots, so that it ends before the next slot."""
        begin = self.slot - length
        if begin < 0:
            raise ValueError("the slot pointer stands before the prompt's length")
        self.keys[:, row, :, begin : self.slot] = source.keys[:, index, :, :length]
        self.values[:, row, :, begin : self.slot] = source.values[:, index, :, :length]
        self.start[row] = begin

    def share_prompt(self, source: PromptCache, index: int, length: int, prompt: int) -> None:
        """Copies one read prompt where all rows of `prompt` read it."""
        self.prompt_keys[:, prompt, :, :length] = source.keys[:, index, :, :length]
        self.prompt_values[:, prompt, :, :length] = source.values[:, index, :, :length]
        self.prompt_lengths[prompt] = length

    def move_row(self, source: int, target: int) -> None:
        """Copies a row's live slots over another row."""
        live = slice(int(self.start[source]), self.slot)
        self.keys[:, target, :, live] = self.keys[:, source, :, live]
        self.values[:, target, :, live] = self.values[:, source, :, live]
        self.start[target] = self.start[source]

    def move_prompt(self, source: int, target: int) -> None:
        """Copies a shared prompt over another."""
        live = slice(0, int(self.prompt_lengths[source]))
        self.prompt_keys[:, target, :, live] = self.prompt_keys[:, source, :, live]
        self.prompt_values[:, target, :, live] = self.prompt_values[:, source, :, live]
        self.prompt_lengths[target] = self.prompt_lengths[source]

    def shift(self, target: int) -> None:
        """Moves all live slots so that the next free slot is `target` (more room, longer prompts)."""
        rows = slice(0, self.rows)
        low = int(self.start[rows].min()) if self.rows else self.slot
        length, by = self.slot - low, target - self.slot
        if not 0 <= target - length <= target <= self.slots:
            raise ValueError(f"{length} live slots cannot end at slot {target} of {self.slots}")
        for part in (self.keys, self.values):
            for layer in part:
                layer[rows, :, low + by : target] = layer[rows, :, low : self.slot].clone()
        self.start += by
        self.slot = target
