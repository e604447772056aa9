"""Texts as vectors: the mean of a decoder's hidden states."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from hornbook.errors import HornbookError
from hornbook.infer.cache import PromptCache
from hornbook.infer.engine import Engine
from hornbook.infer.scheduler import PREFILL_TOKENS


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
    means = torch.empty(len(texts), engine.config.hidden_size)
    rope = engine.config.long_rope
    edge = engine.config.max_position if rope is None else rope.original_max_position
    for long in (False, True):  # LongRoPE: no vector may hang on the length of its neighbours
        chosen = [i for i, text in enumerate(texts) if (len(text) > edge) == long]
        if chosen:
            means[chosen] = _means(engine, [texts[i] for i in chosen]).cpu()
    return F.normalize(means, dim=-1)


def _means(engine: Engine, texts: Sequence[Sequence[int]]) -> Tensor:
    """Means (texts, hidden) over the tokens of texts padded on the right."""
    lengths = torch.tensor([len(text) for text in texts], device=engine.device)
    longest = int(lengths.max())
    ids = torch.zeros(len(texts), longest, dtype=torch.long)
    for row, text in zip(ids, texts):
        row[: len(text)] = torch.as_tensor(text)
    ids = ids.to(engine.device)
    cache = PromptCache(
        engine.config,
        prompts=len(texts),
        length=longest,
        dtype=engine.model.dtype,
        device=engine.device,
        rope_length=longest,
    )
    total = torch.zeros(len(texts), engine.config.hidden_size, device=engine.device)
    for begin in range(0, longest, PREFILL_TOKENS):
        hidden = engine.model(ids[:, begin : begin + PREFILL_TOKENS], cache).float()
        real = begin + torch.arange(hidden.shape[1], device=engine.device) < lengths[:, None]
        total += (hidden * real[..., None]).sum(1)
    return total / lengths[:, None]
