"""Kernel regression against linear regression in the feature space, and bad matrices named."""

import pytest
import torch

from hornbook.errors import HornbookError
from hornbook.theory.kernel_regression import (
    ridge_coefficients,
    unit_diagonal,
)

GENERATOR = torch.Generator().manual_seed(0)
FEATURES = torch.randn(12, 5, generator=GENERATOR, dtype=torch.float64)
TARGETS = torch.randn(12, 2, generator=GENERATOR, dtype=torch.float64)


def test_equals_ridge_regression_on_the_features():
    probe = torch.randn(4, 5, generator=GENERATOR, dtype=torch.float64)
    weights = torch.linalg.solve(FEATURES.T @ FEATURES + 0.3 * torch.eye(5), FEATURES.T @ TARGETS)
    by_kernel = (probe @ FEATURES.T) @ ridge_coefficients(FEATURES @ FEATURES.T, TARGETS, 0.3)
    torch.testing.assert_close(by_kernel, probe @ weights)


def test_a_matrix_that_is_not_positive_definite_is_refused_with_a_ridge_that_would_do():
    matrix = FEATURES @ FEATURES.T - 0.5 * torch.eye(12)
    with pytest.raises(HornbookError, match=r"smallest eigenvalue is -5\.000e-01\. A ridge of 1\.0e\+00"):
        ridge_coefficients(matrix, TARGETS, 0.0)
    assert torch.isfinite(ridge_coefficients(matrix, TARGETS, 1.0)).all()


def test_other_bad_matrices_are_named():
    with pytest.raises(HornbookError, match="not symmetric"):
        ridge_coefficients(torch.randn(12, 12, generator=GENERATOR), TARGETS, 1.0)
    with pytest.raises(HornbookError, match="NaN"):
        ridge_coefficients(torch.full((12, 12), torch.nan), TARGETS, 1.0)
    with pytest.raises(HornbookError, match="1 of 12 diagonal"):
        unit_diagonal(torch.ones(12, 12), torch.arange(12.0))


def test_unit_diagonal_of_a_rectangle():
    probe = torch.randn(3, 5, generator=GENERATOR, dtype=torch.float64)
    normal = unit_diagonal(probe @ FEATURES.T, probe.square().sum(1), FEATURES.square().sum(1))
    expected = torch.nn.functional.cosine_similarity(probe[:, None], FEATURES[None], dim=-1)
    torch.testing.assert_close(normal, expected)
