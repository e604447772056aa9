"""Depth-muP against closed forms, PyTorch's own optimizers, and the phases the paper derives."""

import math
from dataclasses import replace

import pytest
import torch

from hornbook.errors import HornbookError
from hornbook.theory.depth_mup import (
    DepthCurve,
    best_rate,
    coordinate_check,
    depth_sweep,
    diversity_exponent,
    slope,
    transfer,
)
from hornbook.theory.residual import (
    ReplicaOptimizer,
    ResidualReplicas,
    ResidualSettings,
    expected_growth,
    replica_losses,
    train_replicas,
)

DEPTHS = (4, 16, 64)


@pytest.fixture(scope="module")
def data():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(256, 16, generator=generator)
    teacher = torch.randn(16, 5, generator=generator)
    return x, (x @ teacher).argmax(1)


def settings(**changes):
    return ResidualSettings(**{"inputs": 16, "outputs": 5, "width": 64, **changes})


@pytest.mark.parametrize("nonlinearity", ["identity", "relu", "abs"])
def test_growth_at_initialisation_is_the_closed_form(nonlinearity):
    shape = settings(width=256, depth=16, nonlinearity=nonlinearity)
    network = ResidualReplicas(shape, range(4))
    trace = []
    with torch.no_grad():
        network(torch.randn(8, 16, generator=torch.Generator().manual_seed(1)), trace)
    measured = (trace[-1].square().sum() / trace[0].square().sum()).item()
    assert len(trace) == 17
    assert measured == pytest.approx(expected_growth(shape), rel=0.15)


def test_growth_is_bounded_over_depth_exactly_from_one_half_on():
    growth = {
        name: [expected_growth(settings(parametrization=name, depth=d, base_depth=4)) for d in (4, 64, 4096)]
        for name in ("mup", "depth_mup", "completep")
    }
    assert growth["mup"][1] > 1e6
    assert growth["mup"][2] == math.inf
    assert growth["depth_mup"][2] < 1.02 * math.exp(4 * (0.5 - 0.5 / math.pi))
    assert growth["completep"][2] < 1.01


def test_replicas_equal_networks_trained_alone_with_torch_optimizers(data):
    """Forward, gradients, batched Adam and the rates of the table, against one plain network at a time."""
    x, y = data
    for optimizer in ("adam", "sgd"):
        shape = settings(width=32, base_width=16, depth=8, optimizer=optimizer, train_input=True)
        rates = (1e-3, 4e-3) if optimizer == "adam" else (0.05, 0.2)
        together = train_replicas(shape, x, y, learning_rates=rates, seeds=(3, 5), steps=6, batch=8)
        for i, seed in enumerate((3, 5)):
            for j, rate in enumerate(rates):
                alone = plainly_trained(shape, x, y, seed=seed, rate=rate, steps=6, batch=8)
                torch.testing.assert_close(together[:, i, j], alone, rtol=1e-4, atol=1e-5)


def plainly_trained(shape, x, y, *, seed, rate, steps, batch):
    start = ResidualReplicas(shape, [seed])
    u, v = (torch.nn.Parameter(w.detach()[0].clone()) for w in (start.input, start.output))
    ws = [torch.nn.Parameter(w.clone()) for w in start.hidden.detach()[0]]
    m, k = 2.0, 2.0
    if shape.optimizer == "adam":
        groups = [
            {"params": [u], "lr": rate, "eps": 1e-12 / m},
            {"params": ws, "lr": rate / m / k**0.5, "eps": 1e-12 / m / k**0.5},
            {"params": [v], "lr": 1e-2, "eps": 1e-12 / m},
        ]
        optimizer = torch.optim.Adam(groups, betas=(0.9, 0.999))
    else:
        groups = [
            {"params": [u], "lr": rate * m},
            {"params": ws, "lr": rate},
            {"params": [v], "lr": 1e-2 * m},
        ]
        optimizer = torch.optim.SGD(groups, lr=1.0)
    order = torch.Generator().manual_seed(seed + 1_000_003)
    losses = []
    for _ in range(steps):
        rows = torch.randint(len(x), (batch,), generator=order)
        h = x[rows] @ u
        for w in ws:
            z = torch.relu(h @ w)
            h = h + (z - z.mean(-1, keepdim=True)) / k**0.5
        loss = torch.nn.functional.cross_entropy(h @ v / m, y[rows])
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return torch.tensor(losses)


