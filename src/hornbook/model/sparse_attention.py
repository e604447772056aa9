"""phi-3-small's block-sparse attention: what a query sees, and a pass that computes nothing else.

A head sees its latest `local_blocks` blocks of keys and, further back, one block in `stride`: its stripes.
The stripes of every head are gathered once a pass, so that each block of queries meets two short dense
matrices instead of one long masked one. At 8192 tokens that is a third of causal attention's products, at
131072 a seventh. The pattern counts from the first token of a sequence: packed documents and left-padded
rows see what they would see alone.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from hornbook.model.config import BlockSparse
from hornbook.model.projected_attention import FAR


def sparse_mask(pattern: BlockSparse, heads: int, query: Tensor, key: Tensor) -> Tensor:
    """Which keys each query may see: bool (..., heads, queries, keys), causality included.

    query (..., queries) and key (..., keys): positions in their sequence, from 0.
    """
    stripe = torch.tensor([pattern.first_stripe(head) for head in range(heads)], device=key.device)
    query_block, key_block = query // pattern.block, key // pattern.block
    near = query_block[..., :, None] - key_block[..., None, :] < pattern.local_blocks
    striped = key_block[..., None, :] % pattern.stride == stripe[:, None]
    causal = query[..., :, None] >= key[..., None, :]
    return causal[..., None, :, :] & (near[..., None, :, :] | striped[..., :, None, :])


def is_dense(pattern: BlockSparse, longest: int) -> bool:
    """Whether nothing is left out of a sequence of at most `longest` tokens: the local blocks hold it."""
    return longest <= pattern.block * pattern.local_blocks


@dataclass(frozen=True)
class Stripes:
    """How a pass over `time` tokens is cut, without documents or padding.

    tokens: (heads, slots * block) positions of each head's stripes, in order; slots past the end repeat the
    last token, and `count` never reaches them.
    """

    pattern: BlockSparse
    time: int
    tokens: Tensor
    firsts: tuple[int, ...]

    @property
    def blocks(self) -> int:
        """Blocks of queries."""
        return -(-self.time // self.pattern.block)

    def queries(self, number: int) -> tuple[int, int]:
        """First and last + 1 token of a block of queries."""
        return number * self.pattern.block, min(self.time, (number + 1) * self.pattern.block)

    def local(self, number: int) -> int:
        """The earliest token that the whole block of queries sees as near."""
        return max(0, number - self.pattern.local_blocks + 1) * self.pattern.block

    def counts(self, number: int) -> list[int]:
        """Of each head, how many stripes lie before the near blocks."""
        end = number - self.pattern.local_blocks  # the last block that is not near
        return [max(0, (end - first) // self.pattern.stride + 1) for first in self.firsts]

    def mix(self, q: Tensor, k: Tensor, v: Tensor, out: Tensor, keep: bool) -> list[Tensor]:
        """See `hornbook.model.projected_attention.Cut`; on any device."""
        batch, _, heads, size = out.shape
        far_k, far_v = _gather(k, self, heads), _gather(v, self, heads)
        kept = []
        for number in range(self.blocks):
            first, last = self.queries(number)
            p, far = _probabilities(q, k, far_k, self, number, heads)
            mixed = torch.bmm(p[:, :, far:], v[:, self.local(number) : last])
            if far:
                mixed = torch.baddbmm(mixed, p[:, :, :far], far_v[:, :far])
            out[:, first:last].copy_(mixed.view(batch, heads, -1, size).transpose(1, 2))
            if keep:
                kept.append(p)
        return kept

    def gradients(
        self, q: Tensor, k: Tensor, v: Tensor, grad: Tensor, kept: list[Tensor]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """See `hornbook.model.projected_attention.Cut`."""
        batch, _, heads, size = grad.shape
        far_k, far_v = _gather(k, self, heads), _gather(v, self, heads)
        dq, dk, dv = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
        dfar_k, dfar_v = torch.zeros_like(far_k), torch.zeros_like(far_v)
        for number in range(self.blocks):
            first, last = self.queries(number)
            near = slice(self.local(number), last)
            if kept:
                p, far = kept[number], kept[number].shape[-1] - (near.stop - near.start)
            else:
                p, far = _probabilities(q, k, far_k, self, number, heads)
            do = grad[:, first:last].transpose(1, 2).reshape(batch * heads, -1, size)
            dp = torch.bmm(do, v[:, near].mT)
            if far:
                dp = torch.cat([torch.bmm(do, far_v[:, :far].mT), dp], -1)
            ds = torch._softmax_backward_data(dp, p, -1, p.dtype)
            dv[:, near] += torch.bmm(p[:, :, far:].mT, do)
            dk[:, near] += torch.bmm(ds[:, :, far:].mT, q[:, first:last])
            dqs = torch.bmm(ds[:, :, far:], k[:, near])
            if far:
                dfar_v[:, :far] += torch.bmm(p[:, :, :far].mT, do)
                dfar_k[:, :far] += torch.bmm(ds[:, :, :far].mT, q[:, first:last])
                dqs = torch.baddbmm(dqs, ds[:, :, :far], far_k[:, :far])
            dq[:, first:last] = dqs
        _scatter_add(dk, dfar_k, self, heads)
        _scatter_add(dv, dfar_v, self, heads)
        return dq, dk, dv


def plan_stripes(pattern: BlockSparse, heads: int, time: int, device: torch.device | None) -> Stripes:
    """The cut of a pass over rows of `time` tokens."""
    firsts = tuple(pattern.first_stripe(head) for head in range(heads))
    far = -(-time // pattern.block) - pattern.local_blocks
    slots = max(0, max((far - 1 - first) // pattern.stride + 1 for first in firsts))
    block = torch.tensor(firsts)[:, None] + pattern.stride * torch.arange(slots)
    tokens = block[:, :, None] * pattern.block + torch.arange(pattern.block)
    return Stripes(pattern, time, tokens.flatten(1).clamp(max=time - 1).to(device), firsts)


def _index(stripes: Stripes, rows: int, heads: int, size: int) -> Tensor:
    """The gathered tokens as an index into (batch * heads, time, size)."""
    return stripes.tokens.repeat(rows // heads, 1)[:, :, None].expand(-1, -1, size)


def _gather(x: Tensor, stripes: Stripes, heads: int) -> Tensor:
    """(batch * heads, time, size) -> (batch * heads, slots * block, size)."""
    return x.gather(1, _index(stripes, len(x), heads, x.shape[-1]))


def _scatter_add(total: Tensor, part: Tensor, stripes: Stripes, heads: int) -> None:
    total.scatter_add_(1, _index(stripes, len(total), heads, total.shape[-1]), part)


def _probabilities(
    q: Tensor, k: Tensor, far_k: Tensor, stripes: Stripes, number: int, heads: int
) -> tuple[Tensor, int]:
    """Softmax weights of a block of queries, (batch heads, queries, far + near keys); how many are far."""
    first, last = stripes.queries(number)
    block, counts = stripes.pattern.block, stripes.counts(number)
    far, sure = max(counts) * block, min(counts) * block
    scores = torch.bmm(q[:, first:last], k[:, stripes.local(number) : last].mT)
    diagonal = torch.ones(last - first, last - first, dtype=torch.bool, device=q.device).tril()
    scores[:, :, first - last :].masked_fill_(~diagonal, FAR)
    if far:
        distant = torch.bmm(q[:, first:last], far_k[:, :far].mT)
        if sure < far:  # some heads have one stripe less
            absent = torch.arange(sure, far) >= torch.tensor(counts)[:, None] * block
            tail = distant.view(-1, heads, last - first, far)[..., sure:]
            tail.masked_fill_(absent[:, None].to(q.device), FAR)
        scores = torch.cat([distant, scores], -1)
    return torch.softmax(scores, -1), far
