"""How initialisation, multipliers and learning rates follow width and depth: one table for every network.

A network of width n and depth L (residual blocks) is tuned once at a base width and depth; with
m = n / base width and k = L / base depth the table below says what must change so that the tuned numbers
stay right. Sources: width, Yang et al. 2022 (Tensor Programs V, table 8); depth, Yang et al. 2023 (Tensor
Programs VI, table 1 and definition 4.2); CompleteP, Dey et al. 2025 (table 1); Muon, the spectral condition
of Yang, Simon, Bernstein 2023 (2310.17813). `hornbook.train.scaling` applies the table to a decoder.
"""

from dataclasses import dataclass
from typing import Literal

from hornbook.errors import HornbookError

Role = Literal["input", "hidden", "output", "hidden_vector", "vector"]
"""What a parameter is to width: input (finite to wide), hidden (wide to wide, inside a residual branch),
output (wide to finite), hidden_vector (gains and biases inside branches), vector (those outside)."""

Rule = Literal["adam", "sgd", "muon_rms", "muon_spectral"]
"""The optimizer. Muon's updates are orthogonal: of fixed spectral norm ("muon_spectral") or of the root mean
square of Adam's ("muon_rms", whose spectral norm grows with the root of the width); for hidden matrices."""


@dataclass(frozen=True, kw_only=True)
class Factors:
    """What to multiply the base network's numbers with, for one parameter.

    init: on the standard deviation of its initial values. multiplier: on its output in the forward pass.
    learning_rate, epsilon (Adam's), weight_decay (decoupled, PyTorch's: it is multiplied by the learning
    rate once more): on the optimizer's settings.
    """

    init: float = 1.0
    multiplier: float = 1.0
    learning_rate: float = 1.0
    epsilon: float = 1.0
    weight_decay: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Parametrization:
    """A rule for width (muP or the standard one) and two exponents for depth.

    alpha: every residual branch is multiplied by k^-alpha. gamma: the effective learning rate inside
    branches is multiplied by k^-gamma (for Adam and Muon that is the learning rate; for SGD the gradient
    brings k^-alpha by itself, so the learning rate gets k^(alpha - gamma)). width: "mup" or "standard"
    (initial variance 1 / fan-in, one learning rate for all).

    Phases of (alpha, gamma) (TP VI, section 5): alpha < 1/2 explodes at initialisation; alpha + gamma < 1 is
    unstable in training; alpha + gamma > 1 learns nothing in the limit; on the line, alpha = 1/2 keeps
    the layers most diverse and 1/2 < alpha <= 1 lets neighbouring layers become alike.
    """

    name: str
    alpha: float
    gamma: float
    width: Literal["mup", "standard"] = "mup"

    def branch(self, k: float) -> float:
        """What every residual branch is multiplied by, at depth k times the base depth."""
        return float(_scale("k", k) ** -self.alpha)

    def factors(self, role: Role, *, m: float, k: float, rule: Rule = "adam") -> Factors:
        """The row of the table for a parameter of `role`, at width m times and depth k times the base.

        The branch multiplier k^-alpha is not part of it: it belongs to the branch, not to a weight.
        """
        m, k = _scale("m", m), _scale("k", k)
        inside = role in ("hidden", "hidden_vector")
        depth = k ** (self.alpha - self.gamma) if rule == "sgd" else k**-self.gamma
        depth_rate = depth if inside else 1.0
        depth_epsilon = k**-self.alpha if inside else 1.0
        wide = m if self.width == "mup" else 1.0
        # Rates by width: vectors and inputs Adam 1, SGD m; matrices Adam 1/m, SGD 1, Muon 1 (spectral) or
        # m^-1/2 (rms); readout with the multiplier 1/m Adam 1, SGD m. Gradients: 1/m per entry for all but
        # the bare readout.
        matrix = {"adam": 1 / wide, "sgd": 1.0, "muon_rms": wide**-0.5, "muon_spectral": 1.0}
        rate = matrix[rule] if role == "hidden" else (wide if rule == "sgd" else 1.0)
        narrows = role == "hidden" or (role == "output" and self.width == "standard")
        learning_rate = rate * depth_rate
        return Factors(
            init=m**-0.5 if narrows else 1.0,
            multiplier=1 / wide if role == "output" else 1.0,
            learning_rate=learning_rate,
            epsilon=depth_epsilon / wide,
            weight_decay=1 / learning_rate,
        )


PARAMETRIZATIONS: dict[str, Parametrization] = {
    rule.name: rule
    for rule in (
        Parametrization(name="standard", alpha=0.0, gamma=0.0, width="standard"),
        Parametrization(name="mup", alpha=0.0, gamma=0.0),
        Parametrization(name="branch_only", alpha=0.5, gamma=0.0),
        Parametrization(name="depth_mup", alpha=0.5, gamma=0.5),
        Parametrization(name="completep", alpha=1.0, gamma=0.0),
    )
}
"""By name. "branch_only" scales the branches and forgets the learning rate. "completep" is the paper's ODE
scaling (alpha, gamma) = (1, 0), which Dey et al. recommend for blocks of more than one layer."""


def find_parametrization(name: str) -> Parametrization:
    """A parametrization by name.

    Raises:
        HornbookError: no such name.
    """
    if name not in PARAMETRIZATIONS:
        raise HornbookError(
            f"parametrization is {name!r}; accepted are {', '.join(repr(n) for n in PARAMETRIZATIONS)}."
        )
    return PARAMETRIZATIONS[name]


def _scale(name: str, value: float) -> float:
    if not value > 0:
        raise ValueError(f"{name}, the ratio to the base network, is {value}; it must be above 0")
    return float(value)
