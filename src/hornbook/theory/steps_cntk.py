"""Convolutional kernels as a step: accuracy of every kernel, depth and pooling size over seeds."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hornbook.lab.files import write_atomic
from hornbook.lab.step import Estimate, StepContext, step
from hornbook.theory.cntk import KERNELS, CntkSettings, kernel_matrices, kernel_pairs
from hornbook.theory.images import load_images, standardised
from hornbook.theory.kernel_regression import accuracy, one_hot, ridge_coefficients, unit_diagonal
from hornbook.theory.patch_features import patch_features, patch_filters


def _estimate(
    *,
    image_size: int,
    train: int,
    test: int,
    depths: Sequence[int],
    seeds: Sequence[int],
    flips: bool,
    patches: int,
    patch_size: int,
    **other: Any,
) -> Estimate:
    pairs = len(seeds) * (1 + flips) * (train * (train / 2 + test) + 16 * test)
    side = image_size - patch_size + 1 if patches else image_size
    operations = 1.5 * max(depths) + 0.12 * 4 * patches  # nanoseconds an entry: layers, and channels met
    return Estimate(
        seconds=2 + pairs * side**4 * operations * 1e-9,
        memory_bytes=600e6 + 40 * train * test * len(depths),
    )


@step(version="2", estimate=_estimate)
def kernel_accuracies(
    ctx: StepContext,
    *,
    data: Path | None,
    image_size: int,
    train: int,
    test: int,
    depths: Sequence[int],
    pools: Sequence[int],
    flips: bool,
    patches: int,
    patch_size: int,
    ridges: Sequence[float],
    seeds: Sequence[int],
) -> dict[str, Any]:
    """Kernel regression on `train` images, tested on `test` others, for every seed's draw of images.

    Half of the test images choose (the ridge here; depth and pool are the reader's to choose), half judge:
    "validation" and "test" accuracies are apart. patches: random patch features in place of pixels, of so
    many patches of patch_size pixels a side; the networks then have biases (gamma = 3), as in the paper.
    Facts: accuracies[part][kernel][depth][pool] = one number a seed; ridges, alike; depths and pools.
    """
    settings = CntkSettings(depths=tuple(depths), pools=tuple(pools), bias=PATCH_BIAS if patches else 0.0)
    images = load_images(data).pooled(image_size)
    # Each side and image once per flip: see the estimate.
    pairs = (1 + flips) * (train * (train + 1) // 2 + test * train)
    progress = ctx.progress(len(seeds) * pairs, "pairs", images.name)
    found = []
    for seed in seeds:
        kept = ctx.folder / f"seed-{seed}.json"
        if kept.exists():
            found.append(torch.tensor(json.loads(kept.read_text()), dtype=torch.float64))
            progress.advance(pairs)
            continue
        drawn = images.shuffled(seed)
        x, z = drawn.x[:train], drawn.x[train : train + test]
        if patches:
            filters = patch_filters(x, patches, patch_size, seed=seed)
            x, z = patch_features(x, filters), patch_features(z, filters)
        else:
            x, z = standardised(x, z)
        y, truth = drawn.y[:train], drawn.y[train : train + test]
        blocks = ctx.folder / f"blocks-{seed}"
        gram, cross = _normalised(x, z, settings, flips=flips, progress=progress.advance, folder=blocks)
        chosen = _best_ridges(gram, cross, one_hot(y, images.classes), truth, ridges)
        found.append(chosen)
        write_atomic(kept, json.dumps(chosen.tolist()).encode())
        shutil.rmtree(blocks, ignore_errors=True)
    whole = torch.stack(found, dim=-1)  # (validation, test or ridge; depth, kernel, pool, seed)
    table = {
        part: {kernel: whole[p, :, k].tolist() for k, kernel in enumerate(KERNELS)}
        for p, part in enumerate(("validation", "test", "ridge"))
    }
    return {
        "data": images.name + (f", {patches} patches" if patches else ""),
        "depths": list(depths),
        "pools": list(pools),
        "ridges": table.pop("ridge"),
        "accuracies": table,
    }


PATCH_BIAS = 3.0
"""The paper's gamma with patch features (section 6)."""


def _best_ridges(
    gram: Tensor, cross: Tensor, targets: Tensor, truth: Tensor, ridges: Sequence[float]
) -> Tensor:
    """(3, depths, 2, pools): accuracy on the first and on the second half, the ridge the first half chose.

    Of equally good ridges the larger.
    """
    half = len(truth) // 2
    best = torch.full((3, *gram.shape[:-2]), -1.0, dtype=torch.float64)
    for ridge in sorted(ridges, reverse=True):
        scores = cross @ ridge_coefficients(gram, targets, ridge)
        mine = torch.stack(
            [
                accuracy(scores[..., :half, :], truth[:half]),
                accuracy(scores[..., half:, :], truth[half:]),
                torch.full(gram.shape[:-2], ridge, dtype=torch.float64),
            ]
        )
        best = torch.where(mine[0] > best[0], mine, best)
    return best


def _normalised(
    x: Tensor, z: Tensor, settings: CntkSettings, *, flips: bool, progress: Any, folder: Path
) -> tuple[Tensor, Tensor]:
    """Unit-diagonal kernels of x with x and z with x; with flips, averaged with those of mirrored images."""
    gram = kernel_matrices(x, None, settings, progress=progress, folder=folder / "train")
    cross = kernel_matrices(z, x, settings, progress=progress, folder=folder / "test")
    own = kernel_pairs(z, None, settings)
    if flips:
        mirrored = kernel_matrices(x.flip(-1), x, settings, folder=folder / "train-flipped")
        progress(len(x) * (len(x) + 1) // 2)
        # K(flip x, x') = K(x, flip x') makes the sum symmetric; rounding must not undo that.
        gram = gram + (mirrored + mirrored.mT) / 2
        cross = cross + kernel_matrices(
            z.flip(-1), x, settings, progress=progress, folder=folder / "test-flipped"
        )
        own = own + kernel_pairs(z.flip(-1), z, settings)
    diagonal = gram.diagonal(dim1=-2, dim2=-1)
    return unit_diagonal(gram, diagonal), unit_diagonal(cross, own, diagonal)
