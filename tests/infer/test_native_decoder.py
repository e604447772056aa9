"""The compiled pass against torch, against plain products, and against itself in other company."""

import ctypes
from typing import Any

import numpy as np
import pytest
import torch
from engine_helpers import full_logits, naive_greedy, ragged, small

from hornbook.infer.cache import PagedCache, Span
from hornbook.infer.engine import Engine
from hornbook.infer.native_decoder import SOURCE, NativeDecoder, library, quantize_int4, serves
from hornbook.infer.weights import as_codes
from hornbook.lm.base import Sampling
from hornbook.model import native
from hornbook.model.config import LongRope, Multipliers
from hornbook.model.decoder import Decoder
from hornbook.model.quantized import nearest_int4

PHI_2: dict[str, Any] = {
    "family": "phi",
    "block": "parallel",
    "norm": "layernorm",
    "activation": "gelu_new",
    "attention_bias": True,
    "mlp_bias": True,
    "head_bias": True,
    "tied_embeddings": False,
    "rotary_fraction": 0.5,
    "kv_heads": 4,
}
SHAPES: dict[str, dict[str, Any]] = {
    "phi3": {},
    "phi2": PHI_2,
    "window": {"sliding_window": 9},
    "odd": {"hidden_size": 40, "heads": 5, "kv_heads": 1, "intermediate_size": 50, "vocab_size": 301},
    "wide heads": {"head_dim": 48, "heads": 6, "kv_heads": 3},
    "gegelu": {"activation": "gegelu", "gegelu_limit": 0.2, "mlp_bias": True},
    "scaled": {
        "multipliers": Multipliers(embedding=3.0, residual=0.5, logits=0.7, attention=2.0),
        "unused_ids": (299,),
    },
    "long rope": {
        "long_rope": LongRope(short_factor=(1.0,) * 8, long_factor=(3.0,) * 8, original_max_position=24)
    },
}
FLAGS = [(), ("-O1", "-mno-avx512f"), ("-O1", "-mno-avx512f", "-mno-avx2")]


def built(flags: tuple[str, ...]) -> ctypes.CDLL | None:
    """The kernels, for this processor or made to do without some of its instructions."""
    if not flags:
        return library()
    if not torch.backends.cpu.get_cpu_capability().startswith("AVX"):
        return None
    return native.load(SOURCE, *flags)


def with_biases(model: Decoder) -> Decoder:
    draw = np.random.default_rng(3)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() == 1:
                noise = torch.from_numpy(draw.standard_normal(parameter.shape, dtype=np.float32))
                parameter.copy_((0.0 if "bias" in name else 1.0) + 0.2 * noise)
    return model


def rounded(model: Decoder, weights: Any) -> Decoder:
    """The model whose numbers are those that the codes stand for."""
    out = Decoder(model.config).eval()
    out.load_state_dict(model.state_dict())
    with torch.no_grad():
        for module, source in zip(out.modules(), model.modules()):
            if isinstance(module, torch.nn.Linear):
                head = source is model.lm_head
                kind: Any = "int8" if head else weights
                module.weight.copy_(as_codes(source, kind).dense())
        table = as_codes(model.embed_tokens, "int8").dense()
        out.embed_tokens.weight.copy_(table.bfloat16() if not model.config.tied_embeddings else table)
    return out


