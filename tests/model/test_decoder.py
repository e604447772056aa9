"""Passes that must agree: cached with full, padded with unpadded, packed with alone."""

import math

import pytest
import torch

from hornbook.model.cache import KeyValueCache
from hornbook.model.config import LongRope, ModelConfig, Multipliers
from hornbook.model.decoder import Decoder

BASE = {"vocab_size": 61, "hidden_size": 32, "layers": 3, "heads": 4, "intermediate_size": 48}
ROPE = LongRope(short_factor=(1.0, 1.2), long_factor=(2.0, 5.0), original_max_position=10)
CONFIGS = {
    "phi3": ModelConfig(**BASE, kv_heads=2),
    "window": ModelConfig(**BASE, kv_heads=2, sliding_window=5),
    "partial": ModelConfig(**BASE, kv_heads=1, rotary_fraction=0.5, tied_embeddings=True),
    "longrope": ModelConfig(**BASE, rotary_fraction=0.5, long_rope=ROPE, max_position=40),
    "phi": ModelConfig(
        **BASE,
        family="phi",
        block="parallel",
        norm="layernorm",
        activation="gelu_new",
        attention_bias=True,
        mlp_bias=True,
        head_bias=True,
        rotary_fraction=0.5,
    ),
    "phimoe": ModelConfig(
        **BASE,
        family="phimoe",
        kv_heads=2,
        norm="layernorm",
        attention_bias=True,
        head_bias=True,
        experts=3,
        router_jitter=0.5,
    ),
    "mup": ModelConfig(
        **BASE,
        activation="gegelu",
        norm="layernorm",
        multipliers=Multipliers(embedding=10.0, logits=0.125, attention=1.0, residual=0.5),
    ),
}
TIME = 18


@pytest.fixture(params=sorted(CONFIGS))
def decoder(request):
    torch.manual_seed(1)
    decoder = Decoder(CONFIGS[request.param]).double().eval()
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return decoder


def tokens(rows=2, time=TIME):
    return torch.randint(61, (rows, time), generator=torch.Generator().manual_seed(3))


def close(a, b):
    # Angles are fp32 by design, so agreement is exact up to fp64 reduction order only.
    torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("chunks", [[18], [1] * 18, [7, 1, 1, 4, 5], [1, 17]])
def test_cached_equals_full(decoder, chunks):
    ids = tokens()
    cache = KeyValueCache(decoder.config, batch=2, length=TIME, dtype=torch.float64)
    parts = [decoder(part, cache=cache) for part in ids.split(chunks, dim=1)]
    assert cache.used == TIME
    close(torch.cat(parts, dim=1), decoder(ids))


@pytest.mark.parametrize("chunks", [[18], [10, 1, 7], [2, 16]])
def test_left_padded_in_a_cache_equals_each_row_alone(decoder, chunks):
    ids, padding = tokens(3), torch.tensor([0, 4, 11])
    cache = KeyValueCache(decoder.config, batch=3, length=TIME, dtype=torch.float64, padding=padding)
    together = torch.cat([decoder(part, cache=cache) for part in ids.split(chunks, dim=1)], dim=1)
    assert together.isfinite().all()
    for row, skip in enumerate(padding.tolist()):
        alone = KeyValueCache(decoder.config, batch=1, length=TIME, dtype=torch.float64)
        close(together[row, skip:], decoder(ids[row : row + 1, skip:], cache=alone)[0])


def test_left_padded_without_a_cache_equals_unpadded(decoder):
    ids, skip = tokens(1), 5
    document = (torch.arange(TIME) >= skip).long()[None]
    position = (torch.arange(TIME) - skip).clamp_min(0)[None]
    padded = decoder(ids, position=position, document=document)
    close(padded[:, skip:], decoder(ids[:, skip:]))


def test_packed_documents_do_not_see_each_other(decoder):
    lengths = [5, 1, 8, 4]
    document = torch.repeat_interleave(torch.tensor([3, 9, 3, 0]), torch.tensor(lengths))
    document[6:14] = 7  # ids need not be ordered
    position = torch.cat([torch.arange(n) for n in lengths])
    ids = tokens()
    packed = decoder(ids, position=position.expand(2, -1), document=document.expand(2, -1))
    start = 0
    for length in lengths:
        if decoder.config.long_rope is None or length > 1:
            close(packed[:, start : start + length], decoder(ids[:, start : start + length]))
        start += length


def test_a_change_in_one_document_moves_no_other(decoder):
    document = torch.tensor([[0] * 6 + [1] * 12])
    ids = tokens(1)
    before = decoder(ids, document=document)
    ids[0, 2] = (ids[0, 2] + 1) % 61
    after = decoder(ids, document=document)
    assert torch.equal(before[0, 6:], after[0, 6:])
    assert not torch.equal(before[0, 2:6], after[0, 2:6])


def test_the_future_is_not_seen(decoder):
    ids = tokens(1)
    before = decoder(ids)
    ids[0, 9] = (ids[0, 9] + 1) % 61
    after = decoder(ids)
    assert torch.equal(before[0, :9], after[0, :9])
    assert not torch.equal(before[0, 9], after[0, 9])


