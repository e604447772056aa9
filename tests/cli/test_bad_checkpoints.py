"""Checkpoints that cannot be: each fault is one sentence on the terminal, with a way on, and no traceback."""

import json

import pytest
import torch
from command_line import call
from safetensors.torch import load_file, save_file

from hornbook.data.tokenizer import Tokenizer
from hornbook.model.decoder import Decoder
from hornbook.model.gguf import save_gguf
from hornbook.model.hf import save_checkpoint
from hornbook.model.presets import student


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    folder = tmp_path_factory.mktemp("good")
    tokenizer = Tokenizer.train(["A hornbook holds a page behind horn. "] * 20, 300, folder)
    torch.manual_seed(0)
    save_checkpoint(Decoder(student(hidden_size=64, layers=1, vocab_size=tokenizer.vocab_size)), folder)
    return folder


@pytest.fixture
def folder(good, tmp_path):
    for path in good.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


def edit(folder, change):
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


def configure(folder, **changes):
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(values | changes))


def refused(folder, *words):
    """The command says one sentence with all `words`, in order, writes nothing, and ends with 1."""
    out = folder.parent / f"{folder.name}-out"
    for command in (("import", folder), ("export", folder)):
        code, _, said = call(*command, "--out", out)
        assert code == 1, said
        line = said.strip().splitlines()[-1]
        assert line.startswith("hornbook: ")
        assert "Traceback" not in said
        place = 0
        for word in words:
            assert word in line[place:], line
            place = line.index(word, place)
    assert not out.exists()


def test_missing_extra_and_misshapen_tensors_are_listed_at_once(folder):
    def spoil(tensors):
        del tensors["model.norm.weight"]
        tensors["model.layers.7.mlp.down_proj.weight"] = torch.zeros(2, 2)
        tensors["model.layers.0.self_attn.o_proj.weight"] = torch.zeros(3, 64)

    edit(folder, spoil)
    refused(
        folder,
        "contradict its config",
        "1 missing: model.norm.weight",
        "1 not part of the model: model.layers.7.mlp.down_proj.weight",
        "1 misshapen: model.layers.0.self_attn.o_proj.weight is (3, 64), the config asks for (64, 64)",
    )


def test_an_unknown_architecture_lists_the_known_ones(folder):
    configure(folder, model_type="mamba")
    refused(folder, "model_type = 'mamba'", "does not know", "phi, phi3, llama, phimoe, phi3small, phi3_v")


def test_a_config_that_contradicts_its_weights(folder):
    configure(folder, intermediate_size=96)
    refused(
        folder, "contradict its config", "mlp.gate_up_proj.weight is (512, 64), the config asks for (192, 64)"
    )


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_numbers_that_are_none_are_named_by_tensor(folder, number):
    edit(folder, lambda tensors: tensors["model.layers.0.mlp.down_proj.weight"][3].fill_(number))
    refused(folder, "NaN or infinite numbers", "model.layers.0.mlp.down_proj.weight", "take an earlier one")


def test_weights_that_were_cut_short(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    refused(folder, "model.safetensors is truncated")


@pytest.mark.parametrize("keep", [0.9, 0.5, 0.01])
def test_a_gguf_that_was_cut_short(good, tmp_path, keep):
    path = tmp_path / "a.gguf"
    model = Decoder(student(hidden_size=64, layers=1, vocab_size=Tokenizer.load(good).vocab_size))
    save_gguf(model, good, path, "F32")
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])
    refused(path, "a.gguf is truncated")


def test_a_tokenizer_of_another_model(folder):
    content = json.loads((folder / "tokenizer.json").read_text())
    content["model"]["vocab"]["zz"] = 4000
    (folder / "tokenizer.json").write_text(json.dumps(content))
    code, _, said = call("import", folder, "--out", folder.parent / "x")
    assert code == 1
    assert "has 4,001 ids and the model only" in said
    assert "do not belong together" in said
