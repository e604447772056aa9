"""Chunked equals plain, and bounds memory."""

import pytest
import torch
import torch.nn.functional as F

from hornbook.train import loss
from hornbook.train.loss import IGNORE, Head, cross_entropy_sum, token_log_probabilities


def inputs(bias: bool, scale: float) -> tuple[torch.Tensor, Head, torch.Tensor]:
    torch.manual_seed(0)
    hidden = torch.randn(3, 50, 16, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(90, 16, dtype=torch.float64, requires_grad=True)
    extra = torch.randn(90, dtype=torch.float64, requires_grad=True) if bias else None
    targets = torch.randint(0, 90, (3, 50))
    targets[torch.rand(3, 50) < 0.4] = IGNORE
    return hidden, Head(weight, extra, scale), targets


def plain(hidden: torch.Tensor, head: Head, targets: torch.Tensor) -> torch.Tensor:
    logits = F.linear(hidden, head.weight, head.bias) * head.scale
    return torch.log_softmax(logits.float(), -1).gather(-1, targets.clamp(min=0)[..., None])[..., 0] * (
        targets != IGNORE
    )


@pytest.mark.parametrize(("bias", "scale"), [(False, 1.0), (True, 0.3)])
def test_chunked_equals_plain(bias: bool, scale: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loss, "CHUNK_ELEMENTS", 64 * 90)  # several chunks, the last one ragged
    hidden, head, targets = inputs(bias, scale)
    leaves = [x for x in (hidden, head.weight, head.bias) if x is not None]
    factors = torch.rand(targets.shape)
    expected = plain(hidden, head, targets)
    expected_sum = torch.autograd.grad(-expected.sum() * 3.0, leaves, retain_graph=True)
    expected_each = torch.autograd.grad((expected * factors).sum(), leaves)
    total, count = cross_entropy_sum(hidden, head, targets)
    assert count == (targets != IGNORE).sum()
    torch.testing.assert_close(total, -expected.sum(), rtol=1e-5, atol=1e-4)
    found = token_log_probabilities(hidden, head, targets)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    for got, want in zip(torch.autograd.grad(total * 3.0, leaves), expected_sum):
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)
    for got, want in zip(torch.autograd.grad((found * factors).sum(), leaves), expected_each):
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)


def test_no_trained_token_is_no_loss_and_no_gradient() -> None:
    hidden, head, targets = inputs(False, 1.0)
    total, count = cross_entropy_sum(hidden, head, torch.full_like(targets, IGNORE))
    total.backward()
    assert (total.item(), count.item()) == (0.0, 0)
    assert not hidden.grad.any()


def test_the_softmax_is_fp32_under_bf16_autocast() -> None:
    """A bf16 loss has 8 bits: near 10.4 it moves in steps of 0.06. Here it must be right to 1e-3."""
    torch.manual_seed(0)
    hidden, weight = torch.randn(512, 64), torch.randn(32768, 64) * 0.05
    targets = torch.randint(0, 32768, (512,))
    truth = F.cross_entropy(hidden.double() @ weight.double().T, targets)
    with torch.autocast("cpu", torch.bfloat16):
        total, count = cross_entropy_sum(hidden, Head(weight, None, 1.0), targets)
    assert total.dtype == torch.float32
    assert (total / count).item() == pytest.approx(truth.item(), abs=1e-3)


def test_no_tensor_of_all_logits_is_ever_made() -> None:
    """Of 8,192 x 4,096 logits (32 Mi elements) the largest tensor made may hold one chunk (4 Mi)."""
    from torch.utils._python_dispatch import TorchDispatchMode

    largest = 0

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            nonlocal largest
            out = function(*args, **(kwargs or {}))
            for tensor in [out] if isinstance(out, torch.Tensor) else []:
                largest = max(largest, tensor.numel())
            return out

    hidden = torch.randn(8192, 8, requires_grad=True)
    head = Head(torch.randn(4096, 8, requires_grad=True), None, 1.0)
    targets = torch.randint(0, 4096, (8192,))
    with Watch():
        cross_entropy_sum(hidden, head, targets)[0].backward()
        token_log_probabilities(hidden, head, targets).sum().backward()
    assert loss.CHUNK_ELEMENTS // 2 <= largest <= loss.CHUNK_ELEMENTS