def test_window_is_w_tokens_including_self():
    config = ModelConfig(**(BASE | {"layers": 1}), sliding_window=5)
    torch.manual_seed(0)
    decoder = Decoder(config).eval()
    ids = tokens(1)
    before = decoder(ids)
    ids[0, 4] = (ids[0, 4] + 1) % 61
    moved = (decoder(ids) != before).any(-1)[0]
    assert moved.nonzero().flatten().tolist() == [4, 5, 6, 7, 8]


def test_cache_rows_repeat_a_prompt_for_its_samples(decoder):
    prompt, ends = tokens(1, 10), tokens(4, 8)
    cache = KeyValueCache(decoder.config, batch=1, length=TIME, dtype=torch.float64)
    decoder(prompt, cache=cache)
    shared = cache.rows(torch.zeros(4, dtype=torch.long))
    close(decoder(ends, cache=shared), decoder(torch.cat([prompt.expand(4, -1), ends], 1))[:, 10:])


def test_truncated_cache_continues_as_if_nothing_had_followed(decoder):
    ids = tokens()
    cache = KeyValueCache(decoder.config, batch=2, length=TIME, dtype=torch.float64)
    full = decoder(ids, cache=cache)
    cache.truncate(11)
    close(decoder(ids[:, 11:], cache=cache), full[:, 11:])


def test_cache_overflow_is_refused():
    config = CONFIGS["phi3"]
    cache = KeyValueCache(config, batch=1, length=4)
    with pytest.raises(ValueError, match="holds 4 tokens"):
        Decoder(config)(tokens(1, 5), cache=cache)


def test_longrope_of_a_cache_is_chosen_once_for_its_life():
    """Keys are stored rotated: mixing short and long factors in one cache is the silent bug."""
    torch.manual_seed(0)
    decoder = Decoder(CONFIGS["longrope"]).double().eval()
    ids = tokens(1, 12)
    short = KeyValueCache(decoder.config, batch=1, length=12, dtype=torch.float64, rope_length=10)
    long = KeyValueCache(decoder.config, batch=1, length=12, dtype=torch.float64)
    close(decoder(ids[:, :8], cache=short), decoder(ids[:, :8]))
    decoder(ids[:, :8], cache=long)
    close(decoder(ids[:, 8:], cache=long), decoder(ids)[:, 8:])
    assert not torch.allclose(decoder(ids[:, 8:], cache=short), decoder(ids)[:, 8:])


def test_gradients_flow_to_every_parameter(decoder):
    decoder.train()
    decoder.logits(decoder(tokens())).logsumexp(-1).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in decoder.parameters())


def test_init_scales_the_projections_into_the_residual_stream():
    torch.manual_seed(0)
    decoder = Decoder(
        ModelConfig(vocab_size=512, hidden_size=256, layers=8, heads=4, intermediate_size=512, init_std=0.03)
    )
    small = 0.03 / math.sqrt(16)
    for name, parameter in decoder.named_parameters():
        if parameter.dim() == 2:
            expected = small if "o_proj" in name or "down_proj" in name else 0.03
            assert parameter.std().item() == pytest.approx(expected, rel=0.03), name
        else:
            assert (parameter == 1).all()


def test_norm_rope_and_residual_stay_fp32_under_bf16_autocast():
    torch.manual_seed(0)
    decoder = Decoder(CONFIGS["phi3"])
    seen = {}
    decoder.layers[1].attention_norm.register_forward_hook(lambda m, i, o: seen.update(residual=i[0].dtype))
    decoder.layers[1].attention.qkv_proj.register_forward_hook(lambda m, i, o: seen.update(product=o.dtype))
    exact = decoder(tokens())
    with torch.autocast("cpu", torch.bfloat16):
        hidden = decoder(tokens())
    assert seen == {"residual": torch.float32, "product": torch.bfloat16}
    assert decoder.rope(torch.arange(3), 3)[0].dtype == torch.float32
    assert ((hidden.float() - exact).norm() / exact.norm()).item() < 0.02


@pytest.mark.parametrize("name", ["phi3", "window", "partial", "phi"])
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float16, 0.005), (torch.bfloat16, 0.03)])
def test_half_precision_models_run_with_and_without_a_cache(name, dtype, bound):
    """phi-1.5 and phi-2 are released in fp16, where a mask of -1e30 does not exist."""
    torch.manual_seed(0)
    decoder = Decoder(CONFIGS[name])
    exact = decoder(tokens())
    decoder.to(dtype)
    cache = KeyValueCache(decoder.config, batch=2, length=TIME, dtype=dtype)
    for hidden in (decoder(tokens()), decoder(tokens(), cache=cache)):
        assert hidden.dtype == dtype
        assert ((hidden.float() - exact).norm() / exact.norm()).item() < bound


def test_bf16_model_keeps_fp32_angles():
    """`model.to(bf16)` must not round the rotary frequencies."""
    decoder = Decoder(CONFIGS["phi3"])
    before = decoder.rope(torch.tensor([4001]), 4002)
    after = decoder.bfloat16().rope(torch.tensor([4001]), 4002)
    assert torch.equal(before[0], after[0])
    assert torch.equal(before[1], after[1])
