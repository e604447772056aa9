"""Block-sparse attention on a GPU: torch's FlexAttention, told block by block what to look at.

The compiled kernel reads only the blocks of keys that a block of queries sees, forward and backward. The
lists of blocks follow from phi-3-small's pattern at once, without a (time, time) mask; only blocks that are
seen in part are looked at token by token. Without compilation (on a CPU) the same mask is applied to a full
matrix of scores, which is how the tests hold it against the other paths.
"""

import functools
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from hornbook.model.config import BlockSparse

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask


def available(device: torch.device) -> bool:
    """Whether FlexAttention is the path for tensors on `device`: a GPU for which Triton can compile."""
    return device.type == "cuda" and _has_triton()


@functools.cache
def _has_triton() -> bool:
    from torch.utils._triton import has_triton

    return bool(has_triton())


@functools.lru_cache(maxsize=4)  # a plan of 131072 tokens is a second's work
def plan_flex(
    pattern: BlockSparse, heads: int, time: int, device: torch.device, *, backward: bool = True
) -> "BlockMask":
    """What every block of queries sees in rows of `time` tokens without documents, as FlexAttention reads it.

    backward: the lists also serve a backward pass, whose kernels work in blocks of 128 tokens. Without it
    blocks are the pattern's own, of which fewer are read where stripes are narrower than 128.
    """
    from torch.nn.attention.flex_attention import BlockMask

    size = _block(pattern, backward)
    group, count = size // pattern.block, -(-time // size)
    number = torch.arange(count * group, device=device)
    stripe = _stripes(pattern, heads, device)
    near = number[:, None] - number < pattern.local_blocks
    seen = (near | (number % pattern.stride == stripe[:, None])[:, None]) & (number[:, None] >= number)
    # Of a group of blocks: some is seen, or all of it, whole, which it never is on the diagonal.
    tiles = seen.view(heads, count, group, count, group)
    some = tiles.any(4).any(2)
    whole = tiles.all(4).all(2) & ~torch.eye(count, dtype=torch.bool, device=device)
    partial_count, partial = _list(some & ~whole)
    full_count, full = _list(whole)
    return BlockMask.from_kv_blocks(
        partial_count[None],
        partial[None],
        full_count[None],
        full[None],
        BLOCK_SIZE=size,
        mask_mod=_rule(pattern, stripe),
        seq_lengths=(time, time),
        compute_q_blocks=backward,
    )


def _block(pattern: BlockSparse, backward: bool) -> int:
    """Tokens a side of what the kernels skip or read: whole blocks of the pattern and of the kernels."""
    return math.lcm(pattern.block, 128 if backward else 64)


def _list(chosen: Tensor) -> tuple[Tensor, Tensor]:
    """How many of (heads, rows, columns) are chosen in each row, and which, those in front and in order."""
    order = (~chosen).to(torch.int8).argsort(dim=-1, stable=True).to(torch.int32)
    return chosen.sum(-1, dtype=torch.int32), order


def plan_flex_documents(pattern: BlockSparse, heads: int, document: Tensor, place: Tensor) -> "BlockMask":
    """The same for packed rows: document ids, and the place of each token in its document, (batch, time)."""
    from torch.nn.attention.flex_attention import create_block_mask

    rule = _rule(pattern, _stripes(pattern, heads, document.device))

    def inside(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        same = (document[batch, query] == document[batch, key]) & (query >= key)
        return same & rule(batch, head, place[batch, query], place[batch, key])

    rows, time = document.shape
    return create_block_mask(
        inside,
        rows,
        heads,
        time,
        time,
        device=document.device,
        BLOCK_SIZE=_block(pattern, True),
        _compile=document.device.type == "cuda",  # in pieces: the whole mask would not fit
    )


def attend_flex(q: Tensor, k: Tensor, v: Tensor, *, mask: "BlockMask", scale: float) -> Tensor:
    """softmax(scale * q k^T) v over what `mask` shows.

    q (batch, heads, time, head_dim); k and v (batch, kv_heads, time, head_dim); result as q.
    """
    options = {"fwd_BLOCK_M": 64, "fwd_BLOCK_N": 64} if mask.BLOCK_SIZE[0] % 128 else None
    out: Tensor = _attention(q.device.type)(
        q,
        k,
        v,
        block_mask=mask,
        scale=scale,
        enable_gqa=q.shape[1] != k.shape[1],
        kernel_options=options,
    )
    return out


@functools.cache
def _attention(device: str) -> Callable[..., Any]:
    """FlexAttention, compiled for a GPU; inside a compiled model it is compiled with the rest."""
    from torch.nn.attention.flex_attention import flex_attention

    attention: Callable[..., Any] = flex_attention
    return torch.compile(attention) if device == "cuda" else attention


def _stripes(pattern: BlockSparse, heads: int, device: torch.device | None) -> Tensor:
    return torch.tensor([pattern.first_stripe(head) for head in range(heads)], device=device)


def _rule(pattern: BlockSparse, stripe: Tensor) -> Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]:
    """Whether a query of a head sees a key, by their places in the sequence."""

    def rule(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        query_block, key_block = query // pattern.block, key // pattern.block
        near = query_block - key_block < pattern.local_blocks
        return (query >= key) & (near | (key_block % pattern.stride == stripe[head]))

    return rule
