"""One description for every dense member of the phi family and its Llama-shaped cousins.

Symbols in the docstrings: V vocabulary, h hidden size, I intermediate size, H query heads,
K key-value heads, d head size, L layers.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, get_args

from hornbook.errors import HornbookError
from hornbook.model.vision_config import VisionConfig

Family = Literal["phi", "phi3", "llama", "phimoe", "phi3small", "phi3_v"]
Norm = Literal["rmsnorm", "layernorm"]
Activation = Literal["silu_glu", "gelu_new", "gegelu"]
Block = Literal["sequential", "parallel"]
Positions = Literal["rotary", "learned", "none", "tags"]

GATED: tuple[Activation, ...] = ("silu_glu", "gegelu")
EXPERTS_PER_TOKEN = 2  # SparseMixer-v2 as phi-3.5-MoE has it picks exactly two


def _require(condition: bool, name: str, value: object, accepted: str) -> None:
    if not condition:
        raise HornbookError(f"Model setting {name} = {value!r} cannot work: it must be {accepted}.")


@dataclass(frozen=True, kw_only=True)
class LongRope:
    """LongRoPE rescaling (Ding et al. 2024, section 3): one divisor per rotated pair of dimensions.

    `short_factor` is used while a sequence is at most `original_max_position` tokens long and
    `long_factor` beyond; all positions of a call switch together. cos and sin are multiplied by
    a magnitude that follows, in this order: `short_mscale`/`long_mscale` where a checkpoint
    stores them, an explicit `attention_factor`, else sqrt(1 + ln(s) / ln(original_max_position))
    with s the explicit `factor` or max_position / original_max_position (1 where s <= 1).

    The angles of the first `start_tokens` positions stay unscaled where the long factors are used
    (section 3.2's n-hat). No file format can say so: only models in memory may have it.
    """

    short_factor: tuple[float, ...]
    long_factor: tuple[float, ...]
    original_max_position: int
    factor: float | None = None
    attention_factor: float | None = None
    short_mscale: float | None = None
    long_mscale: float | None = None
    start_tokens: int = 0

    def magnitude(self, max_position: int, *, long: bool) -> float:
        """The number that cos and sin are multiplied by."""
        stored = self.long_mscale if long else self.short_mscale
        if stored is not None:
            return stored
        if self.attention_factor is not None:
            return self.attention_factor
        scale = self.factor if self.factor is not None else max_position / self.original_max_position
        if scale <= 1.0:
            return 1.0
        return math.sqrt(1.0 + math.log(scale) / math.log(self.original_max_position))


@dataclass(frozen=True, kw_only=True)
class Multipliers:
    """Constant factors of width- and depth-aware parametrizations (muP); all 1 in most checkpoints.

    `embedding` scales the token embeddings, `residual` each branch before it joins the residual
    stream, `logits` the logits. `attention` replaces the softmax scale head_dim**-0.5 by
    attention / head_dim.
    """

    embedding: float = 1.0
    residual: float = 1.0
    logits: float = 1.0
    attention: float | None = None


@dataclass(frozen=True, kw_only=True)
class BlockSparse:
    """phi-3-small's attention pattern (phi-3 report, section 2): local blocks and per-head vertical stripes.

    Tokens are taken in blocks of `block`. A query in block q sees block k <= q when q - k < `local_blocks`,
    or when k is one of its head's stripes: (k + head + 1) divisible by `stride` (without the head where
    `same_for_all_heads`). Every `dense_every`-th layer attends to everything; 0 means none does.
    """

    block: int = 64
    local_blocks: int = 16
    stride: int = 8
    same_for_all_heads: bool = False
    dense_every: int = 2

    def is_sparse(self, layer: int) -> bool:
        """Whether layer `layer` (from 0) is block-sparse: with dense_every 2, layers 0, 2, 4, ... are."""
        return self.dense_every == 0 or (layer + 1) % self.dense_every != 0

    def first_stripe(self, head: int) -> int:
        """The lowest block that is a stripe of `head`; the others follow every `stride` blocks."""
        return (-1 - (0 if self.same_for_all_heads else head)) % self.stride


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Everything that fixes a decoder's shape and arithmetic.

    `family` is the Hugging Face `model_type` under which it is saved: "phi" (phi-1, 1.5, 2: one
    LayerNorm feeds both branches), "phi3" (phi-3 onwards: fused qkv and gate-up), "llama",
    "phimoe" (phi-3.5-MoE: `experts` > 0 SwiGLU experts, two of them active per token), "phi3small",
    "phi3_v" (a phi-3 that sees: `vision`).
    `kv_heads` 0 means one per query head; `head_dim` 0 means hidden_size / heads. Lengths
    (`max_position`, `sliding_window`) are in tokens; with a window W a query sees the W latest
    tokens including itself. `rotary_fraction` of each head is rotated, the rest is position-free.
    `positions` is how order is told (see `hornbook.model.positions`): "rotary" angles, a "learned" vector
    for each of max_position places, "none" (the causal mask alone), or random "tags" of `tag_size` numbers.
    Hugging Face folders and GGUF files hold rotary models only.
    `residual_dropout` falls on both branches, `mlp_dropout` on the MLP's alone. `unused_ids` are rows of
    the vocabulary that stand for nothing: their logits are the lowest number of the dtype.
    """

    vocab_size: int
    hidden_size: int
    layers: int
    heads: int
    intermediate_size: int
    kv_heads: int = 0
    head_dim: int = 0
    family: Family = "phi3"
    block: Block = "sequential"
    norm: Norm = "rmsnorm"
    norm_eps: float = 1e-5
    activation: Activation = "silu_glu"
    gegelu_limit: float = 20.0
    experts: int = 0
    router_jitter: float = 0.01
    input_jitter: float = 0.0
    attention_bias: bool = False
    mlp_bias: bool = False
    head_bias: bool = False
    tied_embeddings: bool = False
    positions: Positions = "rotary"
    tag_size: int = 0
    rope_theta: float = 10_000.0
    rotary_fraction: float = 1.0
    long_rope: LongRope | None = None
    max_position: int = 4096
    sliding_window: int | None = None
    block_sparse: BlockSparse | None = None
    embedding_dropout: float = 0.0
    residual_dropout: float = 0.0
    mlp_dropout: float = 0.0
    attention_dropout: float = 0.0
    init_std: float = 0.02
    multipliers: Multipliers = field(default_factory=Multipliers)
    bos_id: int | None = None
    eos_ids: tuple[int, ...] = ()
    pad_id: int | None = None
    unused_ids: tuple[int, ...] = ()
    vision: VisionConfig | None = None

    def __post_init__(self) -> None:
        for name in ("vocab_size", "hidden_size", "layers", "heads", "intermediate_size", "max_position"):
            value = getattr(self, name)
            _require(isinstance(value, int) and value > 0, name, value, "a positive whole number")
        for name, choices in (
            ("family", Family),
            ("block", Block),
            ("norm", Norm),
            ("activation", Activation),
            ("positions", Positions),
        ):
            _require(getattr(self, name) in get_args(choices), name, getattr(self, name), _one_of(choices))
        if self.kv_heads == 0:
            object.__setattr__(self, "kv_heads", self.heads)
        if self.head_dim == 0:
            _require(
                self.hidden_size % self.heads == 0,
                "hidden_size",
                self.hidden_size,
                f"a multiple of heads = {self.heads} (or give head_dim)",
            )
            object.__setattr__(self, "head_dim", self.hidden_size // self.heads)
        _require(
            self.kv_heads > 0 and self.heads % self.kv_heads == 0,
            "kv_heads",
            self.kv_heads,
            f"a positive divisor of heads = {self.heads}",
        )
        _require(self.head_dim > 0, "head_dim", self.head_dim, "positive")
        _require(0.0 < self.rotary_fraction <= 1.0, "rotary_fraction", self.rotary_fraction, "in (0, 1]")
        _require(
            self.rotary_dim % 2 == 0 and self.rotary_dim > 0,
            "rotary_fraction",
            self.rotary_fraction,
            f"such that int(head_dim * rotary_fraction) is even and positive, not {self.rotary_dim}",
        )
        _require(
            self.experts == 0 or (self.experts > 1 and self.activation == "silu_glu" and not self.mlp_bias),
            "experts",
            self.experts,
            "0, or at least 2 with activation 'silu_glu' and no mlp_bias",
        )
        tags = self.positions == "tags"
        _require(
            (self.tag_size > 0) == tags and self.tag_size >= 0,
            "tag_size",
            self.tag_size,
            "positive with positions 'tags'" if tags else f"0 with positions {self.positions!r}",
        )
        _require(
            self.positions == "rotary" or self.long_rope is None,
            "positions",
            self.positions,
            "'rotary' beside long_rope",
        )
        _require(0.0 <= self.input_jitter < 1.0, "input_jitter", self.input_jitter, "in [0, 1)")
        _require(self.router_jitter >= 0.0, "router_jitter", self.router_jitter, "zero or positive")
        _require(self.rope_theta > 0, "rope_theta", self.rope_theta, "positive")
        _require(self.norm_eps > 0, "norm_eps", self.norm_eps, "positive")
        _require(self.init_std >= 0, "init_std", self.init_std, "zero or positive")
        window = self.sliding_window
        _require(
            window is None or window > 0, "sliding_window", window, "None or a positive number of tokens"
        )
        if self.block_sparse is not None:
            for name in ("block", "local_blocks", "stride"):
                value = getattr(self.block_sparse, name)
                _require(value > 0, f"block_sparse.{name}", value, "positive")
            every = self.block_sparse.dense_every
            _require(every >= 0, "block_sparse.dense_every", every, "zero or positive")
            _require(window is None, "sliding_window", window, "None beside block_sparse")
        _require(
            all(0 <= i < self.vocab_size for i in self.unused_ids),
            "unused_ids",
            self.unused_ids,
            f"from 0 to {self.vocab_size - 1}",
        )
        for name in ("embedding_dropout", "residual_dropout", "mlp_dropout", "attention_dropout"):
            _require(0.0 <= getattr(self, name) < 1.0, name, getattr(self, name), "in [0, 1)")
        if self.long_rope is not None:
            for name in ("short_factor", "long_factor"):
                factors = getattr(self.long_rope, name)
                _require(
                    len(factors) == self.rotary_dim // 2,
                    f"long_rope.{name}",
                    f"{len(factors)} numbers",
                    f"{self.rotary_dim // 2} numbers, one per rotated pair of dimensions",
                )
                _require(all(f > 0 for f in factors), f"long_rope.{name}", factors, "positive throughout")
            original = self.long_rope.original_max_position
            _require(original > 1, "long_rope.original_max_position", original, "greater than 1")
            start = self.long_rope.start_tokens
            _require(start >= 0, "long_rope.start_tokens", start, "zero or a positive number of tokens")

    @property
    def rotary_dim(self) -> int:
        """How many dimensions of each head are rotated."""
        return int(self.head_dim * self.rotary_fraction)

    @property
    def softmax_scale(self) -> float:
        """What q.k is multiplied by before the softmax."""
        if self.multipliers.attention is not None:
            return float(self.multipliers.attention / self.head_dim)
        return float(self.head_dim**-0.5)

    def parameters(self) -> int:
        """The exact number of parameters, tied tensors counted once.

        Per layer: (H + 2K) d h + H d h for attention, 3 h I (gated) or 2 h I for the MLP, the
        norms (h each, 2h with bias) and the biases; with experts the MLP that many times and h for
        each expert's row of the router; plus V h for the embeddings, as much again
        for an untied head, the final norm, h for each learned position or number of a tag, and what
        `VisionConfig.parameters` counts.
        """
        h, i = self.hidden_size, self.intermediate_size
        queries, keys = self.heads * self.head_dim, self.kv_heads * self.head_dim
        norm = h * (2 if self.norm == "layernorm" else 1)
        up = i * (2 if self.activation in GATED else 1)
        attention = (queries + 2 * keys) * h + queries * h
        attention += (queries + 2 * keys + h) if self.attention_bias else 0
        mlp = up * h + i * h + ((up + h) if self.mlp_bias else 0)
        if self.experts:
            mlp = self.experts * (mlp + h)
        layer = attention + mlp + norm * (1 if self.block == "parallel" else 2)
        head = (0 if self.tied_embeddings else self.vocab_size * h) + (
            self.vocab_size if self.head_bias else 0
        )
        sight = 0 if self.vision is None else self.vision.parameters(h)
        places = self.max_position if self.positions == "learned" else self.tag_size
        return self.vocab_size * h + self.layers * layer + norm + head + sight + places * h

    def active_parameters(self) -> int:
        """Parameters that one token meets: all of them, or two experts' share in every layer."""
        if not self.experts:
            return self.parameters()
        expert = 3 * self.hidden_size * self.intermediate_size
        return self.parameters() - self.layers * (self.experts - EXPERTS_PER_TOKEN) * expert

    def cache_bytes_per_token(self, bytes_per_number: int = 2) -> int:
        """Bytes of key-value cache that one token of one sequence takes, over all layers."""
        return 2 * self.layers * self.kv_heads * self.head_dim * bytes_per_number

    def to_dict(self) -> dict[str, Any]:
        """All fields as plain JSON values (not the Hugging Face names: see `to_hf`)."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "ModelConfig":
        """The inverse of `to_dict`, also after a trip through JSON."""
        known = {f.name for f in fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise HornbookError(
                f"Unknown model settings: {', '.join(unknown)}. Known: {', '.join(sorted(known))}."
            )
        settings = dict(values)
        if settings.get("long_rope") is not None:
            rope = dict(settings["long_rope"])
            rope["short_factor"] = tuple(rope["short_factor"])
            rope["long_factor"] = tuple(rope["long_factor"])
            settings["long_rope"] = LongRope(**rope)
        if "multipliers" in settings:
            settings["multipliers"] = Multipliers(**settings["multipliers"])
        if settings.get("block_sparse") is not None:
            settings["block_sparse"] = BlockSparse(**settings["block_sparse"])
        if settings.get("vision") is not None:
            settings["vision"] = VisionConfig(**settings["vision"])
        for name in ("eos_ids", "unused_ids"):
            settings[name] = tuple(settings.get(name, ()))
        return cls(**settings)

    @classmethod
    def from_hf(cls, config: Mapping[str, Any]) -> "ModelConfig":
        """Reads a Hugging Face `config.json` (transformers 4 and 5 layouts). See `hf_config`."""
        from hornbook.model.hf_config import config_from_hf

        return config_from_hf(config)

    def to_hf(self) -> dict[str, Any]:
        """A `config.json` that transformers 4 and 5 and llama.cpp's converter read. See `hf_config`."""
        from hornbook.model.hf_config import config_to_hf

        return config_to_hf(self)


def _one_of(choices: object) -> str:
    return "one of " + ", ".join(repr(choice) for choice in get_args(choices))
