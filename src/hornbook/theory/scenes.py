"""Small colour pictures with one object before a cloudy background, made anew from a seed.

The background has the 1 / f amplitude spectrum of photographs, so that what a mask leaves out looks like the
rest of a picture; the object's place and size are random, and where it is is known.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

CLASSES = ("disk", "square", "triangle", "cross", "ring", "stripes")


@dataclass(frozen=True, kw_only=True)
class Scenes:
    """x: (n, 3, size, size), about standardised. y: (n,) classes. where: (n, size, size) bool, the object."""

    x: Tensor
    y: Tensor
    where: Tensor


def draw_scenes(n: int, *, size: int = 32, seed: int = 0, contrast: float = 1.5) -> Scenes:
    """n pictures; contrast: of the object against the background's standard deviation 1."""
    generator = torch.Generator().manual_seed(seed)
    background = clouds(n, size, generator)
    y = torch.randint(len(CLASSES), (n,), generator=generator)
    radius = size * (0.16 + 0.08 * torch.rand(n, generator=generator))
    middle = radius[:, None] + torch.rand(n, 2, generator=generator) * (size - 1 - 2 * radius)[:, None]
    at = torch.arange(size, dtype=torch.float32)
    down = (at[None, :, None] - middle[:, 0, None, None]) / radius[:, None, None]
    right = (at[None, None, :] - middle[:, 1, None, None]) / radius[:, None, None]
    where = torch.zeros(n, size, size, dtype=torch.bool)
    for number, name in enumerate(CLASSES):
        rows = y == number
        where[rows] = _shape(name, down[rows], right[rows])
    tint = torch.randn(n, 3, generator=generator)
    tint = contrast * tint / tint.norm(dim=1, keepdim=True) * 3**0.5
    x = torch.where(where[:, None], 0.5 * background + tint[:, :, None, None], background)
    return Scenes(x=x, y=y, where=where)


def _shape(name: str, down: Tensor, right: Tensor) -> Tensor:
    """Where the shape is, in coordinates whose unit is its radius."""
    distance = (down.square() + right.square()).sqrt()
    box = (down.abs() <= 0.9) & (right.abs() <= 0.9)
    match name:
        case "disk":
            return distance <= 1
        case "square":
            return box
        case "triangle":
            return (down <= 0.9) & (right.abs() <= (down + 1) / 1.9)
        case "cross":
            return box & ((down.abs() <= 0.35) | (right.abs() <= 0.35))
        case "ring":
            return (distance <= 1) & (distance >= 0.55)
        case _:
            return box & (torch.remainder(down + 0.9, 0.9) < 0.45)


def clouds(n: int, size: int, generator: torch.Generator) -> Tensor:
    """(n, 3, size, size) noise of amplitude 1 / f, each channel of mean 0 and deviation 1 in each picture."""
    noise = torch.fft.rfft2(torch.randn(n, 3, size, size, generator=generator))
    rows, columns = torch.fft.fftfreq(size)[:, None], torch.fft.rfftfreq(size)[None]
    frequency = (rows.square() + columns.square()).sqrt()
    frequency[0, 0] = 1
    noise = noise / frequency
    noise[..., 0, 0] = 0
    made = torch.fft.irfft2(noise, s=(size, size))
    scaled: Tensor = made / made.flatten(2).std(dim=2)[..., None, None]
    return scaled
