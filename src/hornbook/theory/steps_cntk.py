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


def _estimate(
    *,
    image_size: int,
    train: int,
    test: int,
    depths: Sequence[int],
    seeds: Sequence[int],
    flips: bool,
    **other: Any,
) -> Estimate:
    pairs = len(seeds) * (1 + flips) * (train * (train / 2 + test) + 16 * test)
    entries = image_size**4 * max(depths)
    return Estimate(
        seconds=2 + pairs * entries * 1.5e-9, memory_bytes=600e6 + 40 * train * test * len(depths)
    )


@step(version="1", estimate=_estimate)
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
    ridge: float,
    seeds: Sequence[int],
) -> dict[str, Any]:
    """Kernel regression on `train` images, tested on `test` others, for every seed's draw of images.

    Half of the test images choose, the other half judge: "validation" and "test" accuracies are apart.
    Facts: accuracies[part][kernel][depth][pool] = one number a seed; the lists of depths and pools.
    """
    settings = CntkSettings(depths=tuple(depths), pools=tuple(pools))
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
        x, z = standardised(drawn.x[:train], drawn.x[train : train + test])
        y, truth = drawn.y[:train], drawn.y[train : train + test]
        blocks = ctx.folder / f"blocks-{seed}"
        gram, cross = _normalised(x, z, settings, flips=flips, progress=progress.advance, folder=blocks)
        scores = cross @ ridge_coefficients(gram, one_hot(y, images.classes), ridge)
        half = test // 2
        both = [accuracy(scores[..., :half, :], truth[:half]), accuracy(scores[..., half:, :], truth[half:])]
        found.append(torch.stack(both))
        write_atomic(kept, json.dumps(found[-1].tolist()).encode())
        shutil.rmtree(blocks, ignore_errors=True)
    whole = torch.stack(found, dim=-1)  # (part, depth, kernel, pool, seed)
    return {
        "data": images.name,
        "depths": list(depths),
        "pools": list(pools),
        "accuracies": {
            part: {kernel: whole[p, :, k].tolist() for k, kernel in enumerate(KERNELS)}
            for p, part in enumerate(("validation", "test"))
        },
    }


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
