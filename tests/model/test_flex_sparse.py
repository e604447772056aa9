"""FlexAttention's block lists against phi-3-small's rule, token by token, and the path against the others."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.attention.flex_attention as library
from torch.utils._triton import has_triton

from hornbook.model import flex_sparse
from hornbook.model.config import BlockSparse, ModelConfig, Multipliers
from hornbook.model.decoder import Decoder
from hornbook.model.sparse_attention import sparse_mask

PATTERNS = {
    "released, small blocks": BlockSparse(block=4, local_blocks=2, stride=3),
    "one pattern": BlockSparse(block=4, local_blocks=1, stride=2, same_for_all_heads=True),
    "wide": BlockSparse(block=8, local_blocks=3, stride=5),
}
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
    attention_bias=True,
    mlp_bias=True,
    tied_embeddings=True,
    max_position=128,
    block_sparse=PATTERNS["released, small blocks"],
    multipliers=Multipliers(embedding=3.0, logits=0.25, attention=1.5),
)


@pytest.fixture
def on_this_device(monkeypatch):
    """The GPU's path on the CPU: the same plans, applied by FlexAttention without compilation."""
    monkeypatch.setattr(flex_sparse, "available", lambda device: True)
    # Otherwise torch traces even what it does not compile, which takes seconds.
    monkeypatch.setattr(library, "_FLEX_ATTENTION_DISABLE_COMPILE_DEBUG", True, raising=False)


def tokens_of(blocks, block, time):
    """(heads, blocks, blocks) -> (heads, time, time)."""
    return blocks.repeat_interleave(block, 1).repeat_interleave(block, 2)[:, :time, :time]


@pytest.fixture(autouse=True)
def small_kernels(monkeypatch):
    """Blocks of some tokens where a GPU has 64 and 128."""
    sizes = {True: 8, False: 4}
    monkeypatch.setattr(flex_sparse, "_block", lambda p, backward: math.lcm(p.block, sizes[backward]))
    flex_sparse.plan_flex.cache_clear()
    yield
    flex_sparse.plan_flex.cache_clear()


