"""The residual networks of Tensor Programs VI, many replicas at a time.

    x^0 = xi U,   x^l = x^{l-1} + a k^-alpha MS(phi(x^{l-1} W^l)),   f = x^L V / m        (eqs. 1 to 3)

MS subtracts the mean over coordinates; n = width, L = depth, m = n / base width, k = L / base depth. Weights
multiply from the right, so W^l is (fan-in, fan-out). A replica is one network with its own seed and learning
rate; all replicas of a sweep are one batched program, in which none can touch another.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from hornbook.errors import HornbookError
from hornbook.train.parametrization import Factors, Parametrization, Role, find_parametrization

Nonlinearity = Literal["relu", "abs", "identity", "tanh"]
Order = Literal["post", "pre"]


@dataclass(frozen=True, kw_only=True)
class ResidualSettings:
    """One residual network and how it is trained.

    inputs, outputs:  sizes of xi and f.
    base_width, base_depth: where the numbers below were tuned; 0 takes width (so that m = 1).
    order:            "post": phi(x W), the paper's; "pre": phi(x) W, which loses feature diversity.
    block_depth:      linear layers in a block, 1 or 2 (phi(phi(x W1) W2)). Depth counts blocks.
    layer_norm:       normalise x (no gain) before the block's first W.
    block_multiplier: the paper's constant a.
    optimizer:        "adam" (beta1, beta2, epsilon) or plain "sgd".
    train_input:      whether U is trained; output_learning_rate: V's own rate at base width, not swept.
    mean_subtraction: MS; without it the mean of relu or abs adds up coherently over depth.
    """

    inputs: int
    outputs: int
    width: int = 64
    depth: int = 4
    base_width: int = 0
    base_depth: int = 4
    parametrization: str = "depth_mup"
    nonlinearity: Nonlinearity = "relu"
    order: Order = "post"
    block_depth: int = 1
    layer_norm: bool = False
    mean_subtraction: bool = True
    block_multiplier: float = 1.0
    optimizer: Literal["adam", "sgd"] = "adam"
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-12
    train_input: bool = False
    output_learning_rate: float = 1e-2

    def __post_init__(self) -> None:
        find_parametrization(self.parametrization)
        for name in ("inputs", "outputs", "width", "depth", "base_depth"):
            if getattr(self, name) < 1:
                raise HornbookError(f"{name} is {getattr(self, name)}; it must be 1 or more.")
        if self.base_width < 0:
            raise HornbookError(f"base_width is {self.base_width}; it must be 0 (the width itself) or more.")
        if self.block_depth not in (1, 2):
            raise HornbookError(f"block_depth is {self.block_depth}; it must be 1 or 2.")
        for name, choices in (
            ("nonlinearity", get_args(Nonlinearity)),
            ("order", get_args(Order)),
            ("optimizer", ("adam", "sgd")),
        ):
            if getattr(self, name) not in choices:
                raise HornbookError(f"{name} is {getattr(self, name)!r}; accepted are {', '.join(choices)}.")

    @property
    def rule(self) -> Parametrization:
        """The parametrization itself."""
        return find_parametrization(self.parametrization)

    @property
    def m(self) -> float:
        """Width over base width."""
        return self.width / (self.base_width or self.width)

    @property
    def k(self) -> float:
        """Depth over base depth."""
        return self.depth / self.base_depth

    def factors(self, role: Role) -> Factors:
        """The table's row for a role at this width and depth."""
        return self.rule.factors(role, m=self.m, k=self.k, rule=self.optimizer)

    @property
    def branch(self) -> float:
        """a k^-alpha."""
        return self.block_multiplier * self.rule.branch(self.k)


