"""Greedy answers to very many short prompts at once, for models of any positions.

`Engine` serves mixed requests that come and go; an examination is one rectangle: all prompts are read in one
pass, then every row takes a step together, and rows that have ended are dropped from the cache.
"""

import torch
from torch import Tensor

from hornbook.errors import HornbookError
from hornbook.model.cache import KeyValueCache
from hornbook.model.decoder import Decoder

_SHRINK = 0.75  # rows are dropped once fewer than this share of the batch is unfinished


@torch.inference_mode()
def greedy(
    model: Decoder, prompts: Tensor, padding: Tensor, *, steps: int, stop: int | None = None
) -> Tensor:
    """The likeliest next token, `steps` times, behind every prompt.

    Args:
        prompts: (n, time) token ids, aligned on the right.
        padding: (n,) how many tokens on the left of each row are padding; below time.
        stop: token that ends a row; the rest of the row is filled with it.

    Returns:
        (n, steps) token ids.

    Raises:
        HornbookError: prompt and answer are longer than the model's positions; scores that are not finite.
    """
    rows, time = prompts.shape
    device, dtype = prompts.device, model.embed_tokens.weight.dtype
    out = torch.full((rows, steps), 0 if stop is None else stop, dtype=torch.long, device=device)
    if not rows or not steps:
        return out
    longest = time - int(padding.min()) + steps
    if model.config.positions == "learned" and longest > model.config.max_position + 1:
        raise HornbookError(
            f"Prompt and answer of up to {longest} tokens do not fit a model with "
            f"{model.config.max_position} learned positions. Raise max_position and train it anew."
        )
    cache = KeyValueCache(
        model.config,
        batch=rows,
        length=time + steps,
        padding=padding if bool(padding.any()) else None,
        dtype=dtype,
        device=device,
    )
    live = torch.arange(rows, device=device)  # the row of `out` that each row of the cache answers
    ended = torch.zeros(rows, dtype=torch.bool, device=device)
    tokens = prompts
    for step in range(steps):
        logits = model.logits(model(tokens, cache=cache)[:, -1])
        if step == 0 and not bool(logits.isfinite().all()):
            raise HornbookError("The model's scores are not finite, so it has no greedy answer.")
        chosen = logits.argmax(-1)
        if stop is None:
            out[:, step] = chosen
        else:
            chosen = torch.where(ended, stop, chosen)
            out[live, step] = chosen
            going = chosen != stop
            ended = ~going
            left = int(going.sum())
            if left == 0:
                break
            if left < _SHRINK * len(live):
                kept = going.nonzero()[:, 0]
                cache, live, chosen, ended = cache.rows(kept), live[kept], chosen[kept], ended[kept]
        tokens = chosen[:, None]
    return out
