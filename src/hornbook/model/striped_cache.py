"""A key-value cache that keeps, in block-sparse layers, only what some later token will look at.

Every key head keeps its nearest blocks in a ring and, for good, the stripes of the query heads it serves.
With phi-3-small's four query heads a key head and one stripe in eight, a sparse layer keeps half of a long
text, and one step reads half. Dense layers keep everything, as in `KeyValueCache`.
"""

from dataclasses import replace

import torch
from torch import Tensor

from hornbook.model.attention import Visible, sparse_in_cache, visible_in_cache
from hornbook.model.config import BlockSparse, ModelConfig
from hornbook.model.sparse_attention import sparse_mask


class StripedCache:
    """A cache for rows without padding, all equally long; (batch, kv_heads, slots, head_dim) a layer.

    A sparse layer's slots are the ring (position p in slot p modulo its length) and behind it the kept
    stripes in the order of their positions; where that is no fewer slots than tokens, simply the tokens.
    """

    def __init__(
        self,
        config: ModelConfig,
        *,
        batch: int,
        length: int,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        rope_length: int | None = None,
    ) -> None:
        """length: tokens of the longest sequence. Raises ValueError for a model without block_sparse."""
        if config.block_sparse is None:
            raise ValueError("StripedCache is for models with block_sparse; use KeyValueCache")
        self.config, self.pattern, self.length = config, config.block_sparse, length
        self.used = 0
        self.rope_length = length if rope_length is None else rope_length
        device = torch.device(device)
        self._places = _kept_places(self.pattern, config, length).to(device)
        self._near = min(self.pattern.local_blocks * self.pattern.block, length)
        self._slots = (0, 0)
        self._kept: tuple[Tensor, ...] = ()
        # Below about two thousand tokens ring and stripes would hold more than there is.
        slots = self._near + self._places.shape[1]
        self._striped = [self.pattern.is_sparse(layer) and slots < length for layer in range(config.layers)]
        shapes = [
            (batch, config.kv_heads, slots if self._striped[layer] else length, config.head_dim)
            for layer in range(config.layers)
        ]
        self.keys = [torch.zeros(shape, dtype=dtype, device=device) for shape in shapes]
        self.values = [torch.zeros(shape, dtype=dtype, device=device) for shape in shapes]

    @property
    def bytes(self) -> int:
        """Memory of all keys and values."""
        return sum(t.numel() * t.element_size() for t in (*self.keys, *self.values))

    def position(self, time: int) -> Tensor:
        """Positions of the next `time` tokens, (time,)."""
        return torch.arange(self.used, self.used + time, device=self.keys[0].device)

    def visible(self, time: int, window: int | None) -> Visible:
        """What dense layers see, and beside it what sparse layers see in the order `append` returns keys."""
        device, heads = self.keys[0].device, self.config.heads
        end = self.used + time
        dense = visible_in_cache(self.used, time, None, window=window, device=device)
        # One token is stored before it looks; several look at the old slots and at each other.
        seen = end if time == 1 else self.used
        ring, places = self._stored(seen)
        self._slots = (len(ring), places.shape[1])
        head, slot = ((self._places >= self.used) & (self._places < end)).nonzero(as_tuple=True)
        self._kept = (head, self._near + slot, self._places[head, slot] - self.used)
        if (self.used == 0 and time > 1) or not any(self._striped):
            return sparse_in_cache(dense, self.pattern, heads, self.used, time, None, device)
        query = self.position(time)
        block = self.pattern.block
        far = query[:, None] // block - self.pattern.local_blocks  # the last block that is not near
        near = (ring // block > far) & (ring <= query[:, None])
        stripe = torch.tensor([self.pattern.first_stripe(h) for h in range(heads)], device=device)
        # Each query head looks into its own key head's kept places, (heads, places).
        places = places.repeat_interleave(heads // self.config.kv_heads, 0)
        mine = (places // block % self.pattern.stride == stripe[:, None]) & (places < seen)
        distant = mine[:, None] & (places[:, None] // block <= far)
        parts = [near.expand(heads, -1, -1), distant]
        if time > 1:
            parts.append(sparse_mask(self.pattern, heads, query, query))
        mask = torch.cat(parts, -1)[None]
        return replace(dense, sparse=Visible(mask=mask, causal=False))

    def _stored(self, used: int) -> tuple[Tensor, Tensor]:
        """Positions in the ring, (slots,), and of the places that some key head has filled, (kv_heads, n)."""
        slot = torch.arange(min(self._near, used), device=self._places.device)
        count = int((self._places < used).sum(-1).max())
        return slot + (used - 1 - slot) // self._near * self._near, self._places[:, :count]

    def append(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Stores one layer's new keys and values (batch, kv_heads, time, head_dim); returns what is seen."""
        time = keys.shape[2]
        end = self.used + time
        if end > self.length:
            raise ValueError(f"the cache holds {self.length} tokens, {end} were asked for")
        both = self.keys[layer], self.values[layer]
        if not self._striped[layer]:
            for stored, new in zip(both, (keys, values), strict=True):
                stored[:, :, self.used : end] = new
            return both[0][:, :, :end], both[1][:, :, :end]
        seen = []
        for stored, new in zip(both, (keys, values), strict=True):
            before = [self._filled(stored), new.to(stored.dtype)] if time > 1 else []
            old = torch.cat(before, 2) if before and self.used else new
            self._write(stored, new)
            seen.append(old if time > 1 else self._filled(stored))
        return seen[0], seen[1]

    def _filled(self, stored: Tensor) -> Tensor:
        """The slots that `visible` spoke of; without a copy once the ring is full."""
        ring, far = self._slots
        if ring == self._near:
            return stored[:, :, : ring + far]
        return torch.cat([stored[:, :, :ring], stored[:, :, self._near : self._near + far]], 2)

    def _write(self, stored: Tensor, new: Tensor) -> None:
        latest = min(new.shape[2], self._near)
        end = self.used + new.shape[2]
        slots = torch.arange(end - latest, end, device=stored.device) % self._near
        stored[:, :, slots] = new[:, :, -latest:].to(stored.dtype)
        head, slot, token = self._kept
        stored[:, head, slot] = new[:, head, token].to(stored.dtype)

    def advance(self, time: int) -> None:
        """Counts `time` tokens as read."""
        self.used += time


def _kept_places(pattern: BlockSparse, config: ModelConfig, length: int) -> Tensor:
    """Of each key head the positions it keeps for good, in order, (kv_heads, places); `length` fills up."""
    group = config.heads // config.kv_heads
    rows = []
    blocks = torch.arange(-(-length // pattern.block))
    for key_head in range(config.kv_heads):
        firsts = {pattern.first_stripe(head) for head in range(key_head * group, (key_head + 1) * group)}
        mine = blocks[torch.isin(blocks % pattern.stride, torch.tensor(sorted(firsts)))]
        rows.append((mine[:, None] * pattern.block + torch.arange(pattern.block)).flatten())
    longest = max(len(row) for row in rows)
    out = torch.full((config.kv_heads, longest), length)
    for target, row in zip(out, rows, strict=True):
        target[: len(row)] = row.clamp(max=length)
    return out
