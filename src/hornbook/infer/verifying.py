"""Scoring whole answers with a verifier: the log-odds, after the last token, that the answer is right."""

from collections.abc import Sequence

import torch

from hornbook.train.objectives import TokenVerifier

TOKENS_AT_ONCE = 32_768


@torch.inference_mode()
def score_answers(
    verifier: TokenVerifier, questions: Sequence[Sequence[int]], answers: Sequence[Sequence[int]]
) -> list[float]:
    """Log-odds at the last token of each answer, fp32.

    Answers go through in batches of similar length, padded at the end: attention is causal, so padding
    changes nothing before it. questions, answers: token ids; none empty.
    """
    texts = [[*question, *answer] for question, answer in zip(questions, answers, strict=True)]
    order = sorted(range(len(texts)), key=lambda number: len(texts[number]))
    device = next(verifier.parameters()).device
    scores = [0.0] * len(texts)
    at = 0
    while at < len(order):
        size = 1
        while at + size < len(order) and (size + 1) * len(texts[order[at + size]]) <= TOKENS_AT_ONCE:
            size += 1
        part = order[at : at + size]
        longest = len(texts[part[-1]])
        tokens = torch.zeros(len(part), longest, dtype=torch.int64)
        for row, number in enumerate(part):
            tokens[row, : len(texts[number])] = torch.tensor(texts[number])
        last = torch.tensor([len(texts[number]) - 1 for number in part], device=device)
        hidden = verifier(tokens.to(device))
        ends = hidden[torch.arange(len(part), device=device), last]
        for number, score in zip(part, verifier.score(ends).tolist(), strict=True):
            scores[number] = score
        at += size
    return scores
