import pytest
import torch
from hornbook.model.config import ModelConfig
from hornbook.model.decoder import Decoder


def small(**changes: object) -> Decoder:
    """A random decoder whose logits are spread enough for greedy choices to be clear."""
    settings: dict[str, object] = {
        "vocab_size": 300,
        "hidden_size": 64,
        "layers": 3,
        "heads": 4,
        "kv_heads": 2,
        "intermediate_size": 96,
        "tied_embeddings": True,
        "max_position": 256,
        "init_std": 0.15,
    }
    settings.update(changes)
    torch.manual_seed(7)
    return Decoder(ModelConfig(**settings)).eval()  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def model() -> Decoder:
    return small()
