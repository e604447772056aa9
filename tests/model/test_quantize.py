"""Calibrated rounding against rounding to nearest on the loss it is to save, and folders that open again."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hornbook.errors import HornbookError
from hornbook.infer.engine import Engine
from hornbook.lm.base import Sampling
from hornbook.model.config import ModelConfig
from hornbook.model.decoder import Decoder
from hornbook.model.hf import load_checkpoint
from hornbook.model.quantize import gptq, quantize
from hornbook.model.quantized import nearest_int4, nearest_int8
from hornbook.model.quantized_folder import FILE, is_quantized, save_quantized

PHI_2: dict[str, Any] = {
    "family": "phi",
    "block": "parallel",
    "norm": "layernorm",
    "activation": "gelu_new",
    "attention_bias": True,
    "mlp_bias": True,
    "head_bias": True,
    "rotary_fraction": 0.5,
}


def small(**changes: Any) -> Decoder:
    settings: dict[str, Any] = {
        "vocab_size": 120,
        "hidden_size": 64,
        "layers": 2,
        "heads": 4,
        "intermediate_size": 96,
        "tied_embeddings": True,
        "max_position": 128,
        "eos_ids": (0,),
    }
    model = Decoder(ModelConfig(**{**settings, **changes})).eval()
    draw = np.random.default_rng(7)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.from_numpy(draw.standard_normal(parameter.shape, dtype=np.float32))
            parameter.copy_(noise * 0.15 + (1.0 if parameter.dim() == 1 else 0.0))
    return model


@pytest.mark.parametrize("weights", ["int4", "int8"])
def test_gptq_loses_less_on_its_inputs_than_rounding_to_nearest(weights: Any) -> None:
    """The loss is |X W' - X W|^2 on inputs of strongly correlated columns, fresh ones included."""
    draw = np.random.default_rng(0)
    mixing = draw.standard_normal((96, 96)) * (0.9 ** np.arange(96))
    x = torch.from_numpy(draw.standard_normal((4000, 96)) @ mixing.T).float()
    weight = torch.from_numpy(draw.standard_normal((80, 96))).float()
    seen, fresh = x[:2000], x[2000:]
    codes = gptq(weight, seen.T @ seen / 2000, weights)
    plain = (nearest_int4 if weights == "int4" else nearest_int8)(weight)
    for rows in (seen, fresh):
        ours, theirs = ((rows @ (q.dense() - weight).T).square().mean() for q in (codes, plain))
        assert float(ours) < 0.5 * float(theirs)


def test_with_inputs_that_do_not_correlate_gptq_is_rounding_to_nearest() -> None:
    torch.manual_seed(0)
    weight = torch.randn(40, 64)
    codes, plain = gptq(weight, torch.eye(64), "int4"), nearest_int4(weight)
    assert torch.equal(codes.codes, plain.codes)
    assert torch.equal(codes.scales, plain.scales)


def test_a_calibrated_model_is_nearer_on_fresh_text() -> None:
    """Layer inputs of random models hardly correlate, so only: not worse, on texts that were not calibrated
    on."""
    model = small(layers=3, hidden_size=96, heads=3, intermediate_size=192)
    draw = np.random.default_rng(1)
    texts = draw.integers(0, 40, (48, 64)).tolist()  # a third of the vocabulary: inputs that do correlate
    fresh = torch.from_numpy(draw.integers(0, 40, (16, 64)))
    with torch.no_grad():
        expected = model.logits(model(fresh))
        away = [
            float((quantized.logits(quantized(fresh)) - expected).square().mean())
            for quantized in (quantize(model, "int4", calibration=texts), quantize(model, "int4"))
        ]
    assert away[0] < away[1]


@pytest.mark.parametrize("weights", ["int4", "int8"])
@pytest.mark.parametrize(
    "shape", [{}, {"tied_embeddings": False}, PHI_2, {"intermediate_size": 100}], ids=str
)
def test_a_folder_opens_again_as_what_it_was(tmp_path: Path, shape: dict[str, Any], weights: Any) -> None:
    """Same answers from the folder, from the model in memory, and from an engine that rounds by itself."""
    model = small(**shape)
    quantized = quantize(model, weights)
    save_quantized(quantized, tmp_path)
    assert is_quantized(tmp_path)
    read = load_checkpoint(tmp_path)
    sampling = Sampling(temperature=0.0, max_tokens=12)
    prompts = [[5, 6, 7], list(range(40))]
    answers = [
        [a.tokens for [a] in Engine(m, weights=w, native=False).generate(prompts, sampling)]
        for m, w in ((read, "auto"), (quantized, "auto"), (model, weights))
    ]
    assert answers[0] == answers[1] == answers[2]
    assert Engine(read).weights == weights
    text = torch.tensor([list(range(50))])
    with torch.no_grad():
        a, b = (m.logits(m(text).float()).float() for m in (read, quantized))
    assert (a - b).norm() < 0.04 * b.norm()  # the folder keeps the table in bf16
    assert (tmp_path / FILE).stat().st_size < 4 * model.config.parameters()


def test_the_model_is_not_changed() -> None:
    model = small()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    quantize(model, "int4", calibration=[[1, 2, 3, 4]] * 3)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert set(before) == set(model.state_dict())


class TestRefusals:
    def test_another_format_than_the_folder_has(self, tmp_path: Path) -> None:
        save_quantized(quantize(small(), "int4"), tmp_path)
        with pytest.raises(HornbookError, match="quantized to int4; it cannot run as bf16"):
            Engine(load_checkpoint(tmp_path), weights="bf16")

    def test_tensors_that_do_not_fit_are_all_listed(self, tmp_path: Path) -> None:
        save_quantized(quantize(small(), "int4"), tmp_path)
        config = json.loads((tmp_path / "config.json").read_text())
        config["num_hidden_layers"], config["vocab_size"] = 3, 121
        (tmp_path / "config.json").write_text(json.dumps(config))
        with pytest.raises(HornbookError, match=r"layers\.2.*missing.*embed_tokens.codes has shape"):
            load_checkpoint(tmp_path)

    def test_sparse_models(self) -> None:
        with pytest.raises(HornbookError, match="phimoe model cannot be quantized"):
            quantize(small(family="phimoe", experts=2), "int4")

    def test_empty_calibration(self) -> None:
        with pytest.raises(HornbookError, match="Calibration needs texts"):
            quantize(small(), "int4", calibration=[[]])
