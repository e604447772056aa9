"""Saliency maps by Captum, if it is installed, in the form of our own: one map per input and label.

Captum explains logits of a module; methods that rewrite backward passes (guided backpropagation,
deconvolution, DeepLIFT) need the module itself, not a function.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from hornbook.errors import HornbookError
from hornbook.theory.saliency import Predict
from hornbook.theory.saliency_baselines import Map

PREFIX = "captum: "


def _magnitude(attribution: Tensor) -> Tensor:
    """Largest absolute value over channels."""
    return attribution.abs().amax(1)


def _signed(attribution: Tensor) -> Tensor:
    """Sum over channels: what speaks for the label ranks first."""
    return attribution.sum(1)


def captum_map(name: str, module: nn.Module) -> Map:
    """The method `name` (without "captum: ") on a module from inputs to logits.

    Raises:
        HornbookError: Captum is not installed, or the name is unknown.
    """
    try:
        from captum import attr
    except ImportError as error:
        raise HornbookError(
            f"the baseline {PREFIX + name!r} is computed by Captum: pip install captum"
        ) from error
    methods: dict[str, tuple[Callable[[], Any], Callable[[Tensor], Tensor], dict[str, Any]]] = {
        "gradient": (lambda: attr.Saliency(module), _magnitude, {"abs": True}),
        "gradient x input": (lambda: attr.InputXGradient(module), _signed, {}),
        "integrated gradients": (
            lambda: attr.IntegratedGradients(module),
            _signed,
            {"n_steps": 16, "method": "riemann_middle"},
        ),
        "smooth gradient": (
            lambda: attr.NoiseTunnel(attr.Saliency(module)),
            _magnitude,
            {"nt_samples": 16, "nt_type": "smoothgrad", "stdevs": 0.5},
        ),
        "guided backpropagation": (lambda: attr.GuidedBackprop(module), _magnitude, {}),
        "deconvolution": (lambda: attr.Deconvolution(module), _magnitude, {}),
        "deeplift": (lambda: attr.DeepLift(module), _signed, {}),
        "grad-cam": (lambda: attr.LayerGradCam(module, _last_convolution(module)), _signed, {}),
        "occlusion": (lambda: attr.Occlusion(module), _signed, {}),
    }
    if name not in methods:
        raise HornbookError(
            f"there is no baseline {PREFIX + name!r}; Captum's are {', '.join(PREFIX + n for n in methods)}."
        )
    build, reduce, options = methods[name]

    def compute(predict: Predict, inputs: Tensor, labels: Tensor) -> Tensor:
        method, given = build(), dict(options)
        if name == "occlusion":
            window = (inputs.shape[1], *[4] * (inputs.dim() - 2))
            given |= {"sliding_window_shapes": window, "strides": window}
        found = method.attribute(inputs.clone().requires_grad_(), target=labels, **given).detach()
        if found.shape[2:] != inputs.shape[2:]:
            found = torch.nn.functional.interpolate(found, inputs.shape[2:], mode="bilinear")
        return reduce(found)

    return compute


def _last_convolution(module: nn.Module) -> nn.Module:
    layers = [layer for layer in module.modules() if isinstance(layer, nn.Conv2d)]
    if not layers:
        raise HornbookError("Grad-CAM needs a network with convolutions.")
    return layers[-1]
