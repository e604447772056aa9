"""Scores with shared headers against each text read by itself."""

import random

import pytest
import torch

from hornbook.infer.engine import Engine
from hornbook.model.decoder import Decoder
from hornbook.model.presets import student


@pytest.fixture(scope="module")
def engine() -> Engine:
    torch.manual_seed(0)
    return Engine(Decoder(student(hidden_size=32, layers=2, heads=2, vocab_size=97)), weights="fp32")


def few_shot(draw: random.Random) -> tuple[list[list[int]], list[list[list[int]]]]:
    """Questions behind two headers or none; answers are letters or sentences."""

    def tokens(count: int) -> list[int]:
        return [draw.randrange(97) for _ in range(count)]

    headers = [tokens(80), tokens(120), []]
    prompts, ends = [], []
    for n in range(17):
        prompts.append([*headers[n % 3], *tokens(draw.randrange(1, 30))])
        ends.append([tokens(draw.choice([1, 3, 5])) for _ in range(draw.choice([1, 4]))])
    return prompts, ends


@pytest.mark.parametrize("seed", range(4))
def test_shared_headers_change_no_score(engine: Engine, seed: int) -> None:
    prompts, ends = few_shot(random.Random(seed))
    together = engine.score(prompts, ends)
    for prompt, own, scores in zip(prompts, ends, together):
        for end, score in zip(own, scores):
            [[alone]] = engine.score([prompt], [[end]])
            assert score.tokens == len(end)
            assert score.token_logprobs == pytest.approx(alone.token_logprobs, abs=1e-4)
            assert score.greedy == alone.greedy
