"""The compiled kernels against the torch formulas they stand in for, and life without a compiler."""

from pathlib import Path

import pytest
import torch

from hornbook.lab.machine import cxx_compiler
from hornbook.model import fused, native
from hornbook.model.block_attention import plan_spans
from hornbook.model.config import ModelConfig
from hornbook.model.decoder import Decoder
from hornbook.model.projected_attention import attend_projected
from hornbook.train.loss import Head, cross_entropy_sum

compiled = pytest.mark.skipif(cxx_compiler() is None, reason="the kernels need a C++ compiler")
TOLERANCE = {torch.float32: 2e-5, torch.bfloat16: 2e-2}


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory):
    """Built anew from this source, beside the user's cache."""
    patch = pytest.MonkeyPatch()
    patch.setenv("HORNBOOK_CACHE", str(tmp_path_factory.mktemp("cache")))
    native.library.cache_clear()
    yield
    patch.undo()
    native.library.cache_clear()


def both(work):
    """Results of `work()` with torch's formulas and with the kernels."""
    plain = work()
    with native.active() as there:
        assert there
        return plain, work()


def gradients(function, *inputs):
    leaves = [x.detach().clone().requires_grad_() for x in inputs]
    out = function(*leaves)
    outs = out if isinstance(out, tuple) else (out,)
    torch.manual_seed(7)
    sum((o.float() * torch.randn(o.shape)).sum() for o in outs).backward()
    return [o.detach() for o in outs] + [leaf.grad for leaf in leaves]


def close(plain, ours, dtype):
    for expected, found in zip(plain, ours, strict=True):
        assert expected.dtype == found.dtype
        size = expected.float().abs().max().item() + 1e-6
        torch.testing.assert_close(
            found.float() / size, expected.float() / size, rtol=0, atol=TOLERANCE[dtype]
        )


@compiled
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_norms_and_gates(dtype: torch.dtype, threads: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    x, branch, weight = torch.randn(3, 7, 40), torch.randn(3, 7, 40).to(dtype), torch.randn(40)
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        close(*both(lambda: gradients(fused.swiglu, (4 * x).to(dtype))), dtype)
        close(*both(lambda: gradients(lambda a, w: fused.rms_norm(a, w, 1e-5), x, weight)), dtype)
        close(
            *both(lambda: gradients(lambda a, b, w: fused.add_rms_norm(a, b, w, 1e-5), x, branch, weight)),
            dtype,
        )
    torch.set_num_threads(before)


@compiled
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("kind", ["causal", "documents", "window"])
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_attention(dtype: torch.dtype, kind: str, threads: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    time, heads, kv, size, half = 75, 4, 2, 16, 6
    document = torch.tensor([[0] * 30 + [1] * 45, [0] * 70 + [1] * 5]) if kind == "documents" else None
    window = 20 if kind == "window" else None
    spans = plan_spans(time, document=document, window=window, dtype=dtype, block=32)
    position = torch.arange(time).expand(2, time) + torch.tensor([[0], [5]])
    angle = (position[..., None] * torch.rand(half))[:, None]
    qkv = torch.randn(2, time, (heads + 2 * kv) * size).to(dtype)

    def attend(x: torch.Tensor) -> torch.Tensor:
        return attend_projected(x, angle.cos(), angle.sin(), heads=heads, kv_heads=kv, scale=0.3, cut=spans)

    close(*both(lambda: gradients(attend, qkv)), dtype)
    torch.set_num_threads(before)


@compiled
@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_cross_entropy(scale: float) -> None:
    torch.manual_seed(0)
    hidden, weight, bias = torch.randn(3, 11, 24), torch.randn(301, 24), torch.randn(301)
    targets = torch.randint(0, 301, (3, 11))
    targets[0, :5] = -100

    def loss(h, w, b):
        return cross_entropy_sum(h, Head(w, b, scale), targets)[0]

    close(*both(lambda: gradients(loss, hidden, weight, bias)), torch.float32)


@compiled
def test_nan_and_infinity_are_not_hidden() -> None:
    weight, targets = torch.eye(4), torch.zeros(1, 3, dtype=torch.long)
    for value in (torch.nan, torch.inf):
        hidden = torch.zeros(1, 3, 4)
        hidden[0, 1, 2] = value
        with native.active():
            total, _ = cross_entropy_sum(hidden.requires_grad_(), Head(weight, None, 1.0), targets)
            gated = fused.swiglu(torch.full((1, 8), torch.nan))
        assert not torch.isfinite(total)
        assert gated.isnan().all()


@compiled
@pytest.mark.parametrize("family", ["phi3", "phi"])
def test_a_whole_model_learns_the_same(family: str) -> None:
    options = {"block": "parallel", "norm": "layernorm", "activation": "gelu_new"} if family == "phi" else {}
    config = ModelConfig(
        vocab_size=64,
        hidden_size=32,
        layers=2,
        heads=2,
        intermediate_size=48,
        tied_embeddings=True,
        **options,
    )
    torch.manual_seed(0)
    model, tokens = Decoder(config), torch.randint(0, 64, (3, 40))

    def learn():
        model.zero_grad()
        total, _ = cross_entropy_sum(model(tokens), Head(model.embed_tokens.weight, None, 1.0), tokens)
        total.backward()
        return [total.detach(), *(p.grad.clone() for p in model.parameters())]

    close(*both(learn), torch.float32)


def test_without_a_compiler_torch_does_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hornbook.lab.machine.cxx_compiler", lambda: None)
    native.library.cache_clear()
    with native.active() as there:
        assert not there
        assert not native.available(torch.zeros(1))
        assert fused.swiglu(torch.ones(1, 4)).shape == (1, 2)
    native.library.cache_clear()


@pytest.mark.parametrize("script", ["exit 1", 'echo not a library > "${@: -1}"'])
def test_a_compiler_that_fails_is_no_compiler(
    script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "c++"
    broken.write_text(f'#!/bin/bash\n[ "$1" = --version ] && exit 0\n{script}\n')
    broken.chmod(0o755)
    monkeypatch.setattr("hornbook.lab.machine.cxx_compiler", lambda: str(broken))
    native.library.cache_clear()
    with native.active() as there:
        assert not there
    native.library.cache_clear()
