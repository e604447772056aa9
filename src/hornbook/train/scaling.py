"""The table of `hornbook.train.parametrization` applied to a decoder: initial values and optimizer factors.

Multipliers are not multiplied in the forward pass. For Adam and Muon, whose updates do not depend on the
size of the gradient, a weight W behind a multiplier a is the same network as the weight a W without it, if
its initial values and its learning rate are multiplied by a, its epsilon and decoupled decay divided by it.
So a parametrized decoder runs at the speed of any other and is saved in the ecosystem's formats as it is.

Where they go: the branch multiplier k^-alpha into the projections that write to the residual stream
(`o_proj`, `down_proj`), the readout's 1/m into the final norm, which serves tied embeddings too. Widen by
more heads of the same size: then the attention scale stays as it is.
"""

import math
from typing import Any

import torch
from torch import nn

from hornbook.errors import HornbookError
from hornbook.train.parametrization import Factors, Role, Rule, find_parametrization
from hornbook.train.settings import TrainSettings

_WRITES_RESIDUAL = ("o_proj", "down_proj")


def optimizer_factors(model: nn.Module, settings: TrainSettings) -> dict[str, Factors]:
    """Factors of every parameter of a decoder (or of a module with one as `.decoder`), by name in `model`.

    Empty for "standard". What a module adds around its decoder keeps its rate.

    Raises:
        HornbookError: the model is no dense text decoder.
    """
    if settings.parametrization == "standard":
        return {}
    decoder = _decoder(model)
    prefix = "decoder." if decoder is not model else ""
    return {prefix + name: _row(decoder, name, p, settings) for name, p in decoder.named_parameters()}


@torch.no_grad()
def scale_initial_values(decoder: nn.Module, settings: TrainSettings) -> None:
    """Multiplies freshly drawn weights by what the parametrization asks for; "standard" leaves them.

    The decoder's own draw already divides the residual projections by sqrt(2 layers); here that is the base
    model's sqrt(2 base_depth), and depth belongs to the parametrization alone.

    Raises:
        HornbookError: the model is no dense text decoder.
    """
    if settings.parametrization == "standard":
        return
    own = _decoder(decoder)
    depth = math.sqrt(own.config.layers / settings.base_depth)
    for name, parameter in own.named_parameters():
        scale = _row(own, name, parameter, settings).init
        if name.endswith(tuple(f"{part}.weight" for part in _WRITES_RESIDUAL)):
            scale *= depth
        if scale != 1.0:
            parameter.mul_(scale)


def role_of(name: str) -> Role:
    """What a decoder's parameter is to width, by its name."""
    if name.startswith(("embed_tokens.", "positions.")):
        return "input"
    if name == "lm_head.weight":
        return "output"
    if name.startswith("layers."):
        return "hidden" if name.endswith("_proj.weight") else "hidden_vector"
    return "vector"


def _decoder(model: nn.Module) -> Any:
    decoder = getattr(model, "decoder", model)
    config = getattr(decoder, "config", None)
    if config is None or not hasattr(decoder, "embed_tokens"):
        raise HornbookError(
            f"a parametrization is for decoders; {type(model).__name__} is none. Use parametrization "
            "'standard'."
        )
    if config.experts or config.vision is not None:
        kind = "experts" if config.experts else "a vision tower"
        raise HornbookError(
            f"this model has {kind}, which the table of parametrizations does not cover. Use parametrization "
            "'standard'."
        )
    return decoder


def _row(decoder: Any, name: str, parameter: nn.Parameter, settings: TrainSettings) -> Factors:
    """The table's row with the multiplier folded in."""
    config = decoder.config
    m, k = config.hidden_size / settings.base_width, config.layers / settings.base_depth
    table = find_parametrization(settings.parametrization)
    role, optimizer = role_of(name), settings.optimizer
    by_muon = optimizer.kind == "muon" and role == "hidden"
    rule: Rule = "adam"
    if by_muon:
        rule = "muon_rms" if optimizer.muon_scale == "rms" else "muon_spectral"
    row = table.factors(role, m=m, k=k, rule=rule)
    module = name.rpartition(".")[0]
    folded = 1.0
    if module.endswith(_WRITES_RESIDUAL):
        folded = table.branch(k)
    elif module == "norm":
        folded = table.factors("output", m=m, k=k).multiplier
    return Factors(
        init=row.init * folded,
        learning_rate=row.learning_rate * folded,
        epsilon=row.epsilon / folded,
        weight_decay=row.weight_decay / folded,
    )
