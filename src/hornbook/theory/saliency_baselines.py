"""Saliency maps to compare the learned masks with, one map per input and label; higher is more important."""

from collections.abc import Callable

import torch
from torch import Tensor

from hornbook.theory.saliency import Predict

Map = Callable[[Predict, Tensor, Tensor], Tensor]
"""(predict, inputs (n, channels, *places), labels (n,)) -> (n, *places)."""


def input_gradient(predict: Predict, inputs: Tensor, labels: Tensor) -> Tensor:
    """d log p_y / d x, the shape of the inputs."""
    x = inputs.detach().clone().requires_grad_()
    chosen = predict(x).clamp(min=1e-30).log().gather(1, labels[:, None]).sum()
    (gradient,) = torch.autograd.grad(chosen, x)
    return gradient


def gradient(predict: Predict, inputs: Tensor, labels: Tensor) -> Tensor:
    """Largest absolute derivative over channels (Simonyan et al. 2014)."""
    return input_gradient(predict, inputs, labels).abs().amax(1)


def gradient_times_input(predict: Predict, inputs: Tensor, labels: Tensor) -> Tensor:
    """Sum over channels of x dp/dx, signed: what speaks for the label ranks first (Shrikumar et al. 2016)."""
    return (input_gradient(predict, inputs, labels) * inputs).sum(1)


def integrated_gradients(predict: Predict, inputs: Tensor, labels: Tensor, *, steps: int = 16) -> Tensor:
    """Gradients along the line from zeros to the input, times the input (Sundararajan et al. 2017), signed.

    By the midpoint rule; in the limit the map sums to log p_y(x) - log p_y(0).
    """
    total = torch.zeros_like(inputs)
    for step in range(steps):
        total += input_gradient(predict, inputs * ((step + 0.5) / steps), labels)
    return (total / steps * inputs).sum(1)


def smooth_gradient(
    predict: Predict, inputs: Tensor, labels: Tensor, *, samples: int = 16, noise: float = 0.15, seed: int = 0
) -> Tensor:
    """Absolute gradient averaged over noisy copies (Smilkov et al. 2017); noise as a share of the range."""
    generator = torch.Generator().manual_seed(seed)
    spread = noise * (inputs.max() - inputs.min())
    total = torch.zeros_like(inputs[:, 0])
    for _ in range(samples):
        shaken = inputs + spread * torch.randn(inputs.shape, generator=generator)
        total += input_gradient(predict, shaken, labels).abs().amax(1)
    return total / samples


def occlusion(predict: Predict, inputs: Tensor, labels: Tensor, *, size: int = 4) -> Tensor:
    """Loss of probability when a window of `size` places a side is set to zero (Zeiler 2014)."""
    found = torch.zeros_like(inputs[:, 0])
    with torch.no_grad():
        whole = predict(inputs).gather(1, labels[:, None])[:, 0]
        axes = [range(0, length, size) for length in inputs.shape[2:]]
        for corner in torch.cartesian_prod(*[torch.tensor(list(axis)) for axis in axes]).view(-1, len(axes)):
            window = (slice(None), *[slice(int(c), int(c) + size) for c in corner])
            hidden = inputs.clone()
            hidden[(slice(None), *window)] = 0
            lost = whole - predict(hidden).gather(1, labels[:, None])[:, 0]
            found[window] = lost.view(-1, *[1] * len(axes)).expand_as(found[window])
    return found


def at_random(predict: Predict, inputs: Tensor, labels: Tensor, *, seed: int = 0) -> Tensor:
    """A map that knows nothing: sound, and not complete."""
    return torch.rand(inputs[:, 0].shape, generator=torch.Generator().manual_seed(seed))


BASELINES: dict[str, Map] = {
    "gradient": gradient,
    "gradient x input": gradient_times_input,
    "integrated gradients": integrated_gradients,
    "smooth gradient": smooth_gradient,
    "occlusion": occlusion,
    "random": at_random,
}
