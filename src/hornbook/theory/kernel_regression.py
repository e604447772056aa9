"""Regression with a kernel matrix: unit diagonals and ridge; bad matrices are named."""

import torch
from torch import Tensor

from hornbook.errors import HornbookError


def unit_diagonal(matrix: Tensor, left: Tensor, right: Tensor | None = None) -> Tensor:
    """K(x, z) / sqrt(K(x, x) K(z, z)) with the diagonals `left` (..., n) and `right` (..., m; None: left).

    Raises:
        HornbookError: a diagonal value is not positive (a blank image has no direction).
    """
    right = left if right is None else right
    for diagonal in (left, right):
        bad = int((~(diagonal > 0)).sum())
        if bad:
            raise HornbookError(
                f"{bad} of {diagonal.numel()} diagonal kernel values are not above 0 (blank or not "
                "finite inputs); leave those inputs out or give the kernel a bias."
            )
    return matrix / (left[..., :, None] * right[..., None, :]).sqrt()


def ridge_coefficients(matrix: Tensor, targets: Tensor, ridge: float) -> Tensor:
    """A with (K + ridge I) A = Y, in float64: matrix (..., n, n), targets (n, outputs) -> (..., n, outputs).

    Raises:
        HornbookError: the matrix is not symmetric, or not positive definite: by how much, and which ridge
            would do.
    """
    matrix = matrix.double()
    if not torch.isfinite(matrix).all():
        raise HornbookError("the kernel matrix holds NaN or infinity; look for inputs that are not finite.")
    skew = float((matrix - matrix.mT).abs().max() / matrix.abs().max().clamp(min=1e-300))
    if skew > 1e-6:
        raise HornbookError(f"the kernel matrix is not symmetric (by {skew:.1e} of its largest value).")
    shifted = matrix + ridge * torch.eye(matrix.shape[-1], dtype=torch.float64, device=matrix.device)
    factor, failed = torch.linalg.cholesky_ex(shifted)
    if bool((failed != 0).any()):
        least = float(torch.linalg.eigvalsh(matrix).min())
        raise HornbookError(
            f"the kernel matrix with ridge {ridge:g} is not positive definite: its smallest eigenvalue is "
            f"{least:.3e}. A ridge of {max(2 * abs(least), 1e-12):.1e} would do, or remove duplicate inputs."
        )
    return torch.cholesky_solve(targets.double().expand(*matrix.shape[:-2], *targets.shape), factor)


def one_hot(y: Tensor, classes: int) -> Tensor:
    """(n, classes) float64."""
    return torch.nn.functional.one_hot(y, classes).double()


def accuracy(scores: Tensor, y: Tensor) -> Tensor:
    """Share of rows whose largest score is at the class: scores (..., n, classes), y (n,) -> (...)."""
    return (scores.argmax(-1) == y).double().mean(-1)
