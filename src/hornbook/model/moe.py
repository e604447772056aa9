"""phi-3.5-MoE's sparse layer: top-2 routing by SparseMixer-v2 over SwiGLU experts.

Each pick is an own softmax over the experts that come close to the best; the two gates are not
renormalised. In training a pick is sampled and its gate sometimes shrunk to a third, so that the
gradient through the discrete choice is Heun's third-order estimate (GRIN, Liu et al. 2024).
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from hornbook.model.config import ModelConfig

_FULL_SHARE = 0.75  # a sampled runner-up keeps a third of its gate in this share of the cases
_THIRD, _REST = 0.3333, 0.6667


class _Gate(torch.autograd.Function):
    """gate * scale forward; backward the softmax's own gradient of the unscaled gate."""

    @staticmethod
    def forward(
        ctx: Any, scores: Tensor, gate: Tensor, chosen: Tensor, soft: Tensor, scale: Tensor
    ) -> Tensor:
        ctx.save_for_backward(gate, chosen, soft)
        return gate * scale

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> Any:
        gate, chosen, soft = ctx.saved_tensors
        pull = grads[0] * gate
        return (-soft * pull).scatter_add(-1, chosen, pull), None, None, None, None


def _pick(scores: Tensor, open_scores: Tensor, jitter: float, training: bool) -> tuple[Tensor, Tensor]:
    """One gate and one expert per token, each (tokens, 1). open_scores: scores, taken experts at -inf."""
    with torch.no_grad():
        best = open_scores.max(dim=-1, keepdim=True).values
        far = (best - scores) / torch.maximum(scores.abs(), best) > 2 * jitter
    near = open_scores.masked_fill(far, -torch.inf)
    soft = near.softmax(dim=-1)
    leader = near.argmax(dim=-1, keepdim=True)
    if not training:
        return soft.gather(-1, leader), leader
    near, soft = near.detach(), soft.detach()
    chosen = (near - torch.empty_like(near).exponential_().log()).argmax(dim=-1, keepdim=True)
    whole = (chosen == leader) | (torch.rand_like(best) > _FULL_SHARE)
    scale = _THIRD + _REST * whole.to(scores.dtype)
    gate: Tensor = _Gate.apply(scores, soft.gather(-1, chosen), chosen, soft, scale)  # type: ignore[no-untyped-call]
    return gate, chosen


def sparse_mixer(scores: Tensor, *, jitter: float, training: bool) -> tuple[Tensor, Tensor]:
    """Gates and expert ids, each (tokens, 2), for router scores (tokens, experts).

    jitter: experts further than 2 * jitter from the best, relatively, are not looked at. training:
    sample the picks and use the estimator's gradient; otherwise take the best two.
    """
    gate1, first = _pick(scores, scores, jitter, training)
    gate2, second = _pick(scores, scores.scatter(-1, first, -torch.inf), jitter, training)
    return torch.cat([gate1, gate2], -1), torch.cat([first, second], -1)


class SparseMLP(nn.Module):
    """Every token goes through two of `config.experts` SwiGLU experts; no token is dropped.

    The experts' matrices lie one below the other: expert e has rows e * 2I ... of gate_up_proj (gate
    rows, then up rows) and rows e * h ... of down_proj.
    """

    def __init__(self, config: ModelConfig, linear: type[nn.Linear]) -> None:
        super().__init__()
        self.experts, self.jitter = config.experts, config.router_jitter
        self.input_jitter = config.input_jitter
        self.router = linear(config.hidden_size, config.experts, bias=False)
        self.gate_up_proj = linear(
            config.hidden_size, config.experts * 2 * config.intermediate_size, bias=False
        )
        self.down_proj = linear(config.intermediate_size, config.experts * config.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """x (batch, time, hidden) -> the same shape."""
        if self.training and self.input_jitter:
            x = x * torch.empty_like(x).uniform_(1.0 - self.input_jitter, 1.0 + self.input_jitter)
        flat = x.reshape(-1, x.shape[-1])
        scores = self.router(flat)
        scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
        gates, chosen = sparse_mixer(scores, jitter=self.jitter, training=self.training)
        gate_up = self.gate_up_proj.weight.view(self.experts, -1, flat.shape[-1])
        down = self.down_proj.weight.view(self.experts, flat.shape[-1], -1)
        out = torch.zeros_like(flat)
        for expert in range(self.experts):
            token, place = (chosen == expert).nonzero(as_tuple=True)
            if not len(token) and not self.training:
                continue
            gate, up = F.linear(flat[token], gate_up[expert]).chunk(2, dim=-1)
            answer = F.linear(F.silu(gate) * up, down[expert])
            out = out.index_add(0, token, (answer * gates[token, place, None]).to(out.dtype))
        return out.view_as(x)
