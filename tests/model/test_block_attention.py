"""The fast attention path against the dense-mask reference: outputs, gradients, isolation."""

import itertools

import pytest
import torch
import torch.nn.functional as F

from hornbook.model import projected_attention
from hornbook.model.block_attention import plan_spans
from hornbook.model.config import ModelConfig
from hornbook.model.decoder import Decoder
from hornbook.model.projected_attention import attend_projected
from hornbook.model.rope import rotate


def documents(kind: str, batch: int, time: int) -> torch.Tensor | None:
    if kind == "none":
        return None
    torch.manual_seed(3)
    ids = (torch.rand(batch, time) < 0.06).cumsum(1)
    return ids if kind == "packed" else ids % 3  # ids that come back later see each other


def reference(qkv, cos, sin, heads, kv_heads, scale, document, window):
    """Plain softmax over a dense mask."""
    batch, time, width = qkv.shape
    size = width // (heads + 2 * kv_heads)
    parts = qkv.view(batch, time, -1, size).transpose(1, 2)
    q, k, v = parts.split([heads, kv_heads, kv_heads], dim=1)
    q, k = rotate(q, cos, sin), rotate(k, cos, sin)
    k, v = (x.repeat_interleave(heads // kv_heads, dim=1) for x in (k, v))
    slot = torch.arange(time)
    seen = (slot[:, None] >= slot[None]).expand(batch, time, time)
    if window is not None:
        seen = seen & (slot[:, None] - slot[None] < window)
    if document is not None:
        seen = seen & (document[:, :, None] == document[:, None])
    scores = (q @ k.mT * scale).masked_fill(~seen[:, None], float("-inf"))
    return (F.softmax(scores, -1) @ v).transpose(1, 2).reshape(batch, time, -1)


@pytest.mark.parametrize(
    ("kind", "window", "kv_heads", "rotary", "long"),
    [
        *itertools.product(("none", "packed", "recurring"), (None, 20), (4,), (8,), (False,)),
        ("packed", None, 2, 4, False),
        ("none", None, 1, 8, True),
        ("packed", 20, 2, 8, True),
    ],
)
def test_outputs_and_gradients_equal_the_dense_mask_reference(
    kind: str, window: int | None, kv_heads: int, rotary: int, long: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In fp64 nothing but the order of sums may differ. `long`: probabilities are made twice."""
    if long:
        monkeypatch.setattr(projected_attention, "KEEP_LIMIT", 0)
    batch, time, heads, size = 3, 75, 4, 8
    torch.manual_seed(0)
    qkv = torch.randn(batch, time, (heads + 2 * kv_heads) * size, dtype=torch.float64)
    angle = torch.arange(time).expand(batch, 1, time)[..., None] * torch.rand(
        rotary // 2, dtype=torch.float64
    )
    cos, sin = angle.cos(), angle.sin()
    document = documents(kind, batch, time)
    weight = torch.randn(batch, time, heads * size, dtype=torch.float64)
    spans = plan_spans(time, document=document, window=window, dtype=torch.float64, block=16)
    results = []
    for path in ("fast", "dense"):
        leaf = qkv.clone().requires_grad_()
        if path == "fast":
            out = attend_projected(leaf, cos, sin, heads=heads, kv_heads=kv_heads, scale=0.3, cut=spans)
        else:
            out = reference(leaf, cos, sin, heads, kv_heads, 0.3, document, window)
        (out * weight).sum().backward()
        results.append((out.detach(), leaf.grad))
    for fast, dense in zip(*results):
        torch.testing.assert_close(fast, dense, rtol=1e-10, atol=1e-10)


def test_bf16_is_nearly_as_close_to_the_truth_as_the_library() -> None:
    """Against fp64, errors stay within twice those of bf16 SDPA, which keeps its scores in fp32."""
    batch, time, heads, size = 2, 300, 2, 64
    torch.manual_seed(0)
    qkv = torch.randn(batch, time, 3 * heads * size).bfloat16()
    still = torch.zeros(time, size // 2)
    cos, sin = still.cos(), still.sin()
    weight = torch.randn(batch, time, heads * size).bfloat16()

    def run(dtype: torch.dtype, path: str) -> tuple[torch.Tensor, torch.Tensor]:
        leaf = qkv.to(dtype).requires_grad_()
        if path == "fast":
            spans = plan_spans(time, document=None, window=None, dtype=dtype)
            out = attend_projected(leaf, cos, sin, heads=heads, kv_heads=heads, scale=0.125, cut=spans)
        else:
            q, k, v = leaf.view(batch, time, 3 * heads, size).transpose(1, 2).split(heads, dim=1)
            out = (
                F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(weight.shape)
            )
        out.backward(weight.to(dtype))
        assert leaf.grad is not None
        return out.detach().double(), leaf.grad.double()

    truth, fast, library = (
        run(torch.float64, "sdpa"),
        run(torch.bfloat16, "fast"),
        run(torch.bfloat16, "sdpa"),
    )
    for t, f, s in zip(truth, fast, library):
        assert (f - t).norm() < 2 * (s - t).norm()


def test_keys_of_other_documents_are_never_multiplied() -> None:
    document = torch.arange(512)[None] // 64
    spans = plan_spans(512, document=document, window=None, dtype=torch.float32, block=128)
    assert [(span.first, span.last, span.keys) for span in spans.spans] == [
        (0, 128, 0),
        (128, 256, 128),
        (256, 384, 256),
        (384, 512, 384),
    ]


@pytest.mark.parametrize("autocast", [False, True])
def test_packed_documents_are_isolated(autocast: bool) -> None:
    """Changing one document changes no bit of the others, in outputs and in gradients of their loss."""
    torch.manual_seed(0)
    model = Decoder(ModelConfig(vocab_size=50, hidden_size=32, layers=2, heads=2, intermediate_size=48))
    document = torch.repeat_interleave(torch.arange(3), torch.tensor([40, 90, 70]))[None]
    position = torch.cat([torch.arange(n) for n in (40, 90, 70)])[None]
    tokens = torch.randint(0, 50, (1, 200))
    changed = tokens.clone()
    changed[0, 40:130] = torch.randint(0, 50, (90,))
    found = []
    for ids in (tokens, changed):
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            hidden = model(ids, position=position, document=document)
        kept = torch.cat([hidden[0, :40], hidden[0, 130:]])
        kept.square().sum().backward()
        found.append((kept.detach(), model.layers[0].attention.qkv_proj.weight.grad.clone()))
    assert torch.equal(found[0][0], found[1][0])
    torch.testing.assert_close(found[0][1], found[1][1], rtol=1e-5, atol=1e-5 if not autocast else 1e-2)
    alone = model(tokens[:, 40:130]) if not autocast else None
    if alone is not None:
        torch.testing.assert_close(
            model(tokens, position=position, document=document)[:, 40:130], alone, rtol=1e-4, atol=1e-5
        )
