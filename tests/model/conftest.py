"""A tokenizer folder and models with decisive random weights, shared by the format tests."""

import argparse
from pathlib import Path

import pytest
import torch

from hornbook.data.tokenizer import Tokenizer
from hornbook.model.decoder import Decoder


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    library = Path(argparse.__file__).parent
    texts = [(library / f"{name}.py").read_text() for name in ("argparse", "textwrap", "random", "heapq")]
    Tokenizer.train(texts, 500, folder)
    return folder


@pytest.fixture(scope="session")
def decisive():
    """decisive(config): a decoder whose greedy choices have clear margins and whose norms are not 1."""

    def make(config, seed=0):
        torch.manual_seed(seed)
        decoder = Decoder(config).eval()
        with torch.no_grad():
            for parameter in decoder.parameters():
                if parameter.dim() == 2:
                    parameter.mul_(5)
                else:
                    parameter.add_(0.1 * torch.randn_like(parameter))
        return decoder

    return make
