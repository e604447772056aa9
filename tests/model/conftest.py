"""A tokenizer folder and models with decisive random weights, shared by the format tests."""

import argparse
import json
from pathlib import Path

import pytest
import torch

from hornbook.data.chat import ChatTemplate
from hornbook.data.tiktoken import CL100K, O200K, backend_of
from hornbook.data.tokenizer import Tokenizer
from hornbook.model.decoder import Decoder
from hornbook.model.gguf_sentencepiece import pairs


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


@pytest.fixture(scope="session")
def tokenizer_folders(tmp_path_factory):
    """A tokenizer of every kind that a GGUF file can hold, by llama.cpp's name of its cuts."""
    library = Path(argparse.__file__).parent
    texts = [(library / f"{name}.py").read_text() for name in ("argparse", "textwrap", "random", "heapq")]
    folders = {}
    for name, template in (
        ("smollm", "phi3"),
        ("gpt-2", "chatml"),
        ("dbrx", "phi4"),
        ("gpt-4o", "phi4_mini"),
    ):
        folders[name] = tmp_path_factory.mktemp(name)
        made = Tokenizer.train(texts, 500, chat_template=template)
        if name == "gpt-2":
            content = json.loads(made._backend.to_str())
            content["pre_tokenizer"] = content["pre_tokenizer"]["pretokenizers"][1]
            made._backend = type(made._backend).from_str(json.dumps(content))
        elif name != "smollm":
            first = len(made.specials)
            ranks = {made.token_bytes(n): n - first for n in range(first, 500)}
            specials = {special: len(ranks) + place for place, special in enumerate(made.specials)}
            made = Tokenizer(
                backend_of(ranks, {"dbrx": CL100K, "gpt-4o": O200K}[name], specials), made.config
            )
        made.save(folders[name])
    folders["sentencepiece"] = tmp_path_factory.mktemp("sentencepiece")
    sentencepiece(texts).save(folders["sentencepiece"])
    return folders


def sentencepiece(texts):
    """As phi-3-mini's: spaces shown, unknown bytes spelled, every join of two tokens among the merges."""
    from tokenizers import Tokenizer as Backend
    from tokenizers import models, normalizers, trainers

    backend = Backend(models.BPE())
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    backend.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=150, show_progress=False))
    learned = [token for token, _ in sorted(backend.get_vocab().items(), key=lambda item: item[1])]
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *learned]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    template = ChatTemplate("phi3")
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    names = ["<unk>", "<s>", "</s>", *template.specials]
    vocabulary |= {name: len(vocabulary) + n for n, name in enumerate(names[3:])}
    content = json.loads(backend.to_str()) | {
        "added_tokens": [{"id": vocabulary[name], "content": name, **flags} for name in names],
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
                {"type": "Strip", "content": " ", "start": 1, "stop": 0},
            ],
        },
    }
    content["model"] |= {
        "unk_token": "<unk>",
        "fuse_unk": True,
        "byte_fallback": True,
        "vocab": vocabulary,
        "merges": [pair for token in learned for pair in pairs(vocabulary, token)],
    }
    config = {"bos_token": "<s>", "eos_token": "<|endoftext|>", "unk_token": "<unk>"}
    return Tokenizer(Backend.from_str(json.dumps(content)), config | {"chat_template": template.jinja})
