"""Every attention path of the decoder behind one function, `attend`.

Which keys a query may see is decided once per forward pass (`Visible`) and shared by all layers.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from hornbook.model import flex_sparse
from hornbook.model.block_attention import Spans, plan_spans
from hornbook.model.config import BlockSparse
from hornbook.model.sparse_attention import Stripes, is_dense, plan_stripes, sparse_mask

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask


@dataclass(frozen=True, kw_only=True)
class Visible:
    """Which keys each query sees.

    mask: bool, broadcastable to (batch, heads, queries, keys), True where visible; None means
    plain causal attention (`causal`) or everything (not `causal`: a single query behind a full cache).
    document: (batch, time) integer ids where packed documents are isolated, for paths that work
    block by block instead of by mask. window: tokens a query sees including itself, or None.
    spans: the same visibility cut into blocks for `hornbook.model.block_attention`; where they are
    given they are used, and `mask` is None because nobody needs it. stripes: the same for
    `hornbook.model.sparse_attention`, flex for `hornbook.model.flex_sparse`. sparse: what block-sparse layers
    see, where it differs.
    """

    mask: Tensor | None = None
    causal: bool = True
    document: Tensor | None = None
    window: int | None = None
    spans: Spans | None = None
    stripes: Stripes | None = None
    flex: "BlockMask | None" = None
    sparse: "Visible | None" = None


def visible_in_training(
    time: int,
    *,
    document: Tensor | None = None,
    window: int | None = None,
    device: torch.device | None = None,
    blocks: torch.dtype | None = None,
) -> Visible:
    """Visibility of a pass without a cache: causal, inside the window, inside the document.

    time: tokens per row. document: (batch, time) integer ids or None; a token sees only tokens of
    the same id, whatever the ids are. blocks: the dtype of the projections when the pass will go
    through `hornbook.model.block_attention`; no mask is made then.
    """
    if window is not None and window >= time:
        window = None
    if blocks is not None:
        spans = plan_spans(time, document=document, window=window, dtype=blocks)
        return Visible(causal=False, document=document, window=window, spans=spans)
    if document is None and window is None:
        return Visible()
    slot = torch.arange(time, device=device)
    mask = slot[:, None] >= slot[None, :]
    if window is not None:
        mask = mask & (slot[:, None] - slot[None, :] < window)
    if document is not None:
        mask = mask & (document[:, :, None] == document[:, None, :])
        return Visible(mask=mask[:, None], causal=False, document=document, window=window)
    return Visible(mask=mask, causal=False, window=window)


def sparse_in_training(
    dense: Visible,
    pattern: BlockSparse,
    heads: int,
    time: int,
    *,
    document: Tensor | None = None,
    device: torch.device | None = None,
    dropout: bool = False,
) -> Visible:
    """`dense` with what block-sparse layers see beside it, in a pass without a cache.

    Documents count their blocks from their own first token. dropout: attention weights are dropped, which
    only the path with a mask does.
    """
    if document is None:
        if is_dense(pattern, time):
            return dense
        if not dropout:
            return replace(dense, sparse=_sparse_rows(pattern, heads, time, device))
        place = torch.arange(time, device=device)[None]
        same: Tensor | bool = True
    else:
        same = document[:, :, None] == document[:, None, :]
        # A token's place in its document: how many tokens of it came before, wherever they stand.
        place = same.tril(-1).sum(-1)
        if is_dense(pattern, int(place.max()) + 1):
            return dense
        if not dropout and flex_sparse.available(document.device):
            plan = flex_sparse.plan_flex_documents(pattern, heads, document, place)
            return replace(dense, sparse=Visible(causal=False, flex=plan))
        same = same[:, None]
    mask = sparse_mask(pattern, heads, place, place) & same
    if document is not None:
        slot = torch.arange(time, device=device)
        mask = mask & (slot[:, None] >= slot)
    return replace(dense, sparse=Visible(mask=mask, causal=False))


def _sparse_rows(pattern: BlockSparse, heads: int, time: int, device: torch.device | None) -> Visible:
    """What block-sparse layers see in whole rows, for the path that is fastest on `device`."""
    if device is not None and flex_sparse.available(device):
        plan = flex_sparse.plan_flex(pattern, heads, time, device, backward=torch.is_grad_enabled())
        return Visible(causal=False, flex=plan)
    return Visible(stripes=plan_stripes(pattern, heads, time, device))


def sparse_in_cache(
    dense: Visible,
    pattern: BlockSparse,
    heads: int,
    used: int,
    time: int,
    padding: Tensor | None,
    device: torch.device,
) -> Visible:
    """`dense` with what block-sparse layers see beside it, for `time` new tokens behind `used` slots."""
    keys = used + time
    if is_dense(pattern, keys):
        return dense
    if used == 0 and padding is None:
        return replace(dense, sparse=_sparse_rows(pattern, heads, time, device))
    slot = torch.arange(keys, device=device)
    place = slot[None] if padding is None else slot - padding[:, None]
    mask = sparse_mask(pattern, heads, place[:, used:], place)
    if padding is not None:
        mask = mask & (place >= 0)[:, None, None, :]
        mask = mask | (slot[used:, None] == slot)
    return replace(dense, sparse=Visible(mask=mask, causal=False))


def visible_in_cache(
    used: int,
    time: int,
    padding: Tensor | None,
    *,
    window: int | None = None,
    device: torch.device | None = None,
) -> Visible:
    """Visibility of `time` new tokens behind `used` cached slots.

    padding: (batch,) number of left-padding slots of each row, or None where no row has any. A
    padding query sees itself alone, so that no softmax is empty; nothing else sees it.
    """
    keys = used + time
    if window is not None and window >= keys:
        window = None
    if padding is None and window is None and (used == 0 or time == 1):
        return Visible(causal=used == 0 and time > 1)
    query, key = torch.arange(used, keys, device=device)[:, None], torch.arange(keys, device=device)[None, :]
    mask = query >= key
    if window is not None:
        mask = mask & (query - key < window)
    if padding is None:
        return Visible(mask=mask, causal=False, window=window)
    real = key >= padding[:, None, None]
    return Visible(mask=((mask & real) | (query == key))[:, None], causal=False, window=window)


def attend(
    q: Tensor, k: Tensor, v: Tensor, *, visible: Visible, scale: float, dropout: float = 0.0
) -> Tensor:
    """softmax(scale * q k^T + mask) v.

    Shapes: q (batch, heads, queries, head_dim); k and v (batch, kv_heads, keys, head_dim), each
    key head serving heads / kv_heads neighbouring query heads; result (batch, heads, queries, head_dim).
    """
    return F.scaled_dot_product_attention(
        q,
        k,
        v,
        attn_mask=visible.mask,
        dropout_p=dropout,
        is_causal=visible.causal,
        scale=scale,
        enable_gqa=q.shape[1] != k.shape[1],
    )
