"""Texts as vectors: the mean of a decoder's hidden states."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from hornbook.errors import HornbookError
from hornbook.infer.engine import Engine
from hornbook.infer.scoring import read_hidden


@torch.inference_mode()
def mean_hidden(engine: Engine, texts: Sequence[Sequence[int]]) -> Tensor:
    """Unit vectors (texts, hidden), fp32 on the CPU: hidden states after the last norm, averaged over tokens.

    A decoder was not trained for this: nearness of such vectors follows topic and wording, and a model
    trained to embed does better. Hold `engine.lock` where the engine is used by others.

    Raises:
        HornbookError: a text without a token, longer than the context, or of another vocabulary.
    """
    for i, text in enumerate(texts):
        if not text:
            raise HornbookError(f"Text {i} has no token; there is nothing to embed.")
        if len(text) > engine.config.max_position:
            raise HornbookError(
                f"Text {i} has {len(text)} tokens; the model's context holds {engine.config.max_position}."
            )
        if not (min(text) >= 0 and max(text) < engine.config.vocab_size):
            raise HornbookError(
                f"Text {i} holds token ids outside the model's vocabulary, "
                f"0 to {engine.config.vocab_size - 1}."
            )
    hidden = read_hidden(engine.model, texts, engine.device).float()
    lengths = torch.tensor([len(text) for text in texts], device=engine.device)
    real = torch.arange(hidden.shape[1], device=engine.device) < lengths[:, None]
    mean = (hidden * real[..., None]).sum(1) / lengths[:, None]
    return F.normalize(mean, dim=-1).cpu()
