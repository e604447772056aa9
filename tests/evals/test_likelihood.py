import math
from pathlib import Path

import numpy as np
import pytest
import torch

from hornbook.data.chat import ChatTemplate
from hornbook.data.tokenizer import Tokenizer
from hornbook.data.tokens import TokenFile, TokenWriter
from hornbook.errors import HornbookError
from hornbook.evals.likelihood import (
    bits_per_byte,
    document_bits,
    mean_paired_loss,
    paired_loss,
    summarize,
)
from hornbook.infer.engine import Engine
from hornbook.model.config import ModelConfig
from hornbook.model.decoder import Decoder

TEXTS = ["The fox saw a ball. " * 3, "Ärger über Öl.", "a", "It ran home " * 40]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(TEXTS * 20, 300)


@pytest.fixture(scope="module")
def model(tokenizer: Tokenizer) -> Decoder:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    shape = {"hidden_size": 64, "layers": 2, "heads": 2, "intermediate_size": 96, "init_std": 0.1}
    return Decoder(ModelConfig(vocab_size=tokenizer.vocab_size, max_position=512, **shape)).eval()  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def engine(model: Decoder, tokenizer: Tokenizer) -> Engine:
    return Engine(model, tokenizer, weights="fp32")


@torch.no_grad()
def slow_bits(model: Decoder, tokenizer: Tokenizer, text: str) -> float:
    """Bits of one text by one full pass."""
    ids = [tokenizer.end_of_text, *tokenizer.encode(text)]
    logs = model.logits(model(torch.tensor([ids])))[0].double().log_softmax(-1)
    return -sum(float(logs[i, ids[i + 1]]) for i in range(len(ids) - 1)) / math.log(2)


def test_equals_a_full_pass_over_exact_bytes(engine: Engine, model: Decoder, tokenizer: Tokenizer) -> None:
    found = bits_per_byte(engine, tokenizer, {"all texts": TEXTS, "second": TEXTS[1:2]})
    expected = [slow_bits(model, tokenizer, text) for text in TEXTS]
    size = sum(len(text.encode()) for text in TEXTS)
    assert found["all texts"].bits == pytest.approx(sum(expected), rel=1e-5)
    assert found["all texts"].value == pytest.approx(sum(expected) / size, rel=1e-5)
    assert found["second"].bytes == 17
    assert found["all"].documents == 5
    assert found["all texts"].low <= found["all texts"].value <= found["all texts"].high


def test_windows_predict_every_token_once(engine: Engine, model: Decoder, tokenizer: Tokenizer) -> None:
    """With windows of w tokens, each token past the first window has at least w / 2 - 1 tokens before it."""
    ids = [tokenizer.end_of_text, *tokenizer.encode(TEXTS[3])]
    found = bits_per_byte(engine, tokenizer, {"long": [TEXTS[3]]}, window=16)["long"]
    bits, at = 0.0, 0
    with torch.no_grad():
        while at < len(ids) - 1:
            fresh = 15 if at == 0 else 8
            end = min(at + fresh, len(ids) - 1)
            begin = 0 if at == 0 else max(1, end + 1 - 16)
            logs = model.logits(model(torch.tensor([ids[begin : end + 1]])))[0].log_softmax(-1)
            bits -= sum(float(logs[i - begin, ids[i + 1]]) for i in range(at, end)) / math.log(2)
            at = end
    assert found.bits == pytest.approx(bits, rel=1e-4)


def test_token_files_count_as_their_texts(engine: Engine, tokenizer: Tokenizer, tmp_path: Path) -> None:
    with TokenWriter(tmp_path / "tokens", tokenizer.vocab_size, with_mask=False) as writer:
        for text in TEXTS:
            writer.write([*tokenizer.encode(text), tokenizer.end_of_text])
    found = bits_per_byte(engine, tokenizer, {"x": TokenFile.open(tmp_path / "tokens")})["x"]
    assert found == bits_per_byte(engine, tokenizer, {"x": TEXTS})["x"]


def test_masked_files_count_the_assistant_only(
    engine: Engine, model: Decoder, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    turns = [{"role": "user", "content": "The fox"}, {"role": "assistant", "content": "It ran home."}]
    ids, mask = ChatTemplate("phi3").encode(tokenizer, turns)
    with TokenWriter(tmp_path / "chat", tokenizer.vocab_size, with_mask=True) as writer:
        writer.write(ids, mask)
    found = bits_per_byte(engine, tokenizer, {"x": TokenFile.open(tmp_path / "chat")})["x"]
    assert found.bytes == len("It ran home.")
    with torch.no_grad():
        logs = model.logits(model(torch.tensor([[tokenizer.end_of_text, *ids]])))[0].log_softmax(-1)
    learned = [i for i, m in enumerate(mask) if m and ids[i] not in tokenizer.specials.values()]
    assert found.bits == pytest.approx(-sum(float(logs[i, ids[i]]) for i in learned) / math.log(2), rel=1e-4)


def test_interval_is_of_the_ratio_over_documents() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(200):
        size = rng.integers(50, 500, 60)
        bits = size * 2.0 + rng.normal(0, 1, 60) * 8 * np.sqrt(size)
        found = summarize(list(zip(bits.tolist(), size.tolist())), resamples=400, seed=trial)
        covered += found.low <= 2.0 <= found.high
    assert 0.88 < covered / 200 <= 0.99


def test_paired_loss_is_a_fraction_with_a_narrow_interval(
    engine: Engine, model: Decoder, tokenizer: Tokenizer
) -> None:
    texts = [text + str(i) for i, text in enumerate(TEXTS * 4)]
    base = document_bits(engine, tokenizer, texts)
    worse = [(bits * 1.03, size) for bits, size in base]
    found = paired_loss(base, worse)
    assert found["loss"] == pytest.approx(0.03)
    assert found["high"] - found["low"] < 1e-9
    with pytest.raises(ValueError, match="same documents"):
        paired_loss(base, worse[1:])


def test_a_domain_without_text_is_refused(engine: Engine, tokenizer: Tokenizer) -> None:
    with pytest.raises(HornbookError, match="'empty' has no text"):
        bits_per_byte(engine, tokenizer, {"empty": [""]})


def test_mean_loss_counts_each_domain_the_same() -> None:
    """A domain with a thousand times the bits weighs no more; equal losses everywhere leave no width."""
    base = {"big": [(1e6, 10)] * 5, "small": [(100.0, 10), (300.0, 20)]}
    other = {"big": [(1.01e6, 10)] * 5, "small": [(105.0, 10), (315.0, 20)]}
    found = mean_paired_loss(base, other)
    assert found["loss"] == pytest.approx(0.03)
    assert (found["low"], found["high"]) == pytest.approx((0.03, 0.03))
    other["small"] = [(110.0, 10), (300.0, 20)]
    found = mean_paired_loss(base, other)
    assert found["loss"] == pytest.approx((0.01 + 0.025) / 2)
    assert found["low"] == pytest.approx(0.005)
    assert found["high"] == pytest.approx(0.055)