@pytest.mark.parametrize("name", PATTERNS)
@pytest.mark.parametrize("time", [4, 45, 64, 101])
@pytest.mark.parametrize("backward", [False, True])
def test_the_lists_hold_what_the_rule_shows_and_full_blocks_need_no_look(name, time, backward):
    """A compiled kernel trusts the lists: a block called full is never masked, one left out never read."""
    pattern, heads = PATTERNS[name], 6
    plan = flex_sparse.plan_flex(pattern, heads, time, torch.device("cpu"), backward=backward)
    size = math.lcm(pattern.block, 8 if backward else 4)
    assert plan.BLOCK_SIZE[0] == plan.BLOCK_SIZE[1] == size
    rule = sparse_mask(pattern, heads, torch.arange(time), torch.arange(time))
    count = -(-time // size)
    full, partial = torch.zeros(2, heads, count, count, dtype=torch.bool)
    for head in range(heads):
        for row in range(count):
            some = plan.kv_indices[0, head, row, : plan.kv_num_blocks[0, head, row]]
            whole = plan.full_kv_indices[0, head, row, : plan.full_kv_num_blocks[0, head, row]]
            assert len({*some.tolist(), *whole.tolist()}) == len(some) + len(whole)
            partial[head, row, some.long()] = full[head, row, whole.long()] = True
    assert rule[tokens_of(full, size, time)].all()
    assert not rule[~tokens_of(full | partial, size, time)].any()
    if size == pattern.block:  # nothing but the diagonal is seen in part, nothing is read in vain
        assert torch.equal(partial, torch.eye(count, dtype=torch.bool).expand(heads, -1, -1))
    if backward:
        assert plan.q_num_blocks.sum() == plan.kv_num_blocks.sum()
        for head in range(heads):
            for column in range(count):
                rows = plan.full_q_indices[0, head, column, : plan.full_q_num_blocks[0, head, column]]
                assert sorted(rows.tolist()) == full[head, :, column].nonzero().flatten().tolist()


@pytest.mark.parametrize("name", PATTERNS)
@torch.no_grad()  # FlexAttention has no backward pass on a CPU: gradients are compared on a GPU, below
def test_the_path_equals_the_stripes_and_the_dense_mask(name, on_this_device, monkeypatch):
    torch.manual_seed(0)
    decoder = Decoder(replace(SMALL, block_sparse=PATTERNS[name])).double()
    tokens = torch.randint(0, 53, (2, 61))
    calls: list[int] = []
    monkeypatch.setattr(
        "hornbook.model.layers.attend_flex",
        lambda *a, **named: calls.append(1) or flex_sparse.attend_flex(*a, **named),
    )
    ours = decoder(tokens)
    assert len(calls) == 2  # layers 0 and 2 of four
    monkeypatch.setattr(flex_sparse, "available", lambda device: False)
    stripes = decoder(tokens)
    # Dropping attention weights, however rarely, takes the path with a dense mask.
    masked = Decoder(replace(decoder.config, attention_dropout=1e-12)).double()
    masked.load_state_dict(decoder.state_dict())
    dense = masked.train()(tokens)
    assert len(calls) == 2
    torch.testing.assert_close(ours, stripes, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(ours, dense, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("lengths", [(25, 20), (5, 6, 34), (1, 44)])
@torch.no_grad()
def test_packed_documents_see_what_they_see_alone(lengths, on_this_device):
    torch.manual_seed(0)
    decoder = Decoder(SMALL).double().eval()
    tokens = torch.randint(0, 53, (1, 45))
    document = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))[None]
    position = torch.cat([torch.arange(n) for n in lengths])[None]
    packed = decoder(tokens, document=document, position=position)
    start = 0
    for length in lengths:
        alone = decoder(tokens[:, start : start + length])
        torch.testing.assert_close(packed[:, start : start + length], alone, rtol=1e-9, atol=1e-9)
        start += length


def test_the_released_shape_lists_the_published_share_of_blocks():
    pattern = BlockSparse(block=64, local_blocks=16, stride=8)
    plan = flex_sparse.plan_flex(pattern, 8, 8192, torch.device("cpu"), backward=False)
    pairs = plan.full_kv_num_blocks[0, 0].sum() + plan.kv_num_blocks[0, 0].sum()
    assert pairs.item() / (128 * 129 / 2) == pytest.approx(0.323, abs=5e-4)


@pytest.mark.oracle
def test_the_compiled_kernel_of_a_cpu_skips_the_same_blocks():
    """Torch compiles FlexAttention's forward pass for CPUs too (a C++ compiler): its lists, not our mask."""
    pattern = BlockSparse(block=64, local_blocks=2, stride=3)
    torch.manual_seed(0)
    q, k, v = torch.randn(1, 4, 512, 32), torch.randn(1, 2, 512, 32), torch.randn(1, 2, 512, 32)
    plan = flex_sparse.plan_flex(pattern, 4, 512, torch.device("cpu"))
    with torch.no_grad():
        got = torch.compile(library.flex_attention)(q, k, v, block_mask=plan, scale=0.2, enable_gqa=True)
    mask = sparse_mask(pattern, 4, torch.arange(512), torch.arange(512))
    expected = torch.nn.functional.scaled_dot_product_attention(
        q, k, v, attn_mask=mask[None], scale=0.2, enable_gqa=True
    )
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(not (torch.cuda.is_available() and has_triton()), reason="needs a GPU with Triton")
def test_on_a_gpu_the_compiled_kernel_equals_the_plain_path(monkeypatch):
    monkeypatch.undo()
    torch.manual_seed(0)
    config = replace(
        SMALL, hidden_size=192, heads=6, block_sparse=BlockSparse(block=64, local_blocks=2, stride=3)
    )
    decoder = Decoder(config).cuda()
    tokens = torch.randint(0, 53, (2, 700)).cuda()

    def run():
        decoder.zero_grad()
        hidden = decoder(tokens)
        hidden.square().sum().backward()
        return [hidden.detach(), *(p.grad.clone() for p in decoder.parameters())]

    ours = run()
    with torch.no_grad():
        forward_only = decoder(tokens)
    decoder.cpu()
    tokens = tokens.cpu()
    plain = run()
    for a, b in zip([*ours, forward_only], [*plain, plain[0]], strict=True):
        assert ((a.cpu() - b).norm() / (b.norm() + 1e-6)).item() < 2e-3
