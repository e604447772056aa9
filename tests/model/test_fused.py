"""Hand-written backward passes against autograd on the plain formulas."""

import pytest
import torch
import torch.nn.functional as F

from hornbook.model import fused
from hornbook.model.layers import RMSNorm


def test_gradients_are_right_in_fp64(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused, "PIECE", 16)  # several pieces, the last one ragged
    torch.manual_seed(0)
    x = torch.randn(2, 5, 8, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(8, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, w: fused.rms_norm(x, w, 1e-3), (x, weight))
    assert torch.autograd.gradcheck(fused.swiglu, (x,))
    gate, up = x.chunk(2, -1)
    torch.testing.assert_close(fused.swiglu(x), F.silu(gate) * up)


def test_training_and_evaluation_use_the_same_norm() -> None:
    torch.manual_seed(0)
    norm, x = RMSNorm(64, 1e-5), torch.randn(300, 64)
    torch.nn.init.normal_(norm.weight)
    trained = norm(x)
    with torch.no_grad():
        torch.testing.assert_close(trained, norm(x), rtol=1e-5, atol=1e-6)
        expected = F.rms_norm(x.double(), (64,), norm.weight.double(), 1e-5)
    torch.testing.assert_close(trained.double(), expected, rtol=1e-5, atol=1e-5)