def test_adams_first_step_moves_every_hidden_weight_by_the_tables_rate(data):
    x, y = data
    shape = settings(depth=64, width=128, base_width=64)
    network = ResidualReplicas(shape, [0])
    before = network.hidden.detach().clone()
    optimizer = ReplicaOptimizer(network, torch.tensor([0.01]))
    replica_losses(network(x), y[None]).sum().backward()
    live = network.hidden.grad.abs() > 1e-9
    optimizer.step()
    moved = (network.hidden.detach() - before).abs()[live]
    assert live.float().mean() > 0.9
    torch.testing.assert_close(moved, torch.full_like(moved, 0.01 / 2 / 4), rtol=1e-2, atol=0)


def change_slopes(data, name, over, sizes, **changes):
    x, y = data
    shape = settings(parametrization=name, **changes)
    rate = 0.2 if shape.optimizer == "sgd" else 4e-3
    seen = coordinate_check(shape, x, y, over=over, sizes=sizes, learning_rate=rate, seeds=(0, 1, 2))
    return seen, [slope(sizes, [at.change[t] for at in seen]) for t in range(4)]


def test_depth_check_is_flat_for_depth_mup_with_adam(data):
    seen, slopes = change_slopes(data, "depth_mup", "depth", DEPTHS)
    assert max(abs(s) for s in slopes) < 0.1
    assert abs(slope(DEPTHS, [at.initial for at in seen])) < 0.1
    assert slope(DEPTHS, [at.weights[0] for at in seen]) == pytest.approx(-0.5, abs=0.02)


def test_depth_check_finds_a_missing_learning_rate_factor(data):
    """alpha = 1/2 with gamma = 0 grows as k^1/2 under Adam (phase 2 of the diagram)."""
    _, slopes = change_slopes(data, "branch_only", "depth", DEPTHS)
    assert slopes[0] == pytest.approx(0.5, abs=0.15)


def test_depth_check_is_flat_for_sgd_without_a_rate_factor(data):
    """From 64 blocks on: SGD settles later than Adam, whose steps are signs. A rate of k^1/2 would show."""
    _, slopes = change_slopes(data, "depth_mup", "depth", (64, 256), optimizer="sgd")
    assert max(abs(s) for s in slopes) < 0.12
    _, slopes = change_slopes(data, "branch_only", "depth", (64, 256), optimizer="sgd")
    assert slopes[0] > 0.25


def test_depth_check_finds_the_explosion_of_unscaled_branches(data):
    seen, _ = change_slopes(data, "mup", "depth", DEPTHS)
    assert slope(DEPTHS, [at.initial for at in seen]) > 1


@pytest.mark.parametrize(("optimizer", "flat", "steep"), [("adam", 0.15, 0.9), ("sgd", 0.35, 0.6)])
def test_width_check_tells_mup_from_the_standard_one(data, optimizer, flat, steep):
    """By the change of the logits; SGD's at these widths still drifts by the noise of the readout."""
    sizes = (64, 128, 256, 512)
    common = {"base_width": 64, "optimizer": optimizer, "train_input": True}
    seen, changes = change_slopes(data, "depth_mup", "width", sizes, **common)
    assert max(abs(s) for s in changes) < 0.2
    assert abs(slope(sizes, [at.logits[0] for at in seen])) < flat
    seen, _ = change_slopes(data, "standard", "width", sizes, **common)
    assert slope(sizes, [at.logits[0] for at in seen]) > steep


