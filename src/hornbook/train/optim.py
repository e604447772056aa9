"""AdamW, Muon, and which of them trains which parameter.

Muon (Jordan et al. 2024) replaces the momentum of a weight matrix by the nearest semi-orthogonal matrix: all
directions are learned at the same speed. It is for hidden matrices; embeddings, the head, norms and biases
stay with AdamW. A fused projection (query-key-value, gate-up) is several matrices in one tensor: with
`split_fused` each is orthogonalised by itself, because an orthogonal stack would make them share one budget
of directions although they multiply nothing in common.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from hornbook.train.parallel import World, held, whole
from hornbook.train.parametrization import Factors
from hornbook.train.settings import OptimizerSettings

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
"""Coefficients of the quintic iteration (Jordan et al. 2024): steepest at 0, values end within 0.7 to 1.2."""

_GATHERED_NUMBERS = 1 << 26
"""Of gradients in pieces at most so many numbers are put together at once (256 MB)."""


def orthogonalise(x: Tensor, *, steps: int = 5, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    """An approximate U V^T of x = U S V^T for every matrix of a stack (n, rows, columns), by Newton-Schulz.

    The iteration runs on the smaller Gram matrix and in `dtype`; the result has that dtype. Singular values
    come out between about 0.7 and 1.2, which is as good as 1 for an update direction.
    """
    a, b, c = NEWTON_SCHULZ
    x = x / x.float().norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)
    x = x.to(dtype)
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.mT
    x = x.contiguous()
    for _ in range(steps):
        gram = torch.bmm(x, x.mT)
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


@dataclass(frozen=True)
class Matrix:
    """One weight matrix inside a parameter: its rows `first` to `last`.

    rate, decay: factors on the learning rate and the weight decay of the run.
    """

    parameter: nn.Parameter
    first: int
    last: int
    rate: float = 1.0
    decay: float = 1.0

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns)."""
        return self.last - self.first, self.parameter.shape[1]


