"""phi-3-small against a slow reference written from its description, on the tensors of its own format.

`transformers` has no phi-3-small, so the reference below is plain double precision arithmetic over the
published tensor names and packing, with every visible pair of tokens named one by one.
"""

import json
import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from hornbook.errors import HornbookError
from hornbook.model.cache import KeyValueCache
from hornbook.model.config import BlockSparse, LongRope, ModelConfig, Multipliers
from hornbook.model.decoder import Decoder
from hornbook.model.hf import load_checkpoint, save_checkpoint
from hornbook.model.presets import preset
from hornbook.model.sparse_attention import plan_stripes, sparse_mask
from hornbook.model.striped_cache import StripedCache

SMALL = ModelConfig(
    family="phi3small",
    vocab_size=53,
    hidden_size=48,
    layers=4,
    heads=6,
    kv_heads=2,
    intermediate_size=40,
    norm="layernorm",
    activation="gegelu",
    gegelu_limit=0.5,
    attention_bias=True,
    mlp_bias=True,
    tied_embeddings=True,
    rope_theta=1000.0,
    max_position=128,
    block_sparse=BlockSparse(block=4, local_blocks=2, stride=5),
    multipliers=Multipliers(embedding=3.0, logits=0.25, attention=1.5),
    unused_ids=(7, 50),
    bos_id=0,
    eos_ids=(0,),
)
LONG = LongRope(
    short_factor=(1.0, 1.1, 1.2, 1.3),
    long_factor=(1.5, 2.0, 3.0, 4.0),
    original_max_position=16,
    short_mscale=1.1,
    long_mscale=1.2,
)
VARIANTS = {
    "released": SMALL,
    "one pattern": replace(
        SMALL, block_sparse=BlockSparse(block=4, local_blocks=1, stride=2, same_for_all_heads=True)
    ),
    "never dense": replace(SMALL, block_sparse=BlockSparse(block=8, local_blocks=1, stride=4, dense_every=0)),
    "always dense": replace(SMALL, block_sparse=BlockSparse(block=4, dense_every=1)),
    "long": replace(SMALL, long_rope=LONG),
}
TIME = 45  # not a whole number of blocks


def sees(pattern, head, query, key):
    """Whether token `query` sees token `key`, by the rule in the report."""
    if key > query:
        return False
    query_block, key_block = query // pattern.block, key // pattern.block
    step = 0 if pattern.same_for_all_heads else 1
    near = query_block - key_block < pattern.local_blocks
    return near or (key_block + head * step + 1) % pattern.stride == 0