def test_a_missing_mean_subtraction_blows_up_with_depth():
    x = torch.randn(8, 16, generator=torch.Generator().manual_seed(1))
    sizes = {}
    for subtract in (True, False):
        shape = settings(depth=256, base_depth=1, mean_subtraction=subtract)
        trace = []
        with torch.no_grad():
            ResidualReplicas(shape, [0])(x, trace)
        sizes[subtract] = trace[-1].abs().mean().item()
    assert sizes[False] > 20 * sizes[True]


def test_diversity_exponent_of_a_walk_and_of_a_flow():
    steps = torch.randn(513, 4, 256, generator=torch.Generator().manual_seed(0))
    walk = list(steps.cumsum(0))
    line = list(torch.arange(513.0)[:, None, None] * steps[0])
    gaps = (2, 4, 8, 16)
    assert diversity_exponent(walk, gaps) == pytest.approx(0.5, abs=0.02)
    assert diversity_exponent(line, gaps) == pytest.approx(0, abs=1e-4)


def test_best_rate_is_the_vertex_of_a_parabola():
    rates = [2.0**e for e in (-3, -2, 0, 1)]
    losses = [(math.log2(r) + 0.7) ** 2 for r in rates]
    assert best_rate(rates, losses) == pytest.approx(-0.7)
    assert best_rate(rates, [0, 1, 2, math.inf]) == -3
    assert best_rate(rates, [3, 1, 2, math.inf]) == pytest.approx(best_rate(rates, [3, 1, 2, 9]))
    assert math.isnan(best_rate(rates, [math.inf] * 4))


def test_transfer_reads_shift_and_penalty_from_curves():
    rates = (1.0, 2.0, 4.0, 8.0)
    small = DepthCurve(depth=4, learning_rates=rates, log_loss=((2.0, 1.0, 0.0, 1.0),))
    deep = DepthCurve(depth=64, learning_rates=rates, log_loss=((0.0, -1.0, 0.0, 1.0),))
    found = transfer([small, deep])
    assert found.shift[0] == pytest.approx(-1)
    assert found.penalty == (1.0,)
    assert found.gain == (0.0,)
    gone = replace(deep, log_loss=((0.0, -1.0, math.inf, math.inf),))
    assert transfer([small, gone]).penalty == (math.inf,)


def test_a_diverged_replica_does_not_touch_the_others(data):
    x, y = data
    shape = settings(optimizer="sgd", depth=8)
    with_one = depth_sweep(shape, x, y, depths=(8,), learning_rates=(0.1, 1e6), seeds=(0,), steps=8)[0]
    without = depth_sweep(shape, x, y, depths=(8,), learning_rates=(0.1,), seeds=(0,), steps=8)[0]
    assert with_one.log_loss[0][1] == math.inf
    assert with_one.log_loss[0][0] == pytest.approx(without.log_loss[0][0], rel=1e-4)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"block_depth": 3}, "block_depth is 3"),
        ({"nonlinearity": "gelu"}, "nonlinearity is 'gelu'"),
        ({"depth": 0}, "depth is 0"),
        ({"parametrization": "x"}, "parametrization is 'x'"),
    ],
)
def test_wrong_settings_are_named(changes, words):
    with pytest.raises(HornbookError, match=words):
        settings(**changes)


def test_wrong_data_are_named(data):
    x, y = data
    rates = {"learning_rates": (0.1,), "steps": 1}
    with pytest.raises(HornbookError, match=r"\(examples, 16\)"):
        train_replicas(settings(), x[:, :3], y, **rates)
    with pytest.raises(HornbookError, match="NaN"):
        train_replicas(settings(), x * math.nan, y, **rates)
    with pytest.raises(HornbookError, match="outputs 0 to 1"):
        train_replicas(settings(outputs=2), x, y, **rates)
