"""A larger model that begins with what a smaller one knows: width and depth grown, the function kept.

phi-2 was "scaled up" from phi-1.5 with knowledge transfer, in a way that was never published; nothing here
claims to be it. This is the family of Net2Net (Chen et al. 2015) for decoders (bert2BERT, Chen et al. 2021;
LEMON, Wang et al. 2023): every new unit copies an old one, whoever reads the copies reads shares of them that
sum to one, and added layers write nothing at first. The shares are unequal, so that copies get different
gradients and grow apart.

Unit i of a larger dimension copies unit i modulo the smaller size. The function is kept to rounding when the
hidden size is a multiple of the old one; otherwise the norms see some channels more often than others and the
start is only close (`check_growth` says so).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from hornbook.errors import HornbookError
from hornbook.model.config import GATED, ModelConfig
from hornbook.model.decoder import Decoder

_SAME = (
    "block",
    "norm",
    "norm_eps",
    "activation",
    "gegelu_limit",
    "sliding_window",
    "attention_bias",
    "mlp_bias",
    "head_bias",
    "rope_theta",
    "rotary_dim",
    "long_rope",
    "multipliers",
)

_NEVER_LESS = (
    "vocab_size",
    "hidden_size",
    "layers",
    "heads",
    "kv_heads",
    "head_dim",
    "intermediate_size",
    "max_position",
)


@dataclass(frozen=True, kw_only=True)
class GrowthSettings:
    """How to grow.

    added_layers: "silent": a layer that has a copy before it writes nothing to the residual stream, and the
                  function is kept; "active": it works like the one it copies, which changes the function.
    unevenness:   0: readers weigh all copies of a unit alike, and copies stay equal for ever; towards 1 the
                  shares differ more. Any value keeps the function.
    seed:         of the shares.
    """

    added_layers: Literal["silent", "active"] = "silent"
    unevenness: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        if self.added_layers not in ("silent", "active"):
            raise HornbookError(f"added_layers is {self.added_layers!r}; accepted are 'silent' and 'active'.")
        if not 0 <= self.unevenness < 1:
            raise HornbookError(f"unevenness is {self.unevenness}; it must be at least 0 and below 1.")


def layer_sources(small: int, large: int) -> list[int]:
    """Which old layer each new one copies: old layers in order, each as often as the others or once more."""
    return [layer * small // large for layer in range(large)]


def check_growth(small: ModelConfig, large: ModelConfig) -> tuple[str, ...]:
    """Why the grown model's function can only be close to the small one's; empty where it is kept.

    Raises:
        HornbookError: where `large` cannot be grown from `small` at all, with every reason.
    """
    wrong = [
        f"{name} is {getattr(small, name)!r} and {getattr(large, name)!r}"
        for name in _SAME
        if getattr(small, name) != getattr(large, name)
    ]
    wrong += [
        f"{name} falls from {getattr(small, name)} to {getattr(large, name)}"
        for name in _NEVER_LESS
        if getattr(large, name) < getattr(small, name)
    ]
    if small.heads * large.kv_heads != large.heads * small.kv_heads:
        wrong.append(
            f"query heads per key-value head are {small.heads / small.kv_heads:g} and "
            f"{large.heads / large.kv_heads:g}"
        )
    if small.long_rope is not None and small.max_position != large.max_position:
        wrong.append(f"max_position is {small.max_position} and {large.max_position}, which LongRoPE feels")
    if small.tied_embeddings != large.tied_embeddings:
        wrong.append("one ties its embeddings and the other does not")
    wrong += [
        f"{name} cannot be grown"
        for name in ("experts", "block_sparse", "vision")
        if getattr(small, name) or getattr(large, name)
    ]
    if wrong:
        raise HornbookError(f"The larger model cannot be grown from the smaller: {'; '.join(wrong)}.")
    if large.hidden_size % small.hidden_size:
        return (
            f"hidden_size {large.hidden_size} is no multiple of {small.hidden_size}: norms see some channels "
            "more often than others",
        )
    return ()


def grow(small: Decoder, large: ModelConfig, settings: GrowthSettings | None = None) -> Decoder:
    """A decoder of shape `large` that begins as `small`; `small` is left as it is.

    New vocabulary rows get the mean embedding, and so a middling logit. The weights have the dtype and
    device of `small`'s.

    Raises:
        HornbookError: shapes that do not fit (see `check_growth`).
    """
    settings = settings or GrowthSettings()
    check_growth(small.config, large)
    like = small.embed_tokens.weight
    with torch.device("meta"):
        grown = Decoder(large)
    grown = grown.to(dtype=like.dtype).to_empty(device=like.device)
    grower = _Grower(small.config, large, settings)
    with torch.no_grad():
        grower.decoder(small, grown)
    return grown.train(small.training)


class _Grower:
    """Fills a larger decoder. Index tensors: which old unit each new unit copies."""

    def __init__(self, small: ModelConfig, large: ModelConfig, settings: GrowthSettings) -> None:
        self.small, self.large, self.settings = small, large, settings
        self.random = torch.Generator().manual_seed(settings.seed)
        self.hidden = torch.arange(large.hidden_size) % small.hidden_size
        self.inner = torch.arange(large.intermediate_size) % small.intermediate_size
        # Whole groups are copied, so that a copied query head meets its own key-value head.
        group = small.heads // small.kv_heads
        self.kv_heads = torch.arange(large.kv_heads) % small.kv_heads
        self.heads = (self.kv_heads[:, None] * group + torch.arange(group)).flatten()
        self.depth = torch.arange(large.head_dim) % small.head_dim

    def decoder(self, small: Decoder, grown: Decoder) -> None:
        """Everything."""
        table = small.embed_tokens.weight
        grown.embed_tokens.weight.copy_(self._vocabulary(table)[:, self.hidden])
        sources = layer_sources(self.small.layers, self.large.layers)
        for number, source in enumerate(sources):
            silent = self.settings.added_layers == "silent" and number > 0 and sources[number - 1] == source
            self._block(small.layers[source], grown.layers[number], silent=silent)
        self._norm(small.norm, grown.norm)
        if grown.lm_head is None:
            # The table reads what it wrote: each old channel as often as it has copies, undone in the norm.
            shares = 1.0 / self._copies(self.hidden)
            for parameter in grown.norm.parameters():
                parameter.mul_(shares.to(parameter))
        else:
            assert small.lm_head is not None
            head = self._vocabulary(small.lm_head.weight)
            grown.lm_head.weight.copy_(self._read(head, self.hidden))
            if grown.lm_head.bias is not None:
                grown.lm_head.bias.copy_(self._vocabulary(small.lm_head.bias))
        if grown.head_bias is not None and small.head_bias is not None:
            grown.head_bias.copy_(self._vocabulary(small.head_bias))

    def _block(self, old: nn.Module, new: nn.Module, *, silent: bool) -> None:
        self._norm(old.get_submodule("attention_norm"), new.get_submodule("attention_norm"))
        if self.large.block == "sequential":
            self._norm(old.get_submodule("mlp_norm"), new.get_submodule("mlp_norm"))
        self._qkv(_linear(old, "attention.qkv_proj"), _linear(new, "attention.qkv_proj"))
        mixed = self.heads[:, None] * self.small.head_dim + self.depth
        self._linear(old, new, "attention.o_proj", rows=self.hidden, columns=mixed.flatten())
        up = "mlp.gate_up_proj" if self.large.activation in GATED else "mlp.up_proj"
        self._linear(old, new, up, rows=self._up_rows(), columns=self.hidden)
        self._linear(old, new, "mlp.down_proj", rows=self.hidden, columns=self.inner)
        if silent:
            for name in ("attention.o_proj", "mlp.down_proj"):
                for parameter in new.get_submodule(name).parameters():
                    parameter.zero_()

    def _norm(self, old: nn.Module, new: nn.Module) -> None:
        before = dict(old.named_parameters())
        for name, parameter in new.named_parameters():
            parameter.copy_(before[name][self.hidden])

    def _up_rows(self) -> Tensor:
        if self.large.activation == "silu_glu":  # all gates, then all others
            return torch.cat([self.inner, self.inner + self.small.intermediate_size])
        if self.large.activation == "gegelu":  # by turns
            return (2 * self.inner[:, None] + torch.arange(2)).flatten()
        return self.inner

    def _qkv(self, old: nn.Linear, new: nn.Linear) -> None:
        """Queries, keys, values. Dimensions that heads gain: zero in queries, so scores stay; copies in keys
        and values. Queries undo the change of the softmax scale."""
        small, large = self.small, self.large
        sizes = [small.heads, small.kv_heads, small.kv_heads]
        rescale = small.softmax_scale / large.softmax_scale
        extra = torch.arange(large.head_dim) >= small.head_dim

        def spread(part: Tensor, heads: Tensor, queries: bool) -> Tensor:
            """(heads * head_dim, ...) of the old model -> of the new one."""
            wide = part.view(-1, small.head_dim, *part.shape[1:])[heads][:, self.depth]
            if queries:
                wide = wide * rescale
                wide[:, extra.to(wide.device)] = 0
            return wide.flatten(0, 1)

        def all_three(value: Tensor, widen: Callable[[Tensor], Tensor]) -> Tensor:
            parts = torch.split(value, [size * small.head_dim for size in sizes])
            indices = (self.heads, self.kv_heads, self.kv_heads)
            return torch.cat(
                [
                    widen(spread(part, heads, place == 0))
                    for place, (part, heads) in enumerate(zip(parts, indices, strict=True))
                ]
            )

        new.weight.copy_(all_three(old.weight, lambda part: self._read(part, self.hidden)))
        if new.bias is not None:
            new.bias.copy_(all_three(old.bias, lambda part: part))

    def _linear(self, old: nn.Module, new: nn.Module, name: str, *, rows: Tensor, columns: Tensor) -> None:
        before, after = _linear(old, name), _linear(new, name)
        # Copies of a unit of the residual stream must stay equal, or norms would change: they share one
        # set of shares. Copies inside a layer may read differently.
        if rows is self.hidden:
            after.weight.copy_(self._read(before.weight, columns)[rows])
        else:
            after.weight.copy_(self._read(before.weight[rows], columns))
        if after.bias is not None:
            after.bias.copy_(before.bias[rows])

    def _read(self, weight: Tensor, columns: Tensor) -> Tensor:
        """(rows, old columns) -> (rows, new columns): shares that sum to one over the copies of a column."""
        spread = self.settings.unevenness
        raw = 1.0 + spread * (2 * torch.rand(len(weight), len(columns), generator=self.random) - 1)
        total = torch.zeros(len(weight), weight.shape[1]).index_add_(1, columns, raw)
        shares = (raw / total[:, columns]).to(weight.device, torch.promote_types(weight.dtype, torch.float32))
        return (weight[:, columns] * shares).to(weight.dtype)

    def _copies(self, source: Tensor) -> Tensor:
        """How many copies there are of what each new unit copies."""
        return torch.bincount(source)[source].float()

    def _vocabulary(self, table: Tensor) -> Tensor:
        """(old vocabulary, ...) -> (new vocabulary, ...)."""
        missing = self.large.vocab_size - len(table)
        if not missing:
            return table
        mean = table.float().mean(dim=0, keepdim=True).to(table.dtype)
        return torch.cat([table, mean.expand(missing, *table.shape[1:])])


def _linear(module: nn.Module, name: str) -> nn.Linear:
    found = module.get_submodule(name)
    assert isinstance(found, nn.Linear)
    return found
