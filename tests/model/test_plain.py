"""A folder of our own holds any decoder whole, and says what is wrong with a damaged one."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from hornbook.errors import HornbookError
from hornbook.model.config import ModelConfig, Multipliers
from hornbook.model.decoder import Decoder
from hornbook.model.plain import load_plain, save_plain


def make(**changes):
    shape = {"vocab_size": 19, "hidden_size": 16, "layers": 2, "heads": 2, "intermediate_size": 32}
    torch.manual_seed(0)
    return Decoder(ModelConfig(**{**shape, "max_position": 24, **changes})).eval()


@pytest.mark.parametrize(
    "changes",
    [
        {"positions": "learned"},
        {"positions": "none", "tied_embeddings": True, "head_bias": True},
        {"positions": "tags", "tag_size": 5},
        {"multipliers": Multipliers(residual=0.5), "eos_ids": (3, 4)},
    ],
)
def test_what_is_read_is_what_was_written(changes, tmp_path):
    model, tokens = make(**changes), torch.randint(19, (2, 9))
    save_plain(model, tmp_path)
    again = load_plain(tmp_path)
    assert again.config == model.config
    assert not again.training
    tags = {"tags": torch.randn(2, 9, 5)} if model.config.tag_size else {}
    assert torch.equal(again(tokens, **tags), model(tokens, **tags))
    assert load_file(tmp_path / "model.safetensors").keys() == dict(model.named_parameters()).keys()


def test_damage_is_named(tmp_path):
    save_plain(make(), tmp_path)
    config = json.loads((tmp_path / "hornbook.json").read_text())
    (tmp_path / "hornbook.json").write_text(json.dumps(config | {"layers": 3}))
    with pytest.raises(HornbookError, match=r"do not fit together in layers\.2"):
        load_plain(tmp_path)
    (tmp_path / "hornbook.json").write_text("{")
    with pytest.raises(HornbookError, match=r"hornbook\.json is damaged"):
        load_plain(tmp_path)
    (tmp_path / "hornbook.json").unlink()
    with pytest.raises(HornbookError, match=r"holds no hornbook\.json"):
        load_plain(tmp_path)


def test_numbers_that_are_not_finite_are_refused(tmp_path):
    save_plain(make(), tmp_path)
    path = tmp_path / "model.safetensors"
    tensors = load_file(path)
    tensors["norm.weight"][0] = float("nan")
    save_file(tensors, path)
    with pytest.raises(HornbookError, match=r"NaN or infinity in norm\.weight"):
        load_plain(tmp_path)
