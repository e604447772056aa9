"""Bits per byte on fixed batches: a loss that does not depend on the tokenizer."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hornbook.train.batches import to_tensors
from hornbook.train.loss import IGNORE, head_of, token_log_probabilities
from hornbook.train.objectives import hidden_states


@dataclass(frozen=True)
class Validation:
    """What is evaluated on: fixed batches per domain (a list, or a `SequentialLoader`).

    token_bytes: (vocabulary,) how many bytes of text each token stands for. Tokens of 0 bytes (specials)
    count neither as loss nor as text.
    """

    domains: Mapping[str, Iterable[Any]]
    token_bytes: NDArray[np.int64]


@torch.no_grad()
def bits_per_byte(
    model: nn.Module,
    validation: Validation,
    *,
    dtype: torch.dtype = torch.float32,
    micro_rows: int | None = None,
) -> dict[str, float]:
    """sum -log2 p(token) / sum bytes, for each domain and, as "all", over all of them together.

    The model is put into evaluation mode for this call.
    """
    from hornbook.train.precision import autocast

    device = next(model.parameters()).device
    size = torch.from_numpy(np.asarray(validation.token_bytes)).to(device)
    was_training = model.training
    model.eval()
    sums: dict[str, tuple[float, float]] = {}
    try:
        for name, batches in validation.domains.items():
            nats = total = 0.0
            for batch in batches:
                for piece in to_tensors(batch, device).split(micro_rows):
                    with autocast(device, dtype):
                        log_p = token_log_probabilities(
                            hidden_states(model, piece), head_of(model), piece.targets
                        )
                    counted = _bytes(piece.targets, size)
                    nats -= float((log_p.double() * (counted > 0)).sum())
                    total += float(counted.sum())
            sums[name] = (nats, total)
    finally:
        model.train(was_training)
    result = {name: nats / math.log(2) / max(total, 1.0) for name, (nats, total) in sums.items()}
    nats, total = (sum(pair[i] for pair in sums.values()) for i in (0, 1))
    return {**result, "all": nats / math.log(2) / max(total, 1.0)}


def _bytes(targets: Tensor, size: Tensor) -> Tensor:
    return torch.where(targets == IGNORE, 0, size[targets.clamp(min=0)])
