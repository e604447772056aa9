"""Empirical kernels against closed forms, autograd one example at a time, and what optimizers really do."""

import copy
import math

import pytest
import torch
from torch import nn

from hornbook.errors import HornbookError
from hornbook.model.config import ModelConfig
from hornbook.model.decoder import Decoder
from hornbook.theory.empirical_kernel import (
    KINDS,
    empirical_kernels,
    flat,
    kernel_by_jvp,
    linearised,
    plan_kernel,
    relative_change,
    solve_asymmetric,
    solve_kernel,
)
from hornbook.theory.projection import Projection, largest_prime
from hornbook.theory.prompted import Headed, Prompted, features, probe


class Net(nn.Module):
    def __init__(self, inputs=4, hidden=6, outputs=2):
        super().__init__()
        self.up, self.down = nn.Linear(inputs, hidden), nn.Linear(hidden, outputs)

    def forward(self, x):
        return self.down(torch.tanh(self.up(x)))


@pytest.fixture
def net():
    torch.manual_seed(0)
    return Net().eval()


@pytest.fixture(scope="module", params=["phi3", "tied"])
def decoder(request):
    torch.manual_seed(0)
    config = ModelConfig(
        vocab_size=20,
        hidden_size=16,
        layers=2,
        heads=2,
        intermediate_size=24,
        max_position=16,
        tied_embeddings=request.param == "tied",
        init_std=0.3,
    )
    return Decoder(config).eval()


def points(n, seed=1):
    return (torch.randn(n, 4, generator=torch.Generator().manual_seed(seed)),)


def prompts(n, seed=1):
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(20, (n, 7), generator=generator)
    return tokens, torch.randint(3, 7, (n,), generator=generator)


def one_at_a_time(module, inputs):
    """(n, outputs, P) by plain autograd."""
    rows = []
    for i in range(len(inputs[0])):
        out = module(*[t[i : i + 1] for t in inputs])[0]
        rows.append([])
        for value in out:
            parts = torch.autograd.grad(
                value, list(module.parameters()), retain_graph=True, allow_unused=True
            )
            flat_parts = [
                torch.zeros_like(p).flatten() if g is None else g.flatten()
                for g, p in zip(parts, module.parameters(), strict=True)
            ]
            rows[-1].append(torch.cat(flat_parts))
    return torch.stack([torch.stack(row) for row in rows]).double()


def by_definition(module, train, test, kind):
    g, h = one_at_a_time(module, test), one_at_a_time(module, train)
    g = g.sign() if kind in ("signgd", "asigngd_flip") else g
    h = h.sign() if kind in ("signgd", "asigngd") else h
    return torch.einsum("acp,bdp->acbd", g, h)


@pytest.mark.parametrize("kind", KINDS)
def test_kernels_equal_autograd_one_example_at_a_time(net, kind):
    train, test = points(5), points(3, seed=2)
    found = empirical_kernels(net, train, test, kinds=(kind,), chunk=2)[kind]
    torch.testing.assert_close(found, by_definition(net, train, test, kind), rtol=1e-4, atol=1e-5)


def test_kernels_of_a_language_model(decoder):
    """The decoder's own backward passes are for training; here plain formulas must be differentiated."""
    module = Prompted(decoder, (3, 7, 11))
    train, test = prompts(3), prompts(2, seed=2)
    found = empirical_kernels(module, train, test, kinds=("sgd", "signgd"))
    for kind, kernel in found.items():
        torch.testing.assert_close(
            kernel, by_definition(module, train, test, kind), rtol=2e-3, atol=2e-3 * kernel.abs().max().item()
        )
    jvp = kernel_by_jvp(module, train, test)
    torch.testing.assert_close(jvp, found["sgd"], rtol=1e-3, atol=1e-4)


def test_padding_behind_the_prompt_changes_nothing(decoder):
    module = Prompted(decoder, (3, 7))
    tokens, last = prompts(4)
    other = torch.where(torch.arange(7) > last[:, None], (tokens + 5) % 20, tokens)
    torch.testing.assert_close(module(tokens, last), module(other, last))
    assert not torch.equal(tokens, other)


def test_a_linear_model_has_the_kernel_of_its_inputs():
    model = nn.Linear(4, 1, bias=False).eval()
    train, test = points(5), points(3, seed=2)
    found = flat(empirical_kernels(model, train, test)["sgd"])
    torch.testing.assert_close(found, (test[0] @ train[0].T).double(), rtol=1e-5, atol=1e-6)


