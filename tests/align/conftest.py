"""One thread, a tokenizer and a small model in memory."""

from pathlib import Path

import pytest
import torch
from small_students import TEXTS, tiny_student

from hornbook.data.tokenizer import Tokenizer
from hornbook.model.hf import save_checkpoint


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(TEXTS, 320)


@pytest.fixture
def checkpoint(tokenizer: Tokenizer, tmp_path: Path) -> Path:
    """A folder with a small untrained model and its tokenizer."""
    folder = tmp_path / "base"
    save_checkpoint(tiny_student(tokenizer), folder)
    tokenizer.save(folder)
    return folder
