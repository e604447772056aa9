"""Low-rank adapters: W + (alpha / rank) B A with W fixed (Hu et al. 2021); saved as PEFT saves them.

While training, the two thin products are taken apart, which spares the gradient of W. In evaluation mode the
sum is formed first, so that a model with adapters and the merged model give the same bits.
"""

import copy
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hornbook.errors import HornbookError
from hornbook.lab.files import write_atomic
from hornbook.model.decoder import Decoder
from hornbook.model.hf import tensor_map
from hornbook.model.layers import Linear

TARGETS = ("qkv_proj", "o_proj", "gate_up_proj", "up_proj", "down_proj")
"""Every matrix of a block, whatever the family calls it on disk."""

_PREFIX = "base_model.model."
_CONFIG, _WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


@dataclass(frozen=True, kw_only=True)
class LoRA:
    """rank: columns of B. alpha: the update is scaled by alpha / rank. targets: which matrices of a block,
    of `TARGETS`."""

    rank: int = 8
    alpha: float = 16.0
    targets: tuple[str, ...] = TARGETS

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise HornbookError(f"LoRA rank is {self.rank}; it must be 1 or more.")
        if not (math.isfinite(self.alpha) and self.alpha > 0):
            raise HornbookError(f"LoRA alpha is {self.alpha}; it must be above 0.")
        unknown = [name for name in self.targets if name not in TARGETS]
        if unknown or not self.targets:
            raise HornbookError(
                f"LoRA targets are {', '.join(self.targets) or 'none'}; accepted are {', '.join(TARGETS)}."
            )


class AdaptedLinear(Linear):
    """A fixed linear layer with a trained low-rank update. `weight` and `bias` are the layer's own."""

    def __init__(self, layer: nn.Linear, lora: LoRA, random: torch.Generator) -> None:
        super().__init__(layer.in_features, layer.out_features, bias=layer.bias is not None, device="meta")
        self.weight, self.bias = layer.weight, layer.bias
        self.weight.requires_grad_(False)
        self.scale = lora.alpha / lora.rank
        like: dict[str, Any] = {"device": self.weight.device, "dtype": self.weight.dtype}
        bound = 1 / math.sqrt(layer.in_features)  # PEFT's kaiming_uniform_ with a = sqrt(5)
        drawn = torch.rand(lora.rank, layer.in_features, generator=random) * 2 * bound - bound
        self.lora_a = nn.Parameter(drawn.to(**like))
        self.lora_b = nn.Parameter(torch.zeros(layer.out_features, lora.rank, **like))

    def merged_weight(self) -> Tensor:
        """W + (alpha / rank) B A, (out, in)."""
        return self.weight + self.scale * (self.lora_b @ self.lora_a)

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        if not self.training:
            return F.linear(x, self.merged_weight(), self.bias)
        update = F.linear(F.linear(x, self.lora_a), self.lora_b)
        return F.linear(x, self.weight, self.bias) + self.scale * update


def add_lora(decoder: Decoder, lora: LoRA, *, seed: int = 0) -> Decoder:
    """Puts adapters into `decoder`, in place; they alone are trained from now on. B begins at 0, so nothing
    changes yet.

    Raises:
        HornbookError: no matrix of the decoder has a name among the targets, or it has adapters already.
    """
    random = torch.Generator().manual_seed(seed)
    if any(True for _ in _adapted(decoder)):
        raise HornbookError("This model has LoRA adapters already; merge them first.")
    decoder.requires_grad_(False)
    found = [
        (module, name, child)
        for module in decoder.modules()
        for name, child in module.named_children()
        if name in lora.targets and isinstance(child, nn.Linear)
    ]
    if not found:
        raise HornbookError(f"This model has none of the LoRA targets {', '.join(lora.targets)}.")
    for module, name, child in found:
        setattr(module, name, AdaptedLinear(child, lora, random))
    return decoder