def test_memory_is_bounded_by_passes_with_the_same_result(net):
    train, test = points(7), points(3, seed=2)
    count = sum(p.numel() for p in net.parameters())
    counted = []
    small = empirical_kernels(
        net,
        train,
        test,
        kinds=("sgd", "asigngd"),
        chunk=1,
        memory_bytes=4 * count * 2 * 2 * 4,
        progress=counted.append,
    )
    plan = plan_kernel(count, 2, 7, 3, memory_bytes=4 * count * 2 * 2 * 4, chunk=1, signs=True)
    assert (plan.rows, plan.passes) == (2, 4)
    assert plan.bytes <= 4 * count * 2 * 2 * 4
    assert sum(counted) == plan.gradients == 7 + 4 * 3
    large = empirical_kernels(net, train, test, kinds=("sgd", "asigngd"))
    for kind in small:
        torch.testing.assert_close(small[kind], large[kind], rtol=1e-5, atol=1e-6)


def test_too_little_memory_is_refused_before_starting(net):
    with pytest.raises(HornbookError, match=r"memory_bytes is 100.*Give at least 1,080"):
        plan_kernel(10, 1, 5, 5, memory_bytes=100, chunk=13, signs=False)
    with pytest.raises(HornbookError, match="Give at least"):
        empirical_kernels(net, points(2), memory_bytes=10)


def test_a_plan_fits_its_own_chunk_and_counts_projected_rows():
    plan = plan_kernel(1000, 1, 64, 100, memory_bytes=200_000, chunk=0, signs=False)
    assert plan.chunk == 12
    assert plan.bytes <= 200_000
    folded = plan_kernel(1000, 1, 64, 100, memory_bytes=200_000, chunk=0, signs=True, project=100)
    assert (folded.rows, folded.passes) == (64, 1)
    assert folded.bytes <= 200_000


def test_projected_kernels_are_right_to_the_stated_error(net):
    """An entry errs by about sqrt(2 / size) of the norms; none here by five times that."""
    train, test = points(7), points(3, seed=2)
    exact = {kind: flat(empirical_kernels(net, train, test, kinds=(kind,))[kind]) for kind in KINDS}
    own = {
        s: flat(empirical_kernels(net, s, kinds=("sgd", "signgd"))["sgd"]).diagonal() for s in (train, test)
    }
    signs = {
        s: flat(empirical_kernels(net, s, kinds=("signgd",))["signgd"]).diagonal() for s in (train, test)
    }
    for size in (11, 37, 101):
        found = empirical_kernels(net, train, test, kinds=KINDS, project=size)
        for kind in KINDS:
            left = signs[test] if kind in ("signgd", "asigngd_flip") else own[test]
            right = signs[train] if kind in ("signgd", "asigngd") else own[train]
            scale = (left[:, None] * right[None]).sqrt() * (2 / size) ** 0.5
            assert ((flat(found[kind]) - exact[kind]).abs() < 5 * scale).all(), (kind, size)


