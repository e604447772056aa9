"""Muon against torch.optim.Muon and the singular value decomposition; who trains what."""

import pytest
import torch
from small_training import tiny_config

from hornbook.model.decoder import Decoder
from hornbook.train.optim import Matrix, Muon, Optimizer, logical_rows, orthogonalise
from hornbook.train.settings import OptimizerSettings


@pytest.mark.parametrize("shape", [(3, 24, 40), (2, 40, 24), (1, 16, 16)])
def test_orthogonalise_brings_singular_values_to_one(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    x = torch.randn(shape)
    found = orthogonalise(x, dtype=torch.float32)
    u, _, v = torch.linalg.svd(x, full_matrices=False)
    values = torch.linalg.svdvals(found)
    assert values.min() > 0.5
    assert values.max() < 1.3
    # The same singular vectors: U^T X V is diagonal.
    inner = u.mT @ found @ v.mT
    off = inner - torch.diag_embed(inner.diagonal(dim1=-2, dim2=-1))
    assert off.abs().max() < 0.02


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch.optim.Muon came with torch 2.9")
@pytest.mark.parametrize(("scale", "theirs"), [("rms", "match_rms_adamw"), ("spectral", "original")])
def test_muon_equals_torch(scale: str, theirs: str) -> None:
    """Five steps on two shapes, one of them twice (so that a stack is used). Both iterate in bf16."""
    torch.manual_seed(0)
    start = [torch.randn(48, 32), torch.randn(48, 32), torch.randn(16, 64)]
    ours, other = ([torch.nn.Parameter(w.clone()) for w in start] for _ in range(2))
    muon = Muon(
        [Matrix(p, 0, len(p)) for p in ours],
        momentum=0.9,
        weight_decay=0.1,
        scale=scale,
        dtype=torch.bfloat16,
    )
    reference = torch.optim.Muon(
        other, lr=0.02, momentum=0.9, weight_decay=0.1, nesterov=True, adjust_lr_fn=theirs
    )
    for step in range(5):
        torch.manual_seed(step + 1)
        for a, b in zip(ours, other):
            a.grad = torch.randn_like(a)
            b.grad = a.grad.clone()
        muon.step(0.02)
        reference.step()
    for a, b, w in zip(ours, other, start):
        moved = (b - w).norm()
        assert (a - b).norm() < 0.02 * moved
        assert moved > 0.01 * w.norm()


def test_fused_projections_are_orthogonalised_one_by_one() -> None:
    model = Decoder(tiny_config(heads=4, kv_heads=2, hidden_size=32))
    rows = logical_rows(model)
    assert rows["layers.0.attention.qkv_proj.weight"] == [32, 16, 16]
    assert rows["layers.1.mlp.gate_up_proj.weight"] == [64, 64]
    optimizer = Optimizer(model, OptimizerSettings(kind="muon"))
    assert optimizer.muon is not None
    count = sum(len(stack) for stack in optimizer.muon.stacks.values())
    assert count == 2 * (3 + 1 + 2 + 1)  # q k v, out, gate up, down in both layers
    weight = model.layers[0].attention.qkv_proj.weight
    before = weight.detach().clone()
    torch.manual_seed(0)
    for p in model.parameters():
        p.grad = torch.randn_like(p)
    # The first momentum is (1 - m) g and the Nesterov update a positive multiple of g: only g's shape counts.
    pieces = [
        orthogonalise(piece[None], dtype=torch.float32)[0]
        for piece in weight.grad.clone().split([32, 16, 16])
    ]
    optimizer.muon.weight_decay = 0.0
    optimizer.step(1.0)
    moved = (before - weight.detach()) / (0.2 * 32**0.5 * optimizer.settings.learning_rate)
    torch.testing.assert_close(moved, torch.cat(pieces), rtol=1e-3, atol=1e-3)


def test_every_parameter_has_one_group_and_only_matrices_decay() -> None:
    model = Decoder(tiny_config(tied_embeddings=False, attention_bias=True))
    for kind in ("adamw", "muon"):
        groups = Optimizer(model, OptimizerSettings(kind=kind)).groups  # type: ignore[arg-type]
        named = [name for names in groups.values() for name in names]
        assert sorted(named) == sorted(name for name, _ in model.named_parameters())
        assert "embed_tokens.weight" in groups["plain"]
        assert "lm_head.weight" in groups["decayed"]
        assert all(name.endswith(("norm.weight", "bias", "embed_tokens.weight")) for name in groups["plain"])
    assert all("proj.weight" in name for name in groups["muon"])


def test_weight_decay_alone_shrinks_by_the_closed_form() -> None:
    model = Decoder(tiny_config())
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = Optimizer(model, OptimizerSettings(learning_rate=0.1, weight_decay=0.5))
    for _ in range(3):
        for p in model.parameters():
            p.grad = torch.zeros_like(p)
        optimizer.step(0.5)
    shrunk = (1 - 0.05 * 0.5) ** 3
    for name, p in model.named_parameters():
        factor = shrunk if name in optimizer.groups["decayed"] else 1.0
        torch.testing.assert_close(p.detach(), before[name] * factor)