class Muon:
    """Momentum, orthogonalised: Nesterov momentum in fp32, Newton-Schulz on stacks of equal shapes.

    Args:
        matrices: what to train, in pieces that each count as one matrix.
        scale: "rms" or "spectral", see `OptimizerSettings.muon_scale`.
        dtype: of the iteration; bf16 where the processor multiplies it in hardware, else fp32.
        world: with several ranks each orthogonalises its share, and all add up the updates.
    """

    def __init__(
        self,
        matrices: Iterable[Matrix],
        *,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        scale: str = "rms",
        dtype: torch.dtype = torch.bfloat16,
        world: World | None = None,
    ) -> None:
        self.momentum, self.weight_decay, self.scale, self.dtype = momentum, weight_decay, scale, dtype
        self.world = world or World()
        self.stacks: dict[tuple[int, int], list[Matrix]] = defaultdict(list)
        for matrix in matrices:
            self.stacks[matrix.shape].append(matrix)
        self.state: dict[nn.Parameter, Tensor] = {
            matrix.parameter: torch.zeros_like(matrix.parameter)
            for stack in self.stacks.values()
            for matrix in stack
        }

    def factor(self, rows: int, columns: int) -> float:
        """What the orthogonal update is multiplied by, besides the learning rate."""
        if self.scale == "rms":
            return float(0.2 * max(rows, columns) ** 0.5)
        return float(max(1.0, rows / columns) ** 0.5)

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """One update of every matrix that has a gradient. Gradients are overwritten."""
        for parameter, buffer in self.state.items():
            if parameter.grad is not None:
                own, gradient = held(buffer)[0], held(parameter.grad)[0]
                own.lerp_(gradient, 1 - self.momentum)
                gradient.lerp_(own, self.momentum)
        for shape, matrices in self.stacks.items():
            live = [matrix for matrix in matrices if matrix.parameter.grad is not None]
            size = self._at_once(live, shape)
            for first in range(0, len(live), size):
                part = live[first : first + size]
                for matrix, update in zip(part, self._orthogonal(part), strict=True):
                    rows, update = _own_rows(matrix, update)
                    rate = learning_rate * matrix.rate
                    if self.weight_decay:
                        rows.mul_(1 - rate * matrix.decay * self.weight_decay)
                    rows.add_(update, alpha=-rate * self.factor(*shape))

    def _at_once(self, matrices: list[Matrix], shape: tuple[int, int]) -> int:
        """How many matrices are gathered at once: all where they are whole, few where they lie in pieces."""
        if not matrices or not hasattr(matrices[0].parameter, "full_tensor"):
            return max(1, len(matrices))
        return max(self.world.size, _GATHERED_NUMBERS // (shape[0] * shape[1]))

    def _orthogonal(self, matrices: list[Matrix]) -> Tensor:
        """Updates of all `matrices`; every rank orthogonalises its share of them, as whole matrices."""
        share = -(-len(matrices) // self.world.size)
        mine = slice(self.world.rank * share, min((self.world.rank + 1) * share, len(matrices)))
        pieces = [whole(m.parameter.grad)[m.first : m.last] for m in matrices if m.parameter.grad is not None]
        grads = pieces[mine]
        if self.world.size == 1:
            return orthogonalise(torch.stack(grads), dtype=self.dtype)
        device = matrices[0].parameter.device
        updates = torch.zeros(len(matrices), *matrices[0].shape, dtype=self.dtype, device=device)
        if grads:
            updates[mine] = orthogonalise(torch.stack(grads), dtype=self.dtype)
        self.world.sum(updates)
        return updates


def _own_rows(matrix: Matrix, update: Tensor) -> tuple[Tensor, Tensor]:
    """The rows of a matrix that this rank holds (all where it is not in pieces), and their update."""
    own, begin = held(matrix.parameter)
    first = min(max(matrix.first, begin), begin + len(own))
    last = max(first, min(matrix.last, begin + len(own)))
    return own[first - begin : last - begin], update[first - matrix.first : last - matrix.first]


class Optimizer:
    """AdamW and, if asked for, Muon over one model, under one learning-rate factor.

    groups: {"muon": names, "decayed": names, "plain": names} of the parameters, for messages and tests.
    """

    def __init__(
        self,
        model: nn.Module,
        settings: OptimizerSettings,
        *,
        bf16: bool = False,
        world: World | None = None,
        factors: Mapping[str, Factors] | None = None,
    ) -> None:
        """factors: by parameter name, what a parametrization multiplies rate, epsilon and decay with."""
        self.settings, self.factors = settings, factors or {}
        self.names = {
            parameter: name for name, parameter in model.named_parameters() if parameter.requires_grad
        }
        muon, decayed, plain = _groups(model, settings)
        self.groups = {
            "muon": [self.names[p] for p in muon],
            "decayed": [self.names[p] for p in decayed],
            "plain": [self.names[p] for p in plain],
        }
        adam = [*self._adam_groups(decayed, settings.weight_decay), *self._adam_groups(plain, 0.0)]
        self.adamw: torch.optim.AdamW | None = None
        if adam:
            self.adamw = torch.optim.AdamW(
                adam,
                lr=settings.learning_rate,
                betas=(settings.beta1, settings.beta2),
                eps=settings.epsilon,
                fused=True,
            )
        self.muon: Muon | None = None
        if muon:
            rows = logical_rows(model) if settings.split_fused else {}
            matrices = [piece for p in muon for piece in _pieces(p, rows.get(self.names[p]), self._row(p))]
            self.muon = Muon(
                matrices,
                momentum=settings.muon_momentum,
                weight_decay=settings.weight_decay,
                scale=settings.muon_scale,
                dtype=torch.bfloat16 if bf16 else torch.float32,
                world=world,
            )

    def _row(self, parameter: nn.Parameter) -> Factors:
        return self.factors.get(self.names[parameter], Factors())

    def _adam_groups(self, parameters: list[nn.Parameter], weight_decay: float) -> list[dict[str, Any]]:
        """One group for all parameters that share their factors: a fused update costs by the group."""
        shared: dict[tuple[float, float, float], list[nn.Parameter]] = defaultdict(list)
        for parameter in parameters:
            row = self._row(parameter)
            shared[row.learning_rate, row.epsilon, row.weight_decay if weight_decay else 1.0].append(
                parameter
            )
        return [
            {
                "params": group,
                "rate": rate,
                "eps": self.settings.epsilon * epsilon,
                "weight_decay": weight_decay * decay,
            }
            for (rate, epsilon, decay), group in shared.items()
        ]

    @property
    def parameters(self) -> list[nn.Parameter]:
        """All parameters that are trained."""
        return list(self.names)

    def step(self, factor: float) -> None:
        """One update at `factor` times the peak learning rates, from `.grad` of every parameter."""
        settings = self.settings
        if self.adamw is not None:
            for group in self.adamw.param_groups:
                group["lr"] = settings.learning_rate * factor * group["rate"]
            self.adamw.step()
        if self.muon is not None:
            peak = settings.muon_learning_rate
            self.muon.step((settings.learning_rate if peak is None else peak) * factor)

    def blank(self) -> dict[str, Tensor]:
        """Tensors like those that `tensors` will give after a step, in the pieces the parameters lie in."""
        found: dict[str, Tensor] = {}
        for group in self.adamw.param_groups if self.adamw is not None else ():
            for parameter in group["params"]:
                name = self.names[parameter]
                found[f"{name}.first"] = torch.zeros_like(parameter)
                found[f"{name}.second"] = torch.zeros_like(parameter)
                found[f"{name}.step"] = torch.zeros(())
        return found | self.tensors()

    def zero_grad(self) -> None:
        """Drops all gradients."""
        for parameter in self.names:
            parameter.grad = None

    def tensors(self) -> dict[str, Tensor]:
        """The optimizer's memory by name: `<parameter>.<first|second|step|momentum>`."""
        found: dict[str, Tensor] = {}
        if self.adamw is not None:
            for parameter, state in self.adamw.state.items():
                name = self.names[parameter]  # type: ignore[index]
                found[f"{name}.first"] = state["exp_avg"]
                found[f"{name}.second"] = state["exp_avg_sq"]
                found[f"{name}.step"] = state["step"]
        if self.muon is not None:
            for parameter, buffer in self.muon.state.items():
                found[f"{self.names[parameter]}.momentum"] = buffer
        return found

    @torch.no_grad()
    def load(self, tensors: dict[str, Tensor]) -> None:
        """Puts back what `tensors` gave. Raises KeyError for a name that does not belong here."""
        by_name = {name: parameter for parameter, name in self.names.items()}
        for key, value in tensors.items():
            name, _, kind = key.rpartition(".")
            parameter = by_name[name]
            if kind == "momentum":
                if self.muon is None:
                    raise KeyError(key)
                self.muon.state[parameter].copy_(value)
                continue
            if self.adamw is None:
                raise KeyError(key)
            state: dict[str, Any] = self.adamw.state[parameter]
            stored = {"first": "exp_avg", "second": "exp_avg_sq", "step": "step"}[kind]
            state[stored] = value.clone() if kind == "step" else value.to(parameter.device, copy=True)


def _groups(
    model: nn.Module, settings: OptimizerSettings
) -> tuple[list[nn.Parameter], list[nn.Parameter], list[nn.Parameter]]:
    """Parameters for Muon, for AdamW with weight decay, for AdamW without; each once."""
    embeddings = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    heads = {id(m.weight) for name, m in model.named_modules() if isinstance(m, nn.Linear) and _is_head(name)}
    muon: list[nn.Parameter] = []
    decayed: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    for parameter in model.parameters():
        if not parameter.requires_grad:
            continue
        if parameter.ndim < 2 or (id(parameter) in embeddings and not settings.decay_embeddings):
            plain.append(parameter)
        elif settings.kind == "muon" and parameter.ndim == 2 and id(parameter) not in embeddings | heads:
            muon.append(parameter)
        else:
            decayed.append(parameter)
    return muon, decayed, plain


def _is_head(name: str) -> bool:
    return name.rpartition(".")[2] in ("lm_head", "head")


def logical_rows(model: nn.Module) -> dict[str, list[int]]:
    """Row counts of the matrices inside each fused weight, by parameter name."""
    rows: dict[str, list[int]] = {}
    for name, module in model.named_modules():
        prefix = f"{name}." if name else ""
        if hasattr(module, "qkv_proj"):
            width: int = module.head_dim
            rows[f"{prefix}qkv_proj.weight"] = [
                module.heads * width,
                module.kv_heads * width,
                module.kv_heads * width,
            ]
        if hasattr(module, "gate_up_proj"):
            half = module.gate_up_proj.weight.shape[0] // 2
            rows[f"{prefix}gate_up_proj.weight"] = [half, half]
    return rows


def _pieces(parameter: nn.Parameter, rows: list[int] | None, row: Factors) -> list[Matrix]:
    pieces, first = [], 0
    for count in rows or [parameter.shape[0]]:
        pieces.append(Matrix(parameter, first, first + count, row.learning_rate, row.weight_decay))
        first += count
    return pieces
