"""Kernels of a network at its present parameters (Malladi, Wettig, Yu, Chen, Arora 2023, arXiv 2210.05643).

With g_c(x) the gradient of output c at x with respect to all trained parameters (section 3 of the paper):

    SGD (the empirical NTK):  K(x, z) = <g(x), g(z)>
    SignGD:                   K(x, z) = <sign g(x), sign g(z)>
    asymmetric SignGD:        K(x, z) = <g(x), sign g(z)>, z being the example that is trained on

One step of SGD at rate eta with output derivative chi(z) changes f(x) by -eta chi(z) K_SGD(x, z) to first
order; the first step of Adam changes it by -eta sign(chi(z)) K_ASignGD(x, z).

A network here is a module in evaluation mode that maps tensors with a leading batch dimension to outputs
(batch, outputs). Per-example gradients are streamed, and projected if asked for: memory is bounded and stated
before anything runs.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call, jacrev, jvp, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from hornbook.errors import HornbookError
from hornbook.theory.projection import Projection

Kind = Literal["sgd", "signgd", "asigngd", "asigngd_flip"]
KINDS: tuple[Kind, ...] = ("sgd", "signgd", "asigngd", "asigngd_flip")
"""asigngd_flip is <sign g(x), g(z)>: the roles exchanged, which the asymmetric solver needs too."""

Inputs = tuple[Tensor, ...]
_BLOCK = 2**20  # of a dot product: sums of signs stay exact in float32, others are added up in float64


@dataclass(frozen=True, kw_only=True)
class KernelPlan:
    """What a kernel will take.

    parameters: length of a gradient. rows: gradients held at a time (training side). passes: how often the
    other side's gradients are computed. chunk: examples differentiated at a time. gradients: how many in all.
    bytes: the most that is held.
    """

    parameters: int
    rows: int
    passes: int
    chunk: int
    gradients: int
    bytes: int


def trained_parameters(module: nn.Module, names: Iterable[str] | None = None) -> dict[str, Tensor]:
    """Parameters that require gradients (or the named ones), detached, tied ones once.

    Raises:
        HornbookError: a name that is not a parameter, or nothing to differentiate.
    """
    known = {
        name: p.detach() for name, p in module.named_parameters() if names is not None or p.requires_grad
    }
    if names is not None:
        wanted = list(names)
        missing = [name for name in wanted if name not in known]
        if missing:
            raise HornbookError(f"the network has no parameter {missing[0]!r}.")
        known = {name: known[name] for name in wanted}
    if not known:
        raise HornbookError("no parameter of the network requires a gradient; there is no kernel to compute.")
    return known


def plan_kernel(
    parameters: int,
    outputs: int,
    train: int,
    test: int,
    *,
    memory_bytes: float,
    chunk: int,
    signs: bool,
    project: int = 0,
) -> KernelPlan:
    """How gradients are held and repeated so that at most `memory_bytes` are used; chunk 0 fits itself.

    Raises:
        HornbookError: not even one training example and one chunk fit; the message says what would be needed.
    """
    one = 4 * parameters * outputs * (2 if signs else 1)
    row = 4 * project * outputs * (2 if signs else 1) if project else one
    # Half of the memory at most for what streams by; beyond 64 at a time an example costs more, not less.
    chunk = chunk or max(1, min(64, max(train, test), int(memory_bytes / 2 // (2 * one))))
    streamed = 2 * chunk * one + (parameters if project else 0)  # the chunk and what making it takes
    room = int((memory_bytes - streamed) // row)
    if room < 1:
        raise HornbookError(
            f"kernel: memory_bytes is {memory_bytes:,.0f}; one gradient takes {one:,} bytes and a chunk of "
            f"{chunk} {streamed:,}. Give at least {streamed + row:,}, a smaller chunk, fewer parameters, or "
            "project."
        )
    rows = min(train, room)
    passes = math.ceil(train / rows)
    return KernelPlan(
        parameters=parameters,
        rows=rows,
        passes=passes,
        chunk=chunk,
        gradients=train + passes * test,
        bytes=rows * row + streamed,
    )


def gradient_rows(module: nn.Module, inputs: Inputs, parameters: Mapping[str, Tensor]) -> Tensor:
    """g of every example and output, (batch, outputs, P), float32, in the order of `parameters`."""
    batched = vmap(jacrev(_single(module)), in_dims=(None, *[0] * len(inputs)))
    with _math_attention():
        jacobian = batched(dict(parameters), *inputs)
    leading = next(iter(jacobian.values())).shape[:2]
    return torch.cat([jacobian.pop(name).reshape(*leading, -1).float() for name in parameters], dim=-1)


def _single(module: nn.Module) -> Callable[..., Tensor]:
    """(parameters, one example) -> (outputs,)."""
    if module.training:
        raise HornbookError(
            "the network is in training mode: call .eval(), or dropout makes the kernel random."
        )
    buffers = {name: b.detach() for name, b in module.named_buffers()}

    def call(parameters: dict[str, Tensor], *example: Tensor) -> Tensor:
        out: Tensor = functional_call(module, (parameters, buffers), tuple(t[None] for t in example))
        return out[0]

    return call


def _math_attention() -> AbstractContextManager[Any]:
    """Fused attention has no rule for vmap and none for forward mode."""
    return sdpa_kernel(SDPBackend.MATH)


def _dot(left: Tensor, right: Tensor) -> Tensor:
    """left right^T for (a, P) and (b, P): blocks in float32, their sum in float64."""
    total = torch.zeros(len(left), len(right), dtype=torch.float64, device=left.device)
    for first in range(0, left.shape[1], _BLOCK):
        piece = slice(first, first + _BLOCK)
        total += (left[:, piece] @ right[:, piece].mT).double()
    return total.cpu()


def empirical_kernels(
    module: nn.Module,
    train: Inputs,
    test: Inputs | None = None,
    *,
    kinds: Sequence[Kind] = ("sgd",),
    parameters: Iterable[str] | None = None,
    memory_bytes: float = 2e9,
    chunk: int = 0,
    project: int = 0,
    progress: Callable[[int], None] | None = None,
) -> dict[Kind, Tensor]:
    """Kernels of test examples (rows) with training examples (columns), (n', C, n, C) float64 for each kind.

    Args:
        module: in evaluation mode; see the module's head.
        train, test: tuples of tensors with a leading dimension; test None: train with itself.
        parameters: names of the parameters to differentiate by; None: all that require gradients.
        memory_bytes: the most that gradients may take; more training examples than fit are done in passes.
        chunk: examples differentiated at a time; 0: as many as fit, at most 64.
        project: gradients (or their signs) are folded at random into about so many numbers, with an error of
            sqrt(2 / project) of the diagonal; 0: exact.
        progress: called with the number of gradients done.

    Raises:
        HornbookError: memory that cannot suffice, training mode, gradients that are not finite.
    """
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown or not kinds:
        raise HornbookError(f"kinds is {tuple(kinds)}; accepted are {', '.join(KINDS)}.")
    test = train if test is None else test
    thetas = trained_parameters(module, parameters)
    with torch.no_grad(), _math_attention():
        outputs = module(*[t[:1] for t in train]).shape[1]
    count = sum(t.numel() for t in thetas.values())
    signs = any(kind != "sgd" for kind in kinds)
    n, other = len(train[0]), len(test[0])
    plan = plan_kernel(
        count, outputs, n, other, memory_bytes=memory_bytes, chunk=chunk, signs=signs, project=project
    )
    device = next(iter(thetas.values())).device
    fold = Projection(count, project, device=device) if project else None
    found: dict[Kind, Tensor] = {
        kind: torch.empty(other, outputs, n, outputs, dtype=torch.float64) for kind in kinds
    }

    def forms(inputs: Inputs, first: int, last: int) -> dict[bool, Tensor]:
        """Gradients, and under True their signs, of some examples: (examples x outputs, length)."""
        made = gradient_rows(module, tuple(t[first:last] for t in inputs), thetas).flatten(0, 1)
        # A sum that is finite has finite terms, and is cheaper than a look at each.
        if not torch.isfinite(made.sum()) and not torch.isfinite(made).all():
            raise HornbookError(f"gradients of examples {first} to {last - 1} are not finite.")
        if progress is not None:
            progress(last - first)
        wanted = {False: made, True: made.sign()} if signs else {False: made}
        return {sign: rows if fold is None else fold(rows) for sign, rows in wanted.items()}

    for begin in range(0, n, plan.rows):
        end = min(n, begin + plan.rows)
        size = ((end - begin) * outputs, count if fold is None else fold.size)
        held = {sign: torch.empty(size, device=device) for sign in ((False, True) if signs else (False,))}
        for first in range(begin, end, plan.chunk):
            for sign, made in forms(train, first, min(end, first + plan.chunk)).items():
                held[sign][(first - begin) * outputs :][: len(made)] = made
        for first in range(0, other, plan.chunk):
            last = min(other, first + plan.chunk)
            mine = forms(test, first, last)
            for kind in kinds:
                left = mine[kind in ("signgd", "asigngd_flip")]
                right = held[kind in ("signgd", "asigngd")]
                block = _dot(left, right).view(last - first, outputs, end - begin, outputs)
                found[kind][first:last, :, begin:end] = block
    return found


def kernel_by_jvp(module: nn.Module, train: Inputs, test: Inputs, *, kind: Kind = "sgd") -> Tensor:
    """The kernel with one gradient in memory: g(z) is pushed forward through every test example.

    Kinds "sgd" and "asigngd" only (the test side is never built). It takes train x outputs forward-mode
    passes over all of test, where `empirical_kernels` takes train + test backward passes.
    Returns (n', C, n, C) float64.
    """
    if kind not in ("sgd", "asigngd"):
        raise HornbookError(f"kind is {kind!r}; the forward route does 'sgd' and 'asigngd'.")
    thetas = trained_parameters(module)
    columns = []
    for i in range(len(train[0])):
        gradient = gradient_rows(module, tuple(t[i : i + 1] for t in train), thetas)[0]
        rows = gradient.sign() if kind == "asigngd" else gradient
        columns += [directional_derivative(module, test, thetas, _unflatten(row, thetas)) for row in rows]
    whole = torch.stack(columns, dim=-1).double().cpu()
    return whole.view(*whole.shape[:2], len(train[0]), -1)


def _unflatten(row: Tensor, like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    pieces = row.split([t.numel() for t in like.values()])  # type: ignore[no-untyped-call]
    return {name: piece.view_as(t).to(t.dtype) for (name, t), piece in zip(like.items(), pieces, strict=True)}


def directional_derivative(
    module: nn.Module, inputs: Inputs, parameters: Mapping[str, Tensor], direction: Mapping[str, Tensor]
) -> Tensor:
    """<g_c(x), direction> of every example and output, (batch, outputs), by one forward-mode pass."""
    if module.training:
        raise HornbookError("the network is in training mode: call .eval() first.")
    buffers = {name: b.detach() for name, b in module.named_buffers()}

    def call(thetas: dict[str, Tensor]) -> Tensor:
        out: Tensor = functional_call(module, (thetas, buffers), inputs)
        return out

    with _math_attention():
        derivative: Tensor = jvp(call, (dict(parameters),), (dict(direction),))[1]
    return derivative.detach()


def linearised(module: nn.Module, inputs: Inputs, moved: Mapping[str, Tensor]) -> Tensor:
    """f(x; theta_0) + <g(x), theta - theta_0>: module holds theta_0, `moved` is theta by name."""
    thetas = {name: p.detach() for name, p in module.named_parameters() if name in moved}
    step = {name: moved[name].detach() - theta for name, theta in thetas.items()}
    with torch.no_grad(), _math_attention():
        start: Tensor = module(*inputs)
    return start + directional_derivative(module, inputs, thetas, step)


def relative_change(before: Tensor, after: Tensor) -> float:
    """Mean over entries of |after - before| / |before|: the fixed-features distance (below 2 passes)."""
    return float(((after - before).abs() / before.abs().clamp(min=1e-12)).mean())


def median_change(before: Tensor, after: Tensor) -> float:
    """Median over entries of |after - before| / |before|: the same without the weight of entries near 0."""
    return float(((after - before).abs() / before.abs().clamp(min=1e-12)).median())


def flat(kernel: Tensor) -> Tensor:
    """(n', C, n, C) as the matrix (n' C, n C) of the solvers."""
    return kernel.flatten(2).flatten(0, 1)


def solve_kernel(
    train: Tensor,
    test: Tensor,
    targets: Tensor,
    *,
    ridge: float = 0.0,
    start_train: Tensor | None = None,
    start_test: Tensor | None = None,
    start_scale: float = math.inf,
) -> Tensor:
    """Least squares on kernel matrices (appendix A of the paper): predictions (n' C,).

    train (n C, n C) and test (n' C, n C), symmetric or not; targets (n C,). The ridge is relative: ridge
    times the largest singular value is added to the diagonal. With start values f0 and a finite scale s,
    targets are lowered by f0 / s and f0 / s is added to the predictions.
    """
    if not (torch.isfinite(train).all() and torch.isfinite(test).all()):
        raise HornbookError("the kernel holds NaN or infinity; look for gradients that are not finite.")
    if ridge < 0:
        raise HornbookError(
            f"ridge is {ridge}; it must be 0 or more (a share of the largest singular value)."
        )
    use_start = start_train is not None and start_test is not None and math.isfinite(start_scale)
    aim = targets.double()
    if use_start and start_train is not None:
        aim = aim - start_train.double() / start_scale
    top = torch.linalg.matrix_norm(train.double(), 2)
    system = train.double() + ridge * top * torch.eye(len(train), dtype=torch.float64)
    coefficients = torch.linalg.lstsq(system, aim[:, None], driver="gelsd").solution[:, 0]
    out = test.double() @ coefficients
    if use_start and start_test is not None:
        out = out + start_test.double() / start_scale
    solved: Tensor = out
    return solved


def solve_asymmetric(
    train: Tensor,
    test: Tensor,
    test_flip: Tensor,
    y: Tensor,
    *,
    gamma: float = 1.0,
    mix: float = 0.5,
) -> Tensor:
    """Asymmetric least-squares SVM for one output (He et al. 2022, as the paper uses it): predictions (n',).

    train (n, n) = K(x_i, x_j); test (n', n) = K(x, x_j) and test_flip (n', n) = K(x_j, x); y (n,) of +-1.
    Solves [[I / gamma, H], [H^T, I / gamma]] [alpha, beta] = 1 with H_ij = y_i K_ij y_j and predicts
    mix sum_i alpha_i y_i K(x_i, x) + (1 - mix) sum_i beta_i y_i K(x, x_i). K is scaled to unit norm first,
    so that gamma does not depend on the kernel's units.
    """
    if not gamma > 0:
        raise HornbookError(f"gamma is {gamma}; it must be above 0.")
    scale = torch.linalg.matrix_norm(train.double(), 2)
    y = y.double()
    h = y[:, None] * (train.double() / scale) * y
    n = len(y)
    unit = torch.eye(n, dtype=torch.float64) / gamma
    system = torch.cat([torch.cat([unit, h], 1), torch.cat([h.T, unit], 1)])
    both = torch.linalg.lstsq(system, torch.ones(2 * n, 1, dtype=torch.float64), driver="gelsd").solution[
        :, 0
    ]
    alpha, beta = both[:n] * y, both[n:] * y
    out: Tensor = mix * (test_flip.double() / scale) @ alpha + (1 - mix) * (test.double() / scale) @ beta
    return out
