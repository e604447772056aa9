"""Objectives: what a model is trained for, each a function of model and batch.

An objective returns sums, not means. The trainer adds them over micro-batches, accumulation and ranks and
divides once by the number of trained units, so that cutting a batch differently changes nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hornbook.errors import HornbookError
from hornbook.train.batches import TensorBatch
from hornbook.train.loss import IGNORE, cross_entropy_sum, head_of, token_log_probabilities


@dataclass(frozen=True)
class Loss:
    """sum: differentiable scalar, the loss summed over units; tokens: how many units (trained tokens; pairs
    for preferences); parts: further sums over the same units, reported as means."""

    sum: Tensor
    tokens: Tensor
    parts: Mapping[str, Tensor] = field(default_factory=dict)


class Objective(Protocol):
    """Anything that turns a model and a batch into a `Loss`."""

    def __call__(self, model: nn.Module, batch: TensorBatch, /) -> Loss: ...


def hidden_states(model: nn.Module, batch: TensorBatch) -> Tensor:
    """Hidden states (rows, time, hidden) of `batch.inputs`, documents isolated where the batch has them."""
    hidden: Tensor = model(
        batch.inputs, position=getattr(batch, "position", None), document=getattr(batch, "document", None)
    )
    return hidden


def next_token(model: nn.Module, batch: TensorBatch) -> Loss:
    """Cross-entropy of the next token at every target that is not -100 (chat: assistant tokens only)."""
    total, count = cross_entropy_sum(hidden_states(model, batch), head_of(model), batch.targets)
    return Loss(total, count)


PreferenceKind = Literal["sigmoid", "ipo", "length_normalised"]


@dataclass(frozen=True, kw_only=True)
class Preference:
    """Direct preference optimization on batches of `hornbook.train.preference`.

    With r = log p(response) - log p_reference(response) and h = r(chosen) - r(rejected):

    - "sigmoid": -log sigmoid(beta h), with label smoothing epsilon (1 - e)(...) + e(-log sigmoid(-beta h));
      Rafailov et al. 2023, equation 7.
    - "ipo": (h - 1 / (2 beta))^2 with r averaged over the tokens of its response; Azar et al. 2024, eq. 17.
    - "length_normalised": the sigmoid loss on r averaged over tokens (so beta wants to be larger, about 2).

    `supervised` adds that many times the mean next-token loss of the chosen responses.
    """

    beta: float = 0.1
    kind: PreferenceKind = "sigmoid"
    label_smoothing: float = 0.0
    supervised: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in ("sigmoid", "ipo", "length_normalised"):
            raise HornbookError(
                f"preference kind is {self.kind!r}; accepted are 'sigmoid', 'ipo' and 'length_normalised'."
            )
        if self.beta <= 0:
            raise HornbookError(f"beta is {self.beta}; it must be above 0.")
        if not 0 <= self.label_smoothing < 0.5:
            raise HornbookError(
                f"label_smoothing is {self.label_smoothing}; it must be at least 0, below 0.5."
            )

    def __call__(self, model: nn.Module, batch: TensorBatch) -> Loss:
        """Sums over pairs; `tokens` is the number of pairs. Parts: accuracy, margin, rewards."""
        per_token = token_log_probabilities(hidden_states(model, batch), head_of(model), batch.targets)
        policy, length = response_sums(per_token, batch)
        reference, real = batch.reference, batch.reference.isfinite().all(-1)
        if self.kind != "sigmoid":
            policy, reference = policy / length, reference / length
        ratio = torch.where(real[..., None], policy - torch.nan_to_num(reference), 0.0)
        h = ratio[..., 0] - ratio[..., 1]
        if self.kind == "ipo":
            losses = (h - 1 / (2 * self.beta)).square()
        else:
            losses = -(1 - self.label_smoothing) * F.logsigmoid(self.beta * h)
            losses = losses - self.label_smoothing * F.logsigmoid(-self.beta * h)
        if self.supervised:
            losses = (
                losses - self.supervised * (policy / length if self.kind == "sigmoid" else policy)[..., 0]
            )
        rewards = self.beta * ratio.detach()
        parts = {
            "accuracy": ((h > 0) & real).sum(),
            "margin": (rewards[..., 0] - rewards[..., 1]).sum(),
            "chosen_reward": rewards[..., 0].sum(),
            "rejected_reward": rewards[..., 1].sum(),
        }
        return Loss(torch.where(real, losses, 0.0).sum(), real.sum(), parts)


def response_sums(per_token: Tensor, batch: TensorBatch) -> tuple[Tensor, Tensor]:
    """Per-token values summed over each response, and the response lengths (at least 1): (rows, pairs, 2).

    In a preference batch document 2p of a row is the chosen and 2p + 1 the rejected text of its pair p.
    """
    rows, slots = batch.reference.shape[0], 2 * batch.reference.shape[1]
    # Padding is the last document of its row and may number more than the slots; its values are 0 anyway.
    place = batch.document.clamp(max=slots)
    empty = per_token.new_zeros(rows, slots + 1)
    sums = empty.scatter_add(1, place, per_token)[:, :slots]
    lengths = empty.scatter_add(1, place, (batch.targets != IGNORE).to(per_token.dtype))[:, :slots]
    return sums.view(rows, -1, 2), lengths.clamp(min=1).view(rows, -1, 2)


class TokenVerifier(nn.Module):
    """A decoder with one more output: at every position the log-odds that the whole answer will be right.

    Liu et al. 2023 (TinyGSM), section 4: the verifier shares the generator's shape and is trained on all
    positions of generated answers. `decoder` stays loadable and savable as an ordinary checkpoint.
    """

    def __init__(self, decoder: nn.Module) -> None:
        super().__init__()
        self.decoder = decoder
        config: Any = decoder.config
        self.head = nn.Linear(config.hidden_size, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, tokens: Tensor, **kwargs: Any) -> Tensor:
        """Hidden states of the decoder, (batch, time, hidden)."""
        hidden: Tensor = self.decoder(tokens, **kwargs)
        return hidden

    def score(self, hidden: Tensor) -> Tensor:
        """Log-odds in fp32: (..., hidden) -> (...)."""
        with torch.autocast(hidden.device.type, enabled=False):
            odds: Tensor = F.linear(hidden.float(), self.head.weight.float(), self.head.bias.float())
            return odds[..., 0]


def token_verifier(model: nn.Module, batch: TensorBatch) -> Loss:
    """Binary cross-entropy of `TokenVerifier.score` against `batch.labels` (rows, time): 1 right, 0 wrong,
    -100 no loss (the question, padding)."""
    verifier: Any = model
    score: Tensor = verifier.score(hidden_states(model, batch))
    trained = batch.labels != IGNORE
    losses = F.binary_cross_entropy_with_logits(score, (batch.labels == 1).float(), reduction="none")
    right = ((score > 0) == (batch.labels == 1)) & trained
    return Loss((losses * trained).sum(), trained.sum(), {"accuracy": right.sum()})


def soft_labels(model: nn.Module, batch: TensorBatch) -> Loss:
    """KL(given || model) of next-token distributions, summed over positions.

    batch.label_ids: (rows, time, k) token ids; batch.label_probabilities: (rows, time, k), non-negative, at
    most 1 in sum. What is missing to 1 is compared as one event "any other token" (exact when k is the
    vocabulary).
    Positions whose probabilities are all 0 carry no loss.
    """
    hidden, head = hidden_states(model, batch), head_of(model)
    given = batch.label_probabilities.float()
    flat = given.sum(-1).reshape(-1).nonzero().squeeze(1)
    given = given.reshape(-1, given.shape[-1])[flat]
    ids = batch.label_ids.reshape(-1, batch.label_ids.shape[-1])[flat]
    states = hidden.reshape(-1, hidden.shape[-1])[flat]
    total = states.new_zeros((), dtype=torch.float32)
    size = max(64, (1 << 22) // len(head.weight))
    for first in range(0, len(flat), size):
        part = slice(first, first + size)
        if torch.is_grad_enabled():
            piece = torch.utils.checkpoint.checkpoint(
                _soft_chunk, states[part], *head, ids[part], given[part], use_reentrant=False
            )
        else:
            piece = _soft_chunk(states[part], *head, ids[part], given[part])
        total = total + piece
    return Loss(total, torch.tensor(len(flat), device=hidden.device))


def _soft_chunk(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, scale: float, ids: Tensor, given: Tensor
) -> Tensor:
    log_q = torch.log_softmax(F.linear(hidden, weight, bias).float() * scale, dim=-1).gather(1, ids)
    cross = torch.special.xlogy(given, given).sum() - (given * log_q).sum()
    rest = (1 - given.sum(-1)).clamp(min=0)
    other = (1 - log_q.exp().sum(-1)).clamp(min=1e-12)
    tail = torch.where(rest > 1e-6, torch.special.xlogy(rest, rest) - rest * other.log(), 0.0)
    divergence: Tensor = cross + tail.sum()
    return divergence
