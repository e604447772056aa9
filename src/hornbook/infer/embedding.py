"""Texts as vectors: the mean of a decoder's hidden states."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from hornbook.errors import HornbookError
from hornbook.infer.engine import Engine


@torch.inference_mode()
def mean_hidden(engine: Engine, texts: Sequence[Sequence[int]]) -> Tensor:
    """Unit vectors (texts, hidden), fp32 on the CPU: hidden states after the last norm, averaged over tokens.

    A decoder was not trained for this: nearness of such vectors follows topic and wording, and a model
    trained to embed does better.

    Raises:
        HornbookError: a text without a token, longer than the context, or of another vocabulary.
    """
    for i, text in enumerate(texts):
        if not text:
            raise HornbookError(f"Text {i} has no token; there is nothing to embed.")
    means = [states.mean(0).cpu() for states in engine.hidden(texts)]
    return F.normalize(torch.stack(means), dim=-1) if means else torch.empty(0, engine.config.hidden_size)
