"""Small students, conversations and steps without a run; nothing is downloaded."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from hornbook.data.corpus import CorpusWriter
from hornbook.data.tokenizer import Tokenizer
from hornbook.lab.step import StepContext
from hornbook.model.config import ModelConfig
from hornbook.model.decoder import Decoder

TEXTS = [
    "Once upon a time a small cat named Tom found a red ball in the garden.",
    "def solution():\n    apples = 12\n    pears = 30\n    return apples + pears\n",
    "How many apples are there? The answer is 42. I cannot help with that.",
]


def tiny_student(tokenizer: Tokenizer, seed: int = 1, **changes: Any) -> Decoder:
    """Hidden 32, two layers, random weights larger than usual so that outputs differ."""
    config = ModelConfig(
        vocab_size=tokenizer.vocab_size,
        hidden_size=32,
        layers=2,
        heads=2,
        kv_heads=1,
        intermediate_size=64,
        tied_embeddings=True,
        max_position=256,
        bos_id=0,
        eos_ids=(0,),
        pad_id=0,
        init_std=0.1,
    )
    torch.manual_seed(seed)
    return Decoder(replace(config, **changes))


def chat(*turns: str, system: str = "") -> list[dict[str, str]]:
    """User and assistant in turn."""
    first = [{"role": "system", "content": system}] if system else []
    roles = ("user", "assistant")
    return first + [{"role": roles[i % 2], "content": text} for i, text in enumerate(turns)]


def conversations(folder: Path, talks: Sequence[Sequence[Mapping[str, str]]]) -> Path:
    """A corpus of conversations."""
    rows = [
        {"id": str(i), "messages": list(talk), "source": "test", "meta": "{}"} for i, talk in enumerate(talks)
    ]
    with CorpusWriter(folder, "conversations", lineage={}) as writer:
        writer.write_rows(rows)
    return folder


def context(folder: Path, name: str = "test") -> StepContext:
    """What a step is given, without a run around it."""
    folder.mkdir(parents=True, exist_ok=True)
    return StepContext(folder=folder, name=name, key="0" * 64, resuming=False, run_metrics=None, quiet=True)
