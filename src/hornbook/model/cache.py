"""The key-value cache: what a decoder keeps of the tokens it has already read."""

from typing import Protocol

import torch
from torch import Tensor

from hornbook.model.attention import Visible, sparse_in_cache, visible_in_cache
from hornbook.model.config import ModelConfig


class Cache(Protocol):
    """What `Decoder.forward` asks of a cache, so that an engine may bring its own layout."""

    rope_length: int

    def position(self, time: int) -> Tensor:
        """Positions of the next `time` tokens, (batch, time) or (time,)."""

    def visible(self, time: int, window: int | None) -> Visible:
        """Which cached and new keys the next `time` tokens see."""

    def append(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Stores one layer's new keys and values; returns all of them, old and new."""

    def advance(self, time: int) -> None:
        """Counts `time` tokens as read, after every layer has appended."""


class KeyValueCache:
    """Preallocated keys and values, (layers, batch, kv_heads, length, head_dim).

    Rows are aligned on the right: row b's first `padding[b]` slots are left padding, the token in
    slot s of row b has position s - padding[b]. `used` slots are filled, the same in every row.

    LongRoPE: keys are stored rotated, so one cache must keep one set of factors. `rope_length`
    (tokens, default the cache's whole length) chooses it for the life of the cache.
    """

    def __init__(
        self,
        config: ModelConfig,
        *,
        batch: int,
        length: int,
        padding: Tensor | None = None,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        rope_length: int | None = None,
    ) -> None:
        """padding: (batch,) integer tensor of left-padding counts, or None."""
        if padding is not None and padding.shape != (batch,):
            raise ValueError(f"padding has shape {tuple(padding.shape)}, expected ({batch},)")
        shape = (config.layers, batch, config.kv_heads, length, config.head_dim)
        self.keys = torch.zeros(shape, dtype=dtype, device=device)
        self.values = torch.zeros(shape, dtype=dtype, device=device)
        self.padding = None if padding is None else padding.to(device)
        self.config = config
        self.length = length
        self.used = 0
        self.rope_length = length if rope_length is None else rope_length

    def position(self, time: int) -> Tensor:
        """Positions of the next `time` tokens: (time,), or (batch, time) with left padding."""
        slot = torch.arange(self.used, self.used + time, device=self.keys.device)
        if self.padding is None:
            return slot
        return (slot[None, :] - self.padding[:, None]).clamp_min(0)

    def visible(self, time: int, window: int | None) -> Visible:
        """Causal over the filled slots, without padding, inside the window; block-sparse layers apart."""
        device, pattern = self.keys.device, self.config.block_sparse
        dense = visible_in_cache(self.used, time, self.padding, window=window, device=device)
        if pattern is None:
            return dense
        return sparse_in_cache(dense, pattern, self.config.heads, self.used, time, self.padding, device)

    def append(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Writes keys and values (batch, kv_heads, time, head_dim) behind the used slots."""
        end = self.used + keys.shape[2]
        if end > self.length:
            raise ValueError(f"the cache holds {self.length} tokens, {end} were asked for")
        self.keys[layer, :, :, self.used : end] = keys
        self.values[layer, :, :, self.used : end] = values
        return self.keys[layer, :, :, :end], self.values[layer, :, :, :end]

    def advance(self, time: int) -> None:
        """Counts `time` tokens as read."""
        self.used += time

    def truncate(self, used: int) -> None:
        """Forgets every slot from `used` on."""
        if not 0 <= used <= self.used:
            raise ValueError(f"cannot keep {used} of {self.used} slots")
        self.used = used

    def rows(self, index: Tensor) -> "KeyValueCache":
        """A copy with the rows `index` (n,): repeated for samples of one prompt, dropped when finished."""
        copy = object.__new__(KeyValueCache)
        copy.config = self.config
        copy.keys, copy.values = self.keys[:, index], self.values[:, index]
        copy.padding = None if self.padding is None else self.padding[index]
        copy.length, copy.used, copy.rope_length = self.length, self.used, self.rope_length
        return copy