def test_projection_keeps_inner_products_on_average():
    u, v = torch.randn(2, 1, 50, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    folds = [Projection(50, 7, seed=seed) for seed in range(2000)]
    products = torch.tensor([float((fold(u) * fold(v)).sum()) for fold in folds])
    error = products.std() / len(folds) ** 0.5
    assert abs(products.mean() - float((u * v).sum())) < 5 * error
    bound = (u.square().sum() * v.square().sum() + (u * v).sum() ** 2) / 7
    assert products.var() < 1.5 * bound


def test_a_prime_is_taken_and_a_senseless_projection_refused():
    assert [largest_prime(n) for n in (2, 4, 100, 4096)] == [2, 3, 97, 4093]
    with pytest.raises(HornbookError, match="project is 1; it must be 2 or more"):
        Projection(10, 1)


@pytest.mark.parametrize("rule", ["sgd", "adam"])
def test_the_kernel_predicts_one_step_of_the_optimizer(rule):
    """What the kernels are for (equations of section 4): -eta chi K_SGD and -eta sign(chi) K_ASignGD."""
    torch.manual_seed(0)
    net = Net(outputs=1).double().eval()
    train, test = (points(1)[0].double(),), (points(4, seed=2)[0].double(),)
    rate = 1e-6
    kind = "sgd" if rule == "sgd" else "asigngd"
    kernel = flat(empirical_kernels(net, train, test, kinds=(kind,))[kind])[:, 0]
    before = net(*test)[:, 0].detach()
    moved = copy.deepcopy(net)
    optimizer = (
        torch.optim.SGD(moved.parameters(), lr=rate)
        if rule == "sgd"
        else torch.optim.Adam(moved.parameters(), lr=rate, eps=1e-300)
    )
    out = moved(*train)[0, 0]
    loss = nn.functional.softplus(-out)  # y = +1, so chi = -sigmoid(-f)
    chi = -torch.sigmoid(-out.detach())
    loss.backward()
    optimizer.step()
    change = moved(*test)[:, 0].detach() - before
    expected = -rate * (chi if rule == "sgd" else chi.sign()) * kernel
    torch.testing.assert_close(change, expected, rtol=1e-3, atol=1e-12)


def test_linearised_is_first_order(net):
    inputs = points(3)
    torch.manual_seed(1)
    direction = {name: torch.randn_like(p) for name, p in net.named_parameters()}
    errors = []
    for size in (1e-2, 2e-2):
        moved = {name: p.detach() + size * direction[name] for name, p in net.named_parameters()}
        actual = torch.func.functional_call(net, moved, inputs)
        errors.append((actual - linearised(net, inputs, moved)).abs().max().item())
        assert (actual - net(*inputs)).abs().max() > 5 * errors[-1]
    assert errors[1] / errors[0] == pytest.approx(4, rel=0.35)


def test_kernel_least_squares_is_ridge_regression():
    generator = torch.Generator().manual_seed(0)
    x, z = (torch.randn(n, 3, generator=generator, dtype=torch.float64) for n in (8, 4))
    y = torch.randn(8, generator=generator, dtype=torch.float64)
    top = torch.linalg.matrix_norm(x @ x.T, 2)
    weights = torch.linalg.solve(x.T @ x + 0.1 * top * torch.eye(3), x.T @ y)
    torch.testing.assert_close(solve_kernel(x @ x.T, z @ x.T, y, ridge=0.1), z @ weights)
    f0, g0 = x @ weights.flip(0), z @ weights.flip(0)
    started = solve_kernel(x @ x.T, z @ x.T, y, ridge=0.1, start_train=f0, start_test=g0, start_scale=10)
    plain = solve_kernel(x @ x.T, z @ x.T, y - f0 / 10, ridge=0.1)
    torch.testing.assert_close(started, plain + g0 / 10)
    ignored = solve_kernel(
        x @ x.T, z @ x.T, y, ridge=0.1, start_train=f0, start_test=g0, start_scale=math.inf
    )
    torch.testing.assert_close(ignored, z @ weights)


def test_asymmetric_solver_on_a_symmetric_kernel_is_the_symmetric_machine():
    """Then alpha = beta solve (I / gamma + H) alpha = 1."""
    generator = torch.Generator().manual_seed(0)
    x, z = (torch.randn(n, 3, generator=generator, dtype=torch.float64) for n in (8, 4))
    y = torch.randint(2, (8,), generator=generator).double() * 2 - 1
    k, t = x @ x.T, z @ x.T
    scale = torch.linalg.matrix_norm(k, 2)
    alpha = torch.linalg.solve(torch.eye(8) / 2.0 + y[:, None] * k / scale * y, torch.ones(8).double())
    expected = t / scale @ (alpha * y)
    for mix in (0.0, 0.5, 1.0):
        torch.testing.assert_close(solve_asymmetric(k, t, t, y, gamma=2.0, mix=mix), expected)


def test_probe_equals_scikit_learn():
    from sklearn.linear_model import LogisticRegression

    generator = torch.Generator().manual_seed(0)
    x = torch.randn(40, 5, generator=generator)
    y = torch.where(x[:, 0] + torch.randn(40, generator=generator) > 0, 1, -1)
    weight, bias = probe(x, y, penalty=0.5)
    reference = LogisticRegression(C=2.0, tol=1e-10, max_iter=10_000).fit(x.numpy(), y.numpy())
    torch.testing.assert_close(weight, torch.tensor(reference.coef_[0]).float(), rtol=1e-3, atol=1e-4)
    assert bias.item() == pytest.approx(reference.intercept_[0], abs=1e-3)


def test_headed_starts_at_the_probe(decoder):
    tokens, last = prompts(6)
    weight, bias = torch.randn(16), torch.tensor(0.3)
    module = Headed(decoder, weight, bias)
    torch.testing.assert_close(module(tokens, last)[:, 0], features(decoder, tokens, last) @ weight + bias)


def test_wrong_use_is_named(net, decoder):
    with pytest.raises(HornbookError, match="training mode"):
        empirical_kernels(copy.deepcopy(net).train(), points(2))
    with pytest.raises(HornbookError, match="kinds is"):
        empirical_kernels(net, points(2), kinds=("adam",))
    with pytest.raises(HornbookError, match="no parameter 'up'"):
        empirical_kernels(net, points(2), parameters=("up",))
    with pytest.raises(HornbookError, match="two different label words"):
        Prompted(decoder, (3, 3))
    broken = copy.deepcopy(net)
    nn.init.constant_(broken.up.weight, math.nan)
    with pytest.raises(HornbookError, match="examples 0 to 1 are not finite"):
        empirical_kernels(broken, points(2))


def test_relative_change_is_the_papers_distance():
    assert relative_change(torch.tensor([1.0, -2.0]), torch.tensor([2.0, -2.0])) == pytest.approx(0.5)