def reference_logits(config, tensors, tokens):
    """Logits of one row of tokens, from the published names and shapes."""

    def norm(x, name):
        x = x - x.mean(-1, keepdim=True)
        x = x / torch.sqrt(x.pow(2).mean(-1, keepdim=True) + config.norm_eps)
        return x * tensors[f"{name}.weight"] + tensors[f"{name}.bias"]

    def linear(x, name):
        return x @ tensors[f"{name}.weight"].T + tensors[f"{name}.bias"]

    time, size, group = len(tokens), config.head_dim, config.heads // config.kv_heads
    frequency = torch.tensor([config.rope_theta ** (-2 * i / size) for i in range(size // 2)]).double()
    magnitude = 1.0
    if config.long_rope is not None:
        long = time > config.long_rope.original_max_position
        factors = config.long_rope.long_factor if long else config.long_rope.short_factor
        frequency = frequency / torch.tensor(factors).double()
        magnitude = config.long_rope.long_mscale if long else config.long_rope.short_mscale
    turns = torch.polar(
        torch.full((time, size // 2), magnitude).double(), torch.arange(time)[:, None] * frequency
    )

    def rotate(x):
        turned = torch.complex(x[:, : size // 2], x[:, size // 2 :]) * turns
        return torch.cat([turned.real, turned.imag], -1)

    x = tensors["model.embed_tokens.weight"][tokens] * config.multipliers.embedding
    for layer in range(config.layers):
        prefix = f"model.layers.{layer}"
        every = config.block_sparse.dense_every
        dense = every > 0 and (layer + 1) % every == 0
        packed = linear(norm(x, f"{prefix}.input_layernorm"), f"{prefix}.self_attn.query_key_value")
        heads = packed.view(time, config.kv_heads, group + 2, size)
        mixed = []
        for head in range(config.heads):
            one = heads[:, head // group]
            q, k, v = rotate(one[:, head % group]), rotate(one[:, group]), one[:, group + 1]
            seen = [
                [c <= r if dense else sees(config.block_sparse, head, r, c) for c in range(time)]
                for r in range(time)
            ]
            scores = q @ k.T * (config.multipliers.attention / size)
            mixed.append(scores.masked_fill(~torch.tensor(seen), -math.inf).softmax(-1) @ v)
        x = x + linear(torch.cat(mixed, -1), f"{prefix}.self_attn.dense")
        up = linear(norm(x, f"{prefix}.post_attention_layernorm"), f"{prefix}.mlp.up_proj")
        gelu, linear_part = up[:, 0::2].clamp(max=config.gegelu_limit), up[:, 1::2]
        linear_part = linear_part.clamp(-config.gegelu_limit, config.gegelu_limit)
        inner = gelu / (1 + torch.exp(-1.702 * gelu)) * (linear_part + 1)
        x = x + linear(inner, f"{prefix}.mlp.down_proj")
    return (
        norm(x, "model.final_layernorm")
        @ tensors["model.embed_tokens.weight"].T
        / (1 / config.multipliers.logits)
    )


def make(config, seed=0):
    torch.manual_seed(seed)
    decoder = Decoder(config)
    with torch.no_grad():
        for name, parameter in decoder.named_parameters():
            if parameter.dim() == 1:
                parameter.add_(0.2 * torch.randn_like(parameter))
            else:
                parameter.mul_(2.0 if "embed" in name else 12.0)
    return decoder.eval()


def used(config):
    return [i for i in range(config.vocab_size) if i not in config.unused_ids]


@pytest.mark.parametrize("name", VARIANTS)
def test_logits_and_gradients_equal_the_reference(name, tmp_path):
    config = VARIANTS[name]
    decoder = make(config)
    save_checkpoint(decoder, tmp_path)
    tensors = {
        key: value.double().requires_grad_()
        for key, value in load_file(tmp_path / "model.safetensors").items()
    }
    tokens = torch.randint(0, config.vocab_size, (2, TIME))
    expected = torch.stack([reference_logits(config, tensors, row) for row in tokens])
    logits = decoder.logits(decoder(tokens))
    kept = used(config)
    assert (logits[..., list(config.unused_ids)] == torch.finfo(logits.dtype).min).all()
    torch.testing.assert_close(logits[..., kept].double(), expected[..., kept], rtol=1e-4, atol=1e-4)
    weight = torch.randn(2, TIME, len(kept))
    (logits[..., kept] * weight).sum().backward()
    (expected[..., kept] * weight).sum().backward()
    # The gradients of the model, saved as weights, are gradients by published name.
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.copy_(parameter.grad)
    save_checkpoint(decoder, tmp_path / "gradients")
    for key, gradient in load_file(tmp_path / "gradients" / "model.safetensors").items():
        difference = (gradient - tensors[key].grad).norm() / (tensors[key].grad.norm() + 1e-6)
        assert difference < 1e-4, key


@pytest.mark.parametrize("name", VARIANTS)
def test_round_trip_of_config_and_bytes(name, tmp_path):
    config = VARIANTS[name]
    save_checkpoint(make(config), tmp_path / "a")
    again = load_checkpoint(tmp_path / "a")
    assert again.config == config
    save_checkpoint(again, tmp_path / "b")
    for file in ("model.safetensors", "config.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_published_config_json_is_the_preset():
    """The released file's keys that differ from, or repeat, the class's defaults."""
    released = {
        "model_type": "phi3small",
        "vocab_size": 100352,
        "hidden_size": 4096,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "ff_intermediate_size": 14336,
        "gegelu_limit": 20.0,
        "rope_embedding_base": 1000000,
        "mup_width_multiplier": 8.0,
        "mup_embedding_multiplier": 10.0,
        "eos_token_id": 100257,
        "bos_token_id": 100257,
    }
    expected = replace(preset("phi-3-small"), eos_ids=(100257,), pad_id=None)
    assert ModelConfig.from_hf(released) == expected
    assert ModelConfig.from_hf({"model_type": "phi3small"}) == expected
    assert ModelConfig.from_hf(json.loads(json.dumps(expected.to_hf()))) == expected


def test_packing_of_the_released_projection():
    with torch.device("meta"):
        layer = Decoder(preset("phi-3-small")).layers[0]
    assert tuple(layer.attention.qkv_proj.weight.shape) == (6144, 4096)
    assert tuple(layer.mlp.gate_up_proj.weight.shape) == (28672, 4096)


def test_published_pattern_rows():
    pattern = preset("phi-3-small").block_sparse
    query = torch.tensor([40 * 64 + 63])
    blocks = torch.arange(0, 41 * 64, 64)
    mask = sparse_mask(pattern, 32, query, blocks)
    assert mask[0, 0].nonzero().flatten().tolist() == [7, 15, 23, *range(25, 41)]
    assert mask[3, 0].nonzero().flatten().tolist() == [4, 12, 20, *range(25, 41)]
    assert sparse_mask(pattern, 1, torch.tensor([20 * 64]), blocks).sum() == 16


@pytest.mark.parametrize(("time", "share"), [(8192, 0.323), (131072, 0.138)])
def test_published_share_of_block_pairs(time, share):
    stripes = plan_stripes(preset("phi-3-small").block_sparse, 32, time, None)
    pairs = sum(min(n + 1, 16) + stripes.counts(n)[0] for n in range(stripes.blocks))
    assert pairs / (stripes.blocks * (stripes.blocks + 1) / 2) == pytest.approx(share, abs=5e-4)


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("steps", [(45,), (20, 25), (37, 1, 1, 1, 1, 1, 3), (1,) * 45])
def test_cached_equals_full(name, steps):
    decoder = make(VARIANTS[name])
    tokens = torch.randint(0, 53, (2, TIME))
    cache = KeyValueCache(decoder.config, batch=2, length=TIME)
    parts, start = [], 0
    with torch.no_grad():
        for step in steps:
            parts.append(decoder(tokens[:, start : start + step], cache=cache))
            start += step
        torch.testing.assert_close(torch.cat(parts, 1), decoder(tokens), rtol=1e-4, atol=1e-4)


def test_left_padded_rows_see_what_they_see_alone():
    decoder = make(SMALL)
    rows = [torch.randint(0, 53, (n,)) for n in (TIME, 30, 9)]
    padding = torch.tensor([TIME - len(row) for row in rows])
    tokens = torch.stack([F.pad(row, (TIME - len(row), 0)) for row in rows])
    cache = KeyValueCache(SMALL, batch=3, length=TIME, padding=padding)
    with torch.no_grad():
        padded = torch.cat([decoder(tokens[:, :40], cache=cache), decoder(tokens[:, 40:], cache=cache)], 1)
        for row, hidden in zip(rows, padded, strict=True):
            torch.testing.assert_close(hidden[-len(row) :], decoder(row[None])[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("lengths", [(25, 20), (5, 6, 34), (8, 8, 8, 8, 8, 5), (1, 44)])
def test_packed_documents_see_what_they_see_alone(lengths):
    decoder = make(SMALL)
    tokens = torch.randint(0, 53, (1, TIME))
    document = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))[None]
    position = torch.cat([torch.arange(n) for n in lengths])[None]
    with torch.no_grad():
        packed = decoder(tokens, document=document, position=position)
        start = 0
        for length in lengths:
            alone = decoder(tokens[:, start : start + length])
            torch.testing.assert_close(packed[:, start : start + length], alone, rtol=1e-4, atol=1e-4)
            start += length


def test_long_rows_recomputed_in_the_backward_pass_have_the_same_gradients(monkeypatch):
    decoder = make(SMALL)
    tokens = torch.randint(0, 53, (2, TIME))

    def gradients():
        decoder.zero_grad()
        decoder(tokens).square().sum().backward()
        return [p.grad.clone() for p in decoder.parameters()]

    kept = gradients()
    monkeypatch.setattr("hornbook.model.projected_attention.KEEP_LIMIT", 0)
    for ours, again in zip(kept, gradients(), strict=True):
        torch.testing.assert_close(ours, again)


def test_attention_dropout_takes_the_masked_path_with_the_same_expectation():
    """The path with a mask is another implementation: without dropping it must give the same numbers."""
    decoder = make(SMALL)
    tokens = torch.randint(0, 53, (2, TIME))
    dropping = Decoder(replace(SMALL, attention_dropout=1e-9))
    dropping.load_state_dict(decoder.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(dropping.train()(tokens), decoder(tokens), rtol=1e-4, atol=1e-4)


def test_half_precision_stays_close():
    decoder = make(SMALL)
    tokens = torch.randint(0, 53, (2, TIME))
    with torch.no_grad():
        wide = decoder(tokens)
        with torch.autocast("cpu", torch.bfloat16):
            narrow = decoder(tokens)
    assert ((narrow - wide).norm() / wide.norm()).item() < 0.05


def test_a_config_that_its_class_cannot_say_is_refused():
    with pytest.raises(HornbookError, match="block_sparse"):
        replace(SMALL, block_sparse=None).to_hf()
    with pytest.raises(HornbookError, match="residual"):
        replace(SMALL, residual_dropout=0.1).to_hf()
    with pytest.raises(HornbookError, match="stride"):
        replace(SMALL, block_sparse=BlockSparse(stride=0))
    with pytest.raises(HornbookError, match="hidden_act"):
        ModelConfig.from_hf({"model_type": "phi3small", "hidden_act": "silu"})


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize(
    "steps", [(45,), (20, 25), (1,) * 45, (3, 17, 1, 1, 2, 9, 1, 11), (40, 1, 1, 1, 1, 1)]
)
@pytest.mark.parametrize("length", [45, 120])
def test_cache_of_stripes_equals_the_full_pass(name, steps, length):
    decoder = make(VARIANTS[name])
    tokens = torch.randint(0, 53, (2, TIME))
    cache = StripedCache(decoder.config, batch=2, length=length, rope_length=TIME)
    parts, start = [], 0
    with torch.no_grad():
        for step in steps:
            parts.append(decoder(tokens[:, start : start + step], cache=cache))
            start += step
        torch.testing.assert_close(torch.cat(parts, 1), decoder(tokens), rtol=1e-4, atol=1e-4)


def test_cache_of_stripes_keeps_what_the_pattern_needs():
    """Half of the blocks and the ring in sparse layers of the released shape, counted one by one."""
    config = replace(preset("phi-3-small"), layers=2, max_position=131072)
    length = 16384
    cache = StripedCache(config, batch=1, length=length, dtype=torch.bfloat16)
    needed = 0
    for key_head in range(8):
        heads = range(4 * key_head, 4 * key_head + 4)
        blocks = [b for b in range(length // 64) if any((b + h + 1) % 8 == 0 for h in heads)]
        needed += 64 * len(blocks) + 16 * 64
    dense = 8 * length
    assert cache.bytes == (needed + dense) * 2 * 128 * 2
    assert cache.bytes / (2 * dense * 2 * 128 * 2) == pytest.approx(0.78125)
    with pytest.raises(ValueError, match="block_sparse"):
        StripedCache(preset("phi-4"), batch=1, length=8)


@pytest.mark.parametrize("length", [64, 2048, 2112, 4096])
def test_cache_of_stripes_is_never_larger_than_a_plain_one(length):
    config = replace(preset("phi-3-small"), layers=2)
    cache = StripedCache(config, batch=1, length=length, dtype=torch.bfloat16, device="meta")
    plain = config.cache_bytes_per_token() * length
    assert cache.bytes <= plain
    assert (cache.bytes < plain) == (length > 2112)


def test_full_cache_of_stripes_refuses_more():
    cache = StripedCache(SMALL, batch=1, length=6)
    with torch.no_grad():
        make(SMALL)(torch.tensor([[1, 2, 3, 4]]), cache=cache)
        with pytest.raises(ValueError, match="holds 6 tokens, 7"):
            make(SMALL)(torch.tensor([[1, 2, 3]]), cache=cache)
