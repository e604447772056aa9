"""Small models on one thread."""

import pytest
import torch
from small_training import tiny_config

from hornbook.model.decoder import Decoder


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def decoder() -> Decoder:
    torch.manual_seed(1)
    return Decoder(tiny_config())