def one_pass(decoder: Any, texts: list[list[int]], long: bool = False) -> list[torch.Tensor]:
    """Logits of every token of each text, all read at once."""
    cache = PagedCache(decoder.config, pages=64, dtype=decoder.dtype, device=torch.device("cpu"))
    pages = iter(range(64))
    spans = [Span([next(pages) for _ in range(-(-len(t) // 16))], 0, len(t), long) for t in texts]
    cache.begin(spans)
    ids = np.array([i for t in texts for i in t], dtype=np.int64)
    _, logits = decoder.run(ids, cache, np.arange(len(ids)))
    return list(logits.split([len(t) for t in texts]))


@pytest.mark.parametrize("flags", FLAGS, ids=["own", "avx2", "plain"])
@pytest.mark.parametrize("name", SHAPES)
def test_fp32_passes_equal_the_decoder(name: str, flags: tuple[str, ...]) -> None:
    kernels = built(flags)
    if kernels is None:
        return  # no compiler: the torch path serves, and is tested in test_engine
    model = with_biases(small(**SHAPES[name]))
    texts = ragged(4, 5, 70, seed=2)
    long = name == "long rope"
    texts = [t for t in texts if len(t) > 24] if long else texts
    for text, logits in zip(texts, one_pass(NativeDecoder(model, "fp32", kernels), texts, long)):
        torch.testing.assert_close(logits, full_logits(model, text), rtol=1e-4, atol=2e-4)


@pytest.mark.parametrize("flags", FLAGS, ids=["own", "avx2", "plain"])
@pytest.mark.parametrize("weights", ["bf16", "int8", "int4"])
@pytest.mark.parametrize("name", ["phi3", "phi2", "odd"])
def test_narrow_passes_are_near_what_their_weights_say(
    name: str, weights: Any, flags: tuple[str, ...]
) -> None:
    """Held against fp32 arithmetic on the rounded weights: what is left is the rounding of activations."""
    kernels = built(flags)
    if kernels is None:
        return
    model = with_biases(small(**SHAPES[name]))
    if weights == "bf16":
        expected_from = Decoder(model.config).eval()
        expected_from.load_state_dict({k: v.bfloat16().float() for k, v in model.state_dict().items()})
    else:
        expected_from = rounded(model, weights)
    texts = ragged(3, 20, 60, seed=5)
    for text, logits in zip(texts, one_pass(NativeDecoder(model, weights, kernels), texts)):
        expected = full_logits(expected_from, text)
        assert (logits - expected).norm() < 0.04 * expected.norm()


@pytest.mark.parametrize("weights", ["fp32", "bf16", "int8", "int4"])
def test_answers_are_the_same_bits_alone_and_in_company(weights: Any) -> None:
    """Alone, in batches of several sizes, read in pieces, with and without drafts: equal logprobs, to the
    bit."""
    model = small()
    if not serves(model.config, torch.device("cpu")):
        return
    sampling = Sampling(temperature=0.8, seed=5, max_tokens=20, logprobs=0)
    prompts = ragged(9, 3, 60, seed=8)
    wide = Engine(model, weights=weights, max_rows=9, drafts=0).generate(prompts, sampling)
    narrow = Engine(model, weights=weights, max_rows=2, drafts=4)
    narrow.scheduler.tokens = 19
    for prompt, [expected] in zip(prompts, wide):
        [[found]] = narrow.generate([prompt], sampling)
        assert (found.tokens, found.logprobs) == (expected.tokens, expected.logprobs)


def test_two_threads_give_the_bits_of_one() -> None:
    model = small(layers=2)
    if not serves(model.config, torch.device("cpu")):
        return
    decoder = NativeDecoder(model, "int4")
    texts = ragged(5, 20, 60, seed=9)
    one = one_pass(decoder, texts)
    torch.set_num_threads(2)
    try:
        two = one_pass(decoder, texts)
    finally:
        torch.set_num_threads(1)
    assert all(torch.equal(a, b) for a, b in zip(one, two))


@pytest.mark.parametrize("flags", FLAGS, ids=["own", "avx2", "plain"])
def test_int4_codes_are_those_of_torch(flags: tuple[str, ...]) -> None:
    """The same scale is chosen but where two are equally good within rounding."""
    torch.manual_seed(0)
    weight = torch.randn(40, 96) * torch.rand(40, 1)
    weight[3, 32:64] = 0
    found = quantize_int4(weight)
    if found is None:
        return
    expected = nearest_int4(weight)
    assert (found.codes == expected.codes).float().mean() > 0.97
    errors = [(c.dense() - weight).square().sum() for c in (found, expected)]
    assert float(errors[0]) == pytest.approx(float(errors[1]), rel=1e-4)
    assert bool((found.dense()[3, 32:64] == 0).all())


def test_without_a_compiler_torch_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hornbook.infer.native_decoder.library", lambda: None)
    model = small()
    engine = Engine(model, weights="fp32")
    assert not engine.native
    [[answer]] = engine.generate([[4, 5, 6]], Sampling(temperature=0.0, max_tokens=8))
    assert answer.tokens == naive_greedy(model, [4, 5, 6], 8)