@torch.no_grad()
def merge_lora(decoder: Decoder) -> Decoder:
    """A copy of `decoder` without adapters, their updates added to the weights: equal logits in evaluation
    mode, to the bit."""
    merged = copy.deepcopy(decoder)
    for name, layer in list(_adapted(merged)):
        parent, _, leaf = name.rpartition(".")
        plain = Linear(layer.in_features, layer.out_features, bias=layer.bias is not None, device="meta")
        plain.weight = nn.Parameter(layer.merged_weight())
        plain.bias = layer.bias
        setattr(merged.get_submodule(parent), leaf, plain)
    return merged.requires_grad_(True)


def save_adapter(decoder: Decoder, folder: Path, lora: LoRA, *, base: str = "") -> None:
    """Writes the adapters of `decoder` as `peft` loads them: adapter_config.json, adapter_model.safetensors.

    Where the family stores our fused matrix in parts (q, k, v), each part gets A and its own rows of B.

    base: where the model without adapters is found.
    """
    from safetensors.torch import save

    layers = dict(_adapted(decoder))
    tensors: dict[str, Tensor] = {}
    names: set[str] = set()
    for ours, pieces in tensor_map(decoder.config).items():
        layer = layers.get(ours.removesuffix(".weight"))
        if layer is None or not ours.endswith(".weight"):
            continue
        for piece in pieces:
            module = piece.name.removesuffix(".weight")
            names.add(module.rpartition(".")[2])
            tensors[f"{_PREFIX}{module}.lora_A.weight"] = layer.lora_a.detach().clone()
            tensors[f"{_PREFIX}{module}.lora_B.weight"] = layer.lora_b.detach()[
                piece.start : piece.stop
            ].clone()
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": lora.rank,
        "lora_alpha": lora.alpha,
        "target_modules": sorted(names),
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "use_rslora": False,
        "use_dora": False,
        "inference_mode": True,
    }
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / _WEIGHTS, save(tensors, metadata={"format": "pt"}))
    write_atomic(folder / _CONFIG, json.dumps(config, indent=2) + "\n")


@torch.no_grad()
def apply_adapter(decoder: Decoder, folder: Path) -> Decoder:
    """Adds the adapter in `folder` (ours, or one that `peft` saved) to the weights of `decoder`, in place.

    Raises:
        HornbookError: no adapter there, a kind other than plain LoRA, or matrices that are not the decoder's.
    """
    from safetensors.torch import load_file

    try:
        config = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
        tensors = load_file(folder / _WEIGHTS)
    except (OSError, ValueError) as error:
        raise HornbookError(f"{folder} holds no adapter that can be read ({error}).") from None
    special = [
        key for key in ("use_dora", "rank_pattern", "alpha_pattern", "modules_to_save") if config.get(key)
    ]
    if config.get("peft_type") != "LORA" or special:
        kind = ", ".join(special) or str(config.get("peft_type"))
        raise HornbookError(f"The adapter in {folder} is of a kind that is not read here ({kind}).")
    divisor = math.sqrt(config["r"]) if config.get("use_rslora") else config["r"]
    parameters = dict(decoder.named_parameters())
    unused = set(tensors)
    for ours, pieces in tensor_map(decoder.config).items():
        for piece in pieces:
            module = _PREFIX + piece.name.removesuffix(".weight")
            keys = f"{module}.lora_A.weight", f"{module}.lora_B.weight"
            if not unused.issuperset(keys):
                continue
            a, b = (tensors[key].to(parameters[ours]) for key in keys)
            rows = parameters[ours][piece.start : piece.stop]
            if (len(b), a.shape[1]) != tuple(rows.shape):
                raise HornbookError(f"{keys[1]} in {folder} does not fit this model's {tuple(rows.shape)}.")
            rows += config["lora_alpha"] / divisor * (b @ a)
            unused -= set(keys)
    if unused:
        raise HornbookError(
            f"{len(unused)} tensors of the adapter in {folder} belong to no matrix of this model, "
            f"{min(unused)} among them."
        )
    return decoder


def _adapted(decoder: nn.Module) -> Iterator[tuple[str, AdaptedLinear]]:
    return ((name, m) for name, m in decoder.named_modules() if isinstance(m, AdaptedLinear))
