"""Log-likelihoods of continuations; a prompt with several continuations is read once."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from hornbook.infer.cache import RowCache
from hornbook.infer.packed import ReadyDecoder
from hornbook.infer.scheduler import PREFILL_TOKENS, prefill_batches, read_prompts
from hornbook.lm.base import Score

_LOGIT_ROWS = 2048
"""Positions whose logits are held at once."""


def score_pairs(
    model: ReadyDecoder,
    prompts: Sequence[Sequence[int]],
    continuations: Sequence[Sequence[Sequence[int]]],
    *,
    dtype: torch.dtype,
    device: torch.device,
) -> list[list[Score]]:
    """Scores every continuation of every prompt. See `Engine.score`."""
    results: list[list[Score | None]] = [[None] * len(ends) for ends in continuations]
    whole: list[tuple[int, int]] = []
    for i, ends in enumerate(continuations):
        if len(ends) > 1 and (len(ends) - 1) * len(prompts[i]) > 64:
            for j, scored in enumerate(_score_shared(model, prompts[i], ends, dtype, device)):
                results[i][j] = scored
        else:
            whole += [(i, j) for j in range(len(ends))]
    texts = [[*prompts[i], *continuations[i][j]] for i, j in whole]
    for batch in prefill_batches(texts):
        skip = [max(len(prompts[whole[b][0]]), 1) for b in batch]
        for b, scored in zip(batch, _score_whole(model, [texts[b] for b in batch], skip, device)):
            i, j = whole[b]
            results[i][j] = scored
    return [[score for score in row if score is not None] for row in results]


def _pad(rows: Sequence[Sequence[int]], device: torch.device) -> Tensor:
    tokens = np.zeros((len(rows), max(map(len, rows), default=0)), dtype=np.int64)
    for i, row in enumerate(rows):
        tokens[i, : len(row)] = row
    return torch.from_numpy(tokens).to(device)


def _score_whole(
    model: ReadyDecoder, texts: Sequence[Sequence[int]], skip: Sequence[int], device: torch.device
) -> list[Score]:
    """Scores texts[i][skip[i]:] given what stands before, in one padded pass."""
    if not any(len(text) > 1 for text in texts):
        return [Score(0.0, 0, True) for _ in texts]
    hidden = read_hidden(model, texts, device)
    position = [(i, p) for i, text in enumerate(texts) for p in range(skip[i] - 1, len(text) - 1)]
    targets = [texts[i][p + 1] for i, p in position]
    return _gather(model, hidden, position, targets, len(texts), device)


def read_hidden(model: ReadyDecoder, texts: Sequence[Sequence[int]], device: torch.device) -> Tensor:
    """Hidden states (rows, longest, hidden) of texts padded on the right."""
    from hornbook.infer.cache import PromptCache

    ids = _pad(texts, device)
    cache = PromptCache(
        model.config,
        prompts=len(texts),
        length=ids.shape[1],
        dtype=model.dtype,
        device=device,
        rope_length=ids.shape[1],
    )
    chunks = [model(ids[:, b : b + PREFILL_TOKENS], cache) for b in range(0, ids.shape[1], PREFILL_TOKENS)]
    return torch.cat(chunks, 1)


def _score_shared(
    model: ReadyDecoder,
    prompt: Sequence[int],
    ends: Sequence[Sequence[int]],
    dtype: torch.dtype,
    device: torch.device,
) -> list[Score]:
    """Scores continuations of one prompt: the prompt in one pass, then all continuations behind it."""
    longest = max(map(len, ends))
    rope_length = len(prompt) + longest
    cache, last = read_prompts(model, [prompt], dtype=dtype, device=device, rope_length=rope_length)
    results: list[Score] = []
    most = max(1, PREFILL_TOKENS // max(longest, 1))
    for begin in range(0, len(ends), most):
        part = ends[begin : begin + most]
        rows = RowCache(
            model.config,
            rows=len(part),
            slots=max(longest, 1),
            prompts=1,
            prompt_slots=len(prompt),
            dtype=dtype,
            device=device,
            rope_length=rope_length,
        )
        rows.share_prompt(cache, 0, len(prompt), 0)
        rows.width = len(part)
        hidden = last[:, None].expand(len(part), -1, -1)
        tokens = _pad(part, device)
        if tokens.shape[1] > 1:
            hidden = torch.cat([hidden, model(tokens[:, :-1], rows)], 1)
        position = [(i, p) for i, end in enumerate(part) for p in range(len(end))]
        targets = [token for end in part for token in end]
        results += _gather(model, hidden, position, targets, len(part), device)
    return results


def _gather(
    model: ReadyDecoder,
    hidden: Tensor,
    position: Sequence[tuple[int, int]],
    targets: Sequence[int],
    rows: int,
    device: torch.device,
) -> list[Score]:
    """Sums log p(target) at hidden[row, place] for each (row, place)."""
    place = torch.tensor(position, dtype=torch.long, device=device).view(-1, 2)
    wanted = torch.tensor(targets, dtype=torch.long, device=device)
    logprobs: list[float] = []
    greedy: list[bool] = []
    for begin in range(0, len(position), _LOGIT_ROWS):
        chosen = place[begin : begin + _LOGIT_ROWS]
        logs = model.logits(hidden[chosen[:, 0], chosen[:, 1]]).log_softmax(-1)
        aim = wanted[begin : begin + _LOGIT_ROWS]
        logprobs += logs.gather(1, aim[:, None])[:, 0].tolist()
        greedy += (logs.argmax(-1) == aim).tolist()
    own: list[list[float]] = [[] for _ in range(rows)]
    likeliest = [True] * rows
    for (row, _), logprob, first in zip(position, logprobs, greedy):
        own[row].append(logprob)
        likeliest[row] &= first
    return [Score(float(sum(o)), len(o), g, tuple(o)) for o, g in zip(own, likeliest)]
