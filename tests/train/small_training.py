"""Small models and data that live in memory; nothing is downloaded."""

from dataclasses import dataclass

import numpy as np

from hornbook.data.packing import Batch
from hornbook.model.config import ModelConfig


@dataclass
class CyclingLoader:
    """Each document counts upwards modulo the vocabulary from a random start: a rule a model can learn."""

    rows: int = 4
    time: int = 32
    vocabulary: int = 32
    seed: int = 0
    rank: int = 0
    world: int = 1
    masked: float = 0.0

    @property
    def fingerprint(self) -> str:
        return f"cycling {self.rows} {self.time} {self.vocabulary} {self.seed} {self.masked}"

    def batch(self, step: int) -> Batch:
        random = np.random.default_rng([self.seed, step])
        shape = (self.rows, self.time)
        lengths = random.integers(3, self.time // 2, (self.rows, self.time))
        document, position = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        for row in range(self.rows):
            ends = np.cumsum(lengths[row])
            document[row] = np.searchsorted(ends, np.arange(self.time), side="right")
            starts = np.concatenate([[0], ends])
            position[row] = np.arange(self.time) - starts[document[row]]
        first = random.integers(0, self.vocabulary, shape)
        inputs = (np.take_along_axis(first, document, 1) + position) % self.vocabulary
        targets = (inputs + 1) % self.vocabulary
        targets[random.random(shape) < self.masked] = -100
        share = self.rows // self.world
        mine = slice(self.rank * share, (self.rank + 1) * share)
        return Batch(inputs[mine], targets[mine], document[mine], position[mine])


def tiny_config(**changes: object) -> ModelConfig:
    values = {
        "vocab_size": 32,
        "hidden_size": 32,
        "layers": 2,
        "heads": 2,
        "intermediate_size": 64,
        "tied_embeddings": True,
        "max_position": 128,
    }
    return ModelConfig(**{**values, **changes})  # type: ignore[arg-type]
