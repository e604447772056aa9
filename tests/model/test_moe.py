"""SparseMixer-v2 against golden values, the sampling rule, and the softmax gradient it stands for."""

import pytest
import torch

from hornbook.model.moe import sparse_mixer


@pytest.mark.parametrize(
    ("scores", "experts", "gates"),
    [
        ((2.00, 1.97, 1.0, -0.5), (0, 1), (0.5074994375506203, 1.0)),
        ((2.00, 1.97, 1.95, -0.5), (0, 1), (0.5074994375506203, 0.5049998333399998)),
        ((-1.00, -1.01, -3.0, -0.99), (3, 0), (0.3366721665289847, 0.502499979166875)),
    ],
)
def test_golden_values_in_evaluation(scores, experts, gates):
    got, chosen = sparse_mixer(torch.tensor([scores], dtype=torch.float64), jitter=0.01, training=False)
    assert tuple(chosen[0].tolist()) == experts
    assert got[0].tolist() == pytest.approx(gates, abs=1e-12)


@pytest.mark.parametrize("jitter", [0.01, 0.2])
def test_routing_in_evaluation_is_that_of_transformers(jitter):
    """Experts equal and gates equal to the last bit but one, near ties and negative scores included."""
    from transformers.models.phimoe.modeling_phimoe import sparsemixer

    torch.manual_seed(3)
    scores = torch.cat([torch.randn(2000, 16), 1 + 0.05 * torch.randn(2000, 16), -1 - torch.rand(500, 16)])
    gates, chosen = sparse_mixer(scores, jitter=jitter, training=False)
    expected, experts = sparsemixer(scores, jitter_eps=jitter, training=False)
    assert torch.equal(chosen, experts)
    torch.testing.assert_close(gates, expected, rtol=2e-7, atol=0)


def test_training_samples_survivors_and_shrinks_only_runners_up():
    torch.manual_seed(0)
    scores = torch.tensor([[2.00, 1.97, 1.95, -0.5]], dtype=torch.float64).expand(20_000, -1)
    gates, chosen = sparse_mixer(scores, jitter=0.01, training=True)
    soft = scores[0, :2].softmax(-1)  # 1.95 is 2.5 % off the best, further than 2 * jitter
    share = torch.bincount(chosen[:, 0], minlength=4).double() / 20_000
    assert share[: len(soft)].tolist() == pytest.approx(soft.tolist(), abs=0.015)
    assert not (chosen[:, 0] == chosen[:, 1]).any()
    ratio = gates[:, 0] / soft[chosen[:, 0]]
    assert torch.allclose(ratio[chosen[:, 0] == 0], torch.ones((), dtype=torch.float64))
    shrunk = ratio[chosen[:, 0] != 0] < 0.5
    assert torch.allclose(ratio[chosen[:, 0] != 0][shrunk], torch.tensor(0.3333, dtype=torch.float64))
    assert shrunk.double().mean().item() == pytest.approx(0.75, abs=0.02)


def test_gradient_is_the_softmax_row_of_the_unscaled_gate():
    torch.manual_seed(1)
    scores = (1 + 0.01 * torch.rand(200, 5, dtype=torch.float64)).requires_grad_()
    gates, chosen = sparse_mixer(scores, jitter=0.01, training=True)
    upstream = torch.randn(200, 2, dtype=torch.float64)
    (gates * upstream).sum().backward()
    plain = scores.detach().clone().requires_grad_()
    first = plain.softmax(-1).gather(-1, chosen[:, :1])
    rest = plain.scatter(-1, chosen[:, :1], -torch.inf).softmax(-1).gather(-1, chosen[:, 1:])
    (torch.cat([first, rest], -1) * upstream).sum().backward()
    torch.testing.assert_close(scores.grad, plain.grad)


def test_mean_gradient_is_heuns_estimate_of_the_discrete_choice():
    """Monte Carlo over the first pick: sum over experts i of (f_i(p_i) - f_i(0)) dp_i, for cubic losses f_i.

    Heun's third-order rule is exact for cubics. The leader's gate is never shrunk: its loss is linear here.
    """
    torch.manual_seed(2)
    scores = torch.tensor([2.000, 1.985, 1.970, 1.0], dtype=torch.float64)
    cubic = torch.tensor([[0.7, 0.0, 0.0], [-1.0, 2.0, 3.0], [0.5, -3.0, 4.0], [9.0, 9.0, 9.0]]).double()
    tokens = 400_000
    rows = scores.expand(tokens, -1).clone().requires_grad_()
    gates, chosen = sparse_mixer(rows, jitter=0.01, training=True)
    powers = torch.stack([gates[:, 0], gates[:, 0] ** 2, gates[:, 0] ** 3], -1)
    (cubic[chosen[:, 0]] * powers).sum().backward()
    soft = torch.cat([scores[:3].softmax(-1), torch.zeros(1).double()])
    value = (cubic * torch.stack([soft, soft**2, soft**3], -1)).sum(-1)
    jacobian = torch.diag(soft) - torch.outer(soft, soft)
    noise = rows.grad.std(0) / tokens**0.5
    # The published third is 0.3333, which moves the mean by less than its noise.
    assert ((rows.grad.mean(0) - value @ jacobian).abs() <= 6 * noise + 1e-4).all()
