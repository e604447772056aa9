"""Depth-muP as steps: one per measurement, facts only."""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hornbook.lab.step import StepContext, step
from hornbook.theory.depth_mup import coordinate_check, depth_sweep, diversity_exponent, slope, transfer
from hornbook.theory.images import load_images, standardised
from hornbook.theory.residual import (
    ReplicaOptimizer,
    ResidualReplicas,
    ResidualSettings,
    replica_losses,
)


def labelled_vectors(data: Path | None, size: int, examples: int) -> tuple[Tensor, Tensor]:
    """Standardised images as vectors (examples, inputs), and their classes."""
    images = load_images(data).shuffled(0).pooled(size)
    (x,) = standardised(images.x[:examples])
    return x.flatten(1), images.y[:examples]


@step(version="2")
def learning_rate_sweep(
    ctx: StepContext,
    *,
    network: ResidualSettings,
    data: Path | None,
    image_size: int,
    examples: int,
    depths: Sequence[int],
    learning_rates: Sequence[float],
    seeds: Sequence[int],
    steps: int,
    batch: int,
    noise: float,
) -> dict[str, Any]:
    """Loss against learning rate at every depth, and what a rate tuned at the first depth costs at the last.

    Facts: curves (depth, learning_rates, log_loss per seed and rate; null where it diverged), shift, penalty,
    gain (one number a seed; see `Transfer`).
    """
    x, y = labelled_vectors(data, image_size, examples)
    progress = ctx.progress(sum(depths), "blocks", network.parametrization)
    curves = []
    for depth in depths:
        curves += depth_sweep(
            network,
            x,
            y,
            depths=[depth],
            learning_rates=learning_rates,
            seeds=seeds,
            steps=steps,
            batch=batch,
            noise=noise,
        )
        progress.advance(depth)
    return {
        "curves": [dataclasses.asdict(curve) for curve in curves],
        **dataclasses.asdict(transfer(curves)),
    }


@step(version="1")
def width_sweep(
    ctx: StepContext,
    *,
    network: ResidualSettings,
    data: Path | None,
    image_size: int,
    examples: int,
    widths: Sequence[int],
    learning_rates: Sequence[float],
    seeds: Sequence[int],
    steps: int,
    batch: int,
    noise: float,
) -> dict[str, Any]:
    """As `learning_rate_sweep`, over width at one depth: facts `widths`, the rest with one curve a width."""
    x, y = labelled_vectors(data, image_size, examples)
    progress = ctx.progress(sum(widths), "units", network.parametrization)
    curves = []
    for width in widths:
        curves += depth_sweep(
            replace(network, width=width),
            x,
            y,
            depths=[network.depth],
            learning_rates=learning_rates,
            seeds=seeds,
            steps=steps,
            batch=batch,
            noise=noise,
        )
        progress.advance(width)
    return {
        "widths": list(widths),
        "curves": [dataclasses.asdict(curve) for curve in curves],
        **dataclasses.asdict(transfer(curves)),
    }


@step(version="2")
def depth_check(
    ctx: StepContext,
    *,
    network: ResidualSettings,
    data: Path | None,
    image_size: int,
    examples: int,
    depths: Sequence[int],
    learning_rate: float,
    seeds: Sequence[int],
) -> dict[str, Any]:
    """Coordinate check over depth.

    Facts, one list a seed: changes (log-log slopes over depth of the last layer's change after steps 1 to 4),
    initial (the slope of its initial size); null where a network diverged.
    """
    x, y = labelled_vectors(data, image_size, examples)
    changes, initial = [], []
    for seed in seeds:
        seen = coordinate_check(
            network, x, y, over="depth", sizes=depths, learning_rate=learning_rate, seeds=(seed,)
        )
        changes.append([slope(depths, [at.change[t] for at in seen]) for t in range(4)])
        initial.append(slope(depths, [at.initial for at in seen]))
    return {"changes": changes, "initial": initial}


@step(version="1")
def layer_diversity(
    ctx: StepContext,
    *,
    network: ResidualSettings,
    data: Path | None,
    image_size: int,
    examples: int,
    learning_rate: float,
    seeds: Sequence[int],
    steps: int,
    batch: int,
) -> dict[str, Any]:
    """Feature-diversity exponent kappa after training. Facts: kappa (one number a seed)."""
    x, y = labelled_vectors(data, image_size, examples)
    replicas = ResidualReplicas(network, seeds)
    optimizer = ReplicaOptimizer(replicas, torch.full((len(seeds),), learning_rate))
    order = torch.Generator().manual_seed(0)
    progress = ctx.progress(steps, "steps")
    for _ in range(steps):
        rows = torch.randint(len(x), (len(seeds), batch), generator=order)
        torch.autograd.backward(replica_losses(replicas(x[rows]), y[rows]).sum())
        optimizer.step()
        progress.advance(1)
    trace: list[Tensor] = []
    with torch.no_grad():
        replicas(x[:batch], trace)
    gaps = sorted({max(1, round(network.depth * share)) for share in (1 / 64, 1 / 32, 1 / 16)} | {1, 2})
    kappas = [diversity_exponent([layer[i] for layer in trace], gaps) for i in range(len(seeds))]
    return {"kappa": kappas, "gaps": gaps, "finite": all(math.isfinite(k) for k in kappas)}