class ResidualReplicas:
    """R residual networks of one shape, one per seed.

    Attributes:
        input (R, inputs, n), hidden (R, depth * block_depth, n, n), output (R, n, outputs): the weights,
            leaves of autograd. Equal seeds give equal base weights, whatever the parametrization.
    """

    def __init__(self, settings: ResidualSettings, seeds: Sequence[int]) -> None:
        self.settings = settings
        n, count = settings.width, settings.depth * settings.block_depth
        base = settings.base_width or n
        shapes = {
            "input": ((settings.inputs, n), settings.inputs**-0.5),
            "hidden": ((count, n, n), base**-0.5),
            "output": ((n, settings.outputs), base**-0.5),
        }
        drawn: dict[str, Tensor] = {}
        unique = {seed: torch.Generator().manual_seed(seed) for seed in dict.fromkeys(seeds)}
        for role, (shape, std) in shapes.items():
            scale = std * settings.factors(role).init  # type: ignore[arg-type]
            by_seed = {seed: torch.randn(shape, generator=g) * scale for seed, g in unique.items()}
            drawn[role] = torch.stack([by_seed[seed] for seed in seeds])
        self.input = drawn["input"].requires_grad_(settings.train_input)
        self.hidden = drawn["hidden"].requires_grad_()
        self.output = drawn["output"].requires_grad_()

    def __call__(self, xi: Tensor, trace: list[Tensor] | None = None) -> Tensor:
        """f, (R, batch, outputs), of xi (batch, inputs) or (R, batch, inputs).

        `trace` receives x^0 to x^L, each (R, batch, n).
        """
        s = self.settings
        x = xi @ self.input
        if trace is not None:
            trace.append(x)
        layers = iter(self.hidden.unbind(1))
        for _ in range(s.depth):
            z = torch.nn.functional.layer_norm(x, x.shape[-1:]) if s.layer_norm else x
            for _ in range(s.block_depth):
                weight = next(layers)
                z = _phi(z @ weight, s) if s.order == "post" else _phi(z, s) @ weight
            if s.mean_subtraction:
                z = z - z.mean(-1, keepdim=True)
            x = torch.add(x, z, alpha=s.branch)
            if trace is not None:
                trace.append(x)
        return (x @ self.output) * s.factors("output").multiplier


def _phi(z: Tensor, settings: ResidualSettings) -> Tensor:
    match settings.nonlinearity:
        case "relu":
            return torch.relu(z)
        case "abs":
            return z.abs()
        case "tanh":
            return torch.tanh(z)
        case _:
            return z


class ReplicaOptimizer:
    """Adam or SGD over all replicas at once, each with its own learning rate for the hidden weights.

    The rate of U follows the hidden rate through the table; V keeps `output_learning_rate`.
    """

    def __init__(self, network: ResidualReplicas, learning_rates: Tensor) -> None:
        """learning_rates: (R,), at base width and depth."""
        s = network.settings
        self.settings, self.steps = s, 0
        fixed = torch.full_like(learning_rates, s.output_learning_rate)
        self.groups: list[tuple[Tensor, Tensor, float]] = []
        for role, weight, rate in (
            ("input", network.input, learning_rates),
            ("hidden", network.hidden, learning_rates),
            ("output", network.output, fixed),
        ):
            if weight.requires_grad:
                factors = s.factors(role)  # type: ignore[arg-type]
                shaped = (rate * factors.learning_rate).view(-1, *[1] * (weight.dim() - 1))
                self.groups.append((weight, shaped, s.epsilon * factors.epsilon))
        if s.optimizer == "adam":
            self.first = [torch.zeros_like(weight) for weight, _, _ in self.groups]
            self.second = [torch.zeros_like(weight) for weight, _, _ in self.groups]

    @torch.no_grad()
    def step(self) -> None:
        """One update from `.grad`, which is dropped."""
        s = self.settings
        self.steps += 1
        for index, (weight, rate, epsilon) in enumerate(self.groups):
            grad = weight.grad
            if grad is None:
                raise ValueError("step() before backward()")
            if s.optimizer == "sgd":
                weight.addcmul_(rate, grad, value=-1)
            else:
                first, second = self.first[index], self.second[index]
                first.lerp_(grad, 1 - s.beta1)
                second.mul_(s.beta2).addcmul_(grad, grad, value=1 - s.beta2)
                spread = (second / (1 - s.beta2**self.steps)).sqrt_().add_(epsilon)
                weight.addcdiv_(first * rate, spread, value=-1 / (1 - s.beta1**self.steps))
            weight.grad = None


