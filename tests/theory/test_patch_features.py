"""Random patch features against the steps of the procedure one patch at a time, and what mirrors do."""

import pytest
import torch

from hornbook.errors import HornbookError
from hornbook.theory.cntk import CntkSettings, kernel_pairs
from hornbook.theory.patch_features import WHITENING, patch_features, patch_filters


def images(n, *shape, seed=0):
    return torch.rand(n, *shape, generator=torch.Generator().manual_seed(seed))


def test_filters_whiten_patches_twice():
    """The pool's own covariance undoes both whitenings: what is left are patches of unit norm and mean 0."""
    x = images(40, 2, 3, 3)  # patches are whole images: the pool can be listed
    filters = patch_filters(x, 500, 3, seed=1).double()[:500].flatten(1)
    pool = x.double().flatten(1)
    pool = pool - pool.mean(1, keepdim=True)
    pool = pool / pool.norm(dim=1, keepdim=True)
    drawn = torch.randint(40, (2000,), generator=torch.Generator().manual_seed(1))
    covariance = pool[drawn].T @ pool[drawn] / 2000
    back = filters @ (covariance + WHITENING * torch.eye(18, dtype=torch.float64))
    torch.testing.assert_close(back, pool[drawn[:500]], rtol=1e-4, atol=1e-5)


def test_mirrored_filters_make_mirrored_features():
    """The features of a mirrored picture are the mirrored features, in another order of channels."""
    x = images(3, 1, 7, 8)
    filters = patch_filters(images(20, 1, 7, 8, seed=1), 4, 3)
    assert filters.shape == (8, 1, 3, 3)
    torch.testing.assert_close(filters[4:], filters[:4].flip(-1))
    made = patch_features(x, filters)
    assert made.shape == (3, 16, 5, 6)
    assert made.min() == 0
    settings = CntkSettings(depths=(2,), pools=(0, 6), bias=3.0, engine="torch")
    z = images(3, 1, 7, 8, seed=2)
    both = [patch_features(t, filters) for t in (x.flip(-1), z.flip(-1))]
    torch.testing.assert_close(
        kernel_pairs(*both, settings),
        kernel_pairs(made, patch_features(z, filters), settings),
        rtol=1e-4,
        atol=0,
    )


def test_features_are_thresholded_answers():
    x, filters = images(2, 2, 4, 4), patch_filters(images(5, 2, 4, 4), 3, 2, seed=3)
    made = patch_features(x, filters, threshold=0.5)
    answer = (x[1, :, 1:3, 2:4] * filters[4]).sum()
    assert made[1, 4, 1, 2].item() == pytest.approx(max(0.0, float(answer) - 0.5), abs=1e-4)
    assert made[1, 10, 1, 2].item() == pytest.approx(max(0.0, -float(answer) - 0.5), abs=1e-4)


def test_patches_that_do_not_fit_are_named():
    with pytest.raises(HornbookError, match="4 patches of 5 pixels a side do not fit images of 4 x 6"):
        patch_filters(images(2, 1, 4, 6), 4, 5)
    blank = patch_filters(torch.zeros(3, 1, 4, 4), 2, 3)
    assert torch.isfinite(blank).all()
