"""A small random decoder and a byte tokenizer, shared by the tests of the engine."""

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hornbook.model.config import ModelConfig
from hornbook.model.decoder import Decoder


def small(**changes: Any) -> Decoder:
    """A random decoder whose logits are spread enough for greedy choices to be clear.

    NumPy draws the matrices: torch's generator gives other numbers on other processors.
    """
    settings: dict[str, Any] = {
        "vocab_size": 300,
        "hidden_size": 64,
        "layers": 3,
        "heads": 4,
        "kv_heads": 2,
        "intermediate_size": 96,
        "tied_embeddings": True,
        "max_position": 256,
    }
    settings.update(changes)
    model = Decoder(ModelConfig(**settings)).eval()
    draw = np.random.default_rng(7)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                values = draw.standard_normal(parameter.shape, dtype=np.float32)
                parameter.copy_(torch.from_numpy(values * 0.15))
    return model


def ragged(count: int, low: int = 3, high: int = 40, seed: int = 0) -> list[list[int]]:
    """Prompts of unequal length."""
    draw = random.Random(seed)
    return [[draw.randrange(300) for _ in range(draw.randrange(low, high))] for _ in range(count)]


@torch.no_grad()
def full_logits(model: Decoder, ids: Sequence[int]) -> Tensor:
    """Logits of every position by one pass of the whole sequence, no cache."""
    return model.logits(model(torch.tensor([list(ids)])))[0]


def naive_greedy(model: Decoder, prompt: Sequence[int], count: int) -> list[int]:
    """Greedy answer by running the whole sequence anew for every token."""
    ids = list(prompt)
    for _ in range(count):
        ids.append(int(full_logits(model, ids)[-1].argmax()))
    return ids[len(prompt) :]


class ByteTokenizer:
    """Ids 0 to 255 are bytes, 256 to 299 are fixed pairs of bytes, among them halves of characters."""

    vocab_size = 300
    pairs = tuple(bytes([0xC3, 0xA9 - i % 3]) if i % 2 else bytes([97 + i % 26, 0xE2]) for i in range(44))

    def token_bytes(self, index: int) -> bytes:
        return bytes([index]) if index < 256 else self.pairs[index - 256]

    def encode(self, text: str) -> list[int]:
        return list(text.encode())

    def decode(self, ids: Sequence[int]) -> str:
        return b"".join(map(self.token_bytes, ids)).decode("utf-8", errors="replace")