def train_replicas(
    settings: ResidualSettings,
    x: Tensor,
    y: Tensor,
    *,
    learning_rates: Sequence[float],
    seeds: Sequence[int] = (0,),
    steps: int = 200,
    batch: int = 64,
    noise: float = 0.0,
) -> Tensor:
    """Cross-entropy of every step, (steps, seeds, learning rates); NaN or inf from where a replica diverged.

    x: (examples, inputs), y: (examples,) class numbers. noise: standard deviation of normal noise added to
    every example anew, so that a small set is not memorised. A seed fixes initial weights, the order of the
    examples and their noise, so the learning rates of one seed are compared on equal terms.

    Raises:
        HornbookError: data that do not fit the settings.
    """
    check_data(settings, x, y)
    table = torch.tensor(learning_rates, dtype=torch.float32)
    replicas = [seed for seed in seeds for _ in learning_rates]
    network = ResidualReplicas(settings, replicas)
    optimizer = ReplicaOptimizer(network, table.repeat(len(seeds)))
    orders = [torch.Generator().manual_seed(seed + 1_000_003) for seed in seeds]
    losses = torch.empty(steps, len(replicas))
    for step in range(steps):
        rows = torch.stack([torch.randint(len(x), (batch,), generator=order) for order in orders])
        shown = x[rows]
        if noise:
            shown += noise * torch.stack([torch.randn(shown.shape[1:], generator=order) for order in orders])
        shown, rows = (t.repeat_interleave(len(learning_rates), dim=0) for t in (shown, rows))
        each = replica_losses(network(shown), y[rows])
        losses[step] = each.detach()
        torch.autograd.backward(each.sum())
        optimizer.step()
    return losses.view(steps, len(seeds), len(learning_rates))


def replica_losses(logits: Tensor, y: Tensor) -> Tensor:
    """Mean cross-entropy of each replica, (R,): logits (R, batch, classes), y (R, batch)."""
    flat = torch.nn.functional.cross_entropy(logits.flatten(0, 1), y.flatten(), reduction="none")
    return flat.view(y.shape).mean(1)


def check_data(settings: ResidualSettings, x: Tensor, y: Tensor) -> None:
    """Refuses data that do not fit the settings.

    Raises:
        HornbookError: naming the shape or value and what is accepted.
    """
    if x.dim() != 2 or x.shape[1] != settings.inputs or y.shape != x.shape[:1] or not len(x):
        raise HornbookError(
            f"examples have shape {tuple(x.shape)} and labels {tuple(y.shape)}; the network takes "
            f"(examples, {settings.inputs}) and (examples,)."
        )
    if not torch.isfinite(x).all():
        raise HornbookError("examples hold NaN or infinity; clean them before training.")
    if y.min() < 0 or y.max() >= settings.outputs:
        raise HornbookError(
            f"labels run from {int(y.min())} to {int(y.max())}; the network has outputs 0 to "
            f"{settings.outputs - 1}."
        )


def expected_growth(settings: ResidualSettings) -> float:
    """E|x^L|^2 / E|x^0|^2 at initialisation in the limit of infinite width, for block depth 1, order "post".

    Each block adds independent noise of variance branch^2 c |x|^2 / n per coordinate, where c is the
    variance of phi of a standard normal: 1 for the identity, 1/2 - 1/(2 pi) for relu, 1 - 2/pi for abs.
    The ratio is (1 + branch^2 c)^L: bounded over depth exactly for alpha >= 1/2 (TP VI, section 5.2).
    """
    spread = {"identity": 1.0, "relu": 0.5 - 0.5 / math.pi, "abs": 1 - 2 / math.pi}
    if settings.nonlinearity not in spread or settings.block_depth != 1 or settings.order != "post":
        raise ValueError("the closed form is for block depth 1, order post and identity, relu or abs")
    if settings.layer_norm or not settings.mean_subtraction:
        raise ValueError("the closed form is for mean subtraction without layer norm")
    exponent = settings.depth * math.log1p(settings.branch**2 * spread[settings.nonlinearity])
    return math.exp(exponent) if exponent < 700 else math.inf
