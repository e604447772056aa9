"""A small convolutional classifier to explain, and the pictures it is trained on."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from hornbook.errors import HornbookError
from hornbook.theory.images import load_images, standardised
from hornbook.theory.scenes import CLASSES, draw_scenes


@dataclass(frozen=True, kw_only=True)
class PictureSet:
    """Standardised pictures for training and for explaining; where the object is, if that is known.

    x, shown: (n, channels, size, size). y, truth: their classes. where: (shown, size, size) bool or None.
    """

    x: Tensor
    y: Tensor
    shown: Tensor
    truth: Tensor
    where: Tensor | None
    names: tuple[str, ...]


def picture_set(data: Path | None, training: int, shown: int, seed: int) -> PictureSet:
    """Generated scenes, or images of a file (see `load_images`), the same for the same seed.

    Raises:
        HornbookError: the file has too few images.
    """
    if data is None:
        train, test = draw_scenes(training, seed=seed), draw_scenes(shown, seed=seed + 1_000_003)
        return PictureSet(x=train.x, y=train.y, shown=test.x, truth=test.y, where=test.where, names=CLASSES)
    images = load_images(data).shuffled(seed)
    if len(images.x) < training + shown:
        raise HornbookError(
            f"{data} has {len(images.x)} images; {training} to train on and {shown} others are wanted."
        )
    x, rest = standardised(images.x[:training], images.x[training : training + shown])
    names = tuple(f"class {number}" for number in range(images.classes))
    truth = images.y[training : training + shown]
    return PictureSet(x=x, y=images.y[:training], shown=rest, truth=truth, where=None, names=names)


def small_network(width: int, channels: int, classes: int) -> nn.Sequential:
    """Three strided convolutions with batch norm, global average pooling, a linear layer: logits."""
    sizes = (channels, width, 2 * width, 4 * width)
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(sizes):
        layers += [
            nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(after),
            nn.ReLU(),
        ]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4 * width, classes))


def train_network(
    network: nn.Module, x: Tensor, y: Tensor, *, epochs: int, batch: int, progress: Callable[[int], None]
) -> None:
    """AdamW with one cycle of the learning rate; progress: called with 1 after every epoch."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=1e-2, fused=True)
    total = epochs * (len(x) // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=max(2, total))
    for _ in range(epochs):
        for rows in torch.randperm(len(x)).split(batch):  # type: ignore[no-untyped-call]
            if len(rows) < batch:
                continue
            loss = F.cross_entropy(network(x[rows]), y[rows])
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            schedule.step()
        progress(1)


def folded(network: nn.Sequential) -> nn.Sequential:
    """The same function in evaluation mode, made for speed.

    Every batch norm is folded into the convolution before it; channels come last in memory, which saves a
    convolution on the CPU its reordering.
    """
    layers: list[nn.Module] = []
    for layer in network.eval():
        if isinstance(layer, nn.BatchNorm2d) and layers and isinstance(layers[-1], nn.Conv2d):
            layers[-1] = fuse_conv_bn_eval(layers[-1], layer)
        else:
            layers.append(layer)
    return nn.Sequential(*layers).eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]
