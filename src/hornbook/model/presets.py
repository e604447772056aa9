"""The published shapes by name, and small phi-3-shaped students to raise.

LongRoPE lists are the published ones rounded to the digits in print: right for planning and for
training from scratch. A released checkpoint brings its own lists in its config.json.
"""

from collections.abc import Callable
from itertools import chain, repeat
from typing import Any

from hornbook.errors import HornbookError
from hornbook.model.config import BlockSparse, LongRope, ModelConfig, Multipliers
from hornbook.model.vision_config import VisionConfig

# fmt: off
_PHI35_MINI_LONG = (
    1.08, 1.11, 1.14, 1.34, 1.59, 1.60, 1.62, 2.62, 3.23, 3.23, 4.79, 7.40, 7.70, 9.09, 12.20,
    17.67, 24.46, 28.57, 30.42, 30.84, 32.59, 32.93, 42.32, 44.96, 50.34, 50.45, 57.55, 57.93,
    58.21, 60.14, 62.61, 62.62, 62.71, 63.14, 63.14, 63.77, 63.93, 63.96, 63.97, 64.03, 64.07,
    64.08, 64.12, 64.41, 64.48, 64.51, 64.53, 64.84,
)
_PHI35_MINI_SHORT = (
    1.0, 1.02, 1.03, 1.03, *repeat(1.05, 5), 1.07, 1.10, 1.11, 1.16, 1.16, 1.17, 1.29, 1.34, 1.68,
    1.79, 1.82, 1.85, 1.88, 1.91, 1.94, 1.99, *repeat(2.02, 6), *repeat(2.03, 9), 2.08, 2.09, 2.19,
    2.22, 2.59, 2.73, 2.75, 2.84,
)
_PHI35_VISION_SHORT = (
    1.08, 1.10, 1.13, 1.28, 1.31, 1.45, 1.45, 1.95, 2.03, 2.43, 2.57, 2.95, 3.73, 3.87, 4.19, 4.44,
    4.64, 4.98, 5.16, 5.28, 5.76, 5.89, 5.89, 5.97, 6.09, 6.28, 6.77, 6.89, 7.11, 7.13, 7.18, 7.29,
    7.34, 7.56, 7.62, 7.70, *repeat(7.88, 3), 7.94, 7.95, 7.98, 8.20, 8.44, 8.47, 8.59, 8.81, 9.00,
)
_PHI3_MINI_LONG = (
    1.03, 1.05, 1.05, 1.08, 1.23, 1.23, 1.30, 1.45, 1.60, 1.65, 1.90, 2.86, 3.69, 5.42, 5.49, 5.49,
    9.09, 11.58, 15.66, 15.77, 15.79, 18.36, 21.99, 23.08, 30.01, 32.35, 32.59, 35.56, 39.95, 53.84,
    56.20, 57.95, 59.29, 59.77, 59.92, 61.19, 61.96, 62.50, 63.37, 63.48, 63.48, 63.66, 63.85,
    64.08, 64.76, 64.80, 64.81, 64.81,
)
_PHI3_MINI_SHORT = tuple(chain.from_iterable((
    repeat(1.05, 3), repeat(1.10, 3), repeat(1.25, 2), (1.40, 1.45, 1.55, 1.85, 1.90), repeat(2.00, 19),
    repeat(2.10, 2), (2.20,), repeat(2.35, 4), repeat(2.40, 2), (2.65, 2.70, 2.90, 2.95), repeat(3.05, 3),
)))
_PHI4_MINI_LONG = (
    1.0, 1.118320672, 1.250641126, 1.398617824, 1.564103225, 1.74916897, 1.956131817, 2.187582649,
    2.446418898, 2.735880826, 3.059592084, 3.421605075, 3.826451687, 4.279200023, 4.785517845,
    5.351743533, 5.984965424, 6.693110555, 7.485043894, 8.370679318, 9.36110372, 10.4687158,
    11.70738129, 13.09260651, 14.64173252, 16.37415215, 18.31155283, 20.47818807, 22.90118105,
    25.61086418, 28.64115884, 32.03, 32.1, 32.13, 32.23, 32.6, 32.61, 32.64, 32.66, 32.7, 32.71,
    32.93, 32.97, 33.28, 33.49, 33.5, 44.16, 47.77,
)
# fmt: on


def _phi(hidden_size: int, layers: int, rotary_fraction: float, residual_dropout: float = 0.0) -> ModelConfig:
    """phi-1, 1.5 and 2: parallel block, LayerNorm, biases everywhere, CodeGen vocabulary."""
    return ModelConfig(
        family="phi",
        vocab_size=51200,
        hidden_size=hidden_size,
        layers=layers,
        heads=32,
        intermediate_size=4 * hidden_size,
        block="parallel",
        norm="layernorm",
        activation="gelu_new",
        attention_bias=True,
        mlp_bias=True,
        head_bias=True,
        rotary_fraction=rotary_fraction,
        max_position=2048,
        residual_dropout=residual_dropout,
        bos_id=50256,
        eos_ids=(50256,),
    )


# Tables and special ids by tokenizer: Llama 2's pieces, cl100k as phi-4 numbers it, o200k.
_LLAMA2: dict[str, Any] = {
    "vocab_size": 32064,
    "bos_id": 1,
    "eos_ids": (32000, 32001, 32007),
    "pad_id": 32000,
}
_CL100K: dict[str, Any] = {
    "vocab_size": 100352,
    "bos_id": 100257,
    "eos_ids": (100257, 100265),
    "pad_id": 100257,
}
_O200K: dict[str, Any] = {
    "vocab_size": 200064,
    "bos_id": 199999,
    "eos_ids": (199999, 200020),
    "pad_id": 199999,
}


def _phi3_mini(**changes: Any) -> ModelConfig:
    """phi-3-mini's body; what differs is given."""
    body = {"hidden_size": 3072, "layers": 32, "heads": 32, "intermediate_size": 8192}
    return ModelConfig(**(body | _LLAMA2 | changes))


def _phi3_medium(**changes: Any) -> ModelConfig:
    """The body that phi-3-medium and phi-4 share."""
    body = {"hidden_size": 5120, "layers": 40, "heads": 40, "kv_heads": 10, "intermediate_size": 17920}
    return ModelConfig(**(body | _LLAMA2 | changes))


def _to_128k(short: tuple[float, ...], long: tuple[float, ...], window: int = 262144) -> dict[str, Any]:
    """Settings of a model of 4096 tokens extended by LongRoPE."""
    rope = LongRope(short_factor=short, long_factor=long, original_max_position=4096)
    return {"long_rope": rope, "max_position": 131072, "sliding_window": window}


def _phi3_small() -> ModelConfig:
    """The 8k model: cl100k vocabulary, GEGELU, muP, every other layer block-sparse."""
    return ModelConfig(
        family="phi3small",
        vocab_size=100352,
        hidden_size=4096,
        layers=32,
        heads=32,
        kv_heads=8,
        intermediate_size=14336,
        norm="layernorm",
        activation="gegelu",
        gegelu_limit=20.0,
        attention_bias=True,
        mlp_bias=True,
        tied_embeddings=True,
        rope_theta=1_000_000.0,
        max_position=8192,
        block_sparse=BlockSparse(block=64, local_blocks=16, stride=8, dense_every=2),
        embedding_dropout=0.1,
        mlp_dropout=0.1,
        multipliers=Multipliers(embedding=10.0, logits=1 / 8, attention=1.0),
        bos_id=100257,
        eos_ids=(100257, 100266),
        pad_id=100257,
        unused_ids=(100256, *range(100258, 100261), 100264, 100265, *range(100267, 100352)),
    )


def _phi35_moe() -> ModelConfig:
    """Without its LongRoPE lists, which are not in print: for plans and as a shape, up to 4096 tokens."""
    return ModelConfig(
        **_LLAMA2,
        family="phimoe",
        hidden_size=4096,
        layers=32,
        heads=32,
        kv_heads=8,
        intermediate_size=6400,
        norm="layernorm",
        attention_bias=True,
        head_bias=True,
        experts=16,
        input_jitter=0.01,
        max_position=131072,
        sliding_window=131072,
    )


def _smollm2_135m() -> ModelConfig:
    return ModelConfig(
        family="llama",
        vocab_size=49152,
        hidden_size=576,
        layers=30,
        heads=9,
        kv_heads=3,
        intermediate_size=1536,
        tied_embeddings=True,
        rope_theta=100_000.0,
        max_position=8192,
        bos_id=1,
        eos_ids=(2,),
        pad_id=2,
    )


def student(
    *,
    hidden_size: int,
    layers: int,
    vocab_size: int,
    max_position: int = 2048,
    heads: int = 0,
    kv_heads: int = 0,
    intermediate_size: int = 0,
    tied_embeddings: bool = True,
) -> ModelConfig:
    """A phi-3-shaped model to raise: heads of 64 (fastest on every machine measured) unless `heads` says how
    many, MLP four times as wide unless `intermediate_size` says otherwise, special tokens as the tokenizer
    room numbers them (`<|endoftext|>` 0, `<|end|>` 4).
    """
    if not heads and hidden_size % 64:
        raise HornbookError(
            f"A student's hidden_size must be a multiple of its head size 64, not {hidden_size}."
        )
    return ModelConfig(
        vocab_size=vocab_size,
        hidden_size=hidden_size,
        layers=layers,
        heads=heads or hidden_size // 64,
        kv_heads=kv_heads,
        intermediate_size=intermediate_size or 4 * hidden_size,
        tied_embeddings=tied_embeddings,
        max_position=max_position,
        bos_id=0,
        eos_ids=(0, 4),
        pad_id=0,
    )


PRESETS: dict[str, Callable[[], ModelConfig]] = {
    "phi-1": lambda: _phi(2048, 24, 0.5),
    "phi-1.5": lambda: _phi(2048, 24, 0.5),
    "phi-2": lambda: _phi(2560, 32, 0.4, residual_dropout=0.1),
    "phi-3-mini": lambda: _phi3_mini(max_position=4096, sliding_window=2047),
    "phi-3-mini-128k": lambda: _phi3_mini(**_to_128k(_PHI3_MINI_SHORT, _PHI3_MINI_LONG)),
    "phi-3-small": _phi3_small,
    "phi-3-medium": lambda: _phi3_medium(max_position=4096, sliding_window=2047),
    "phi-3.5-mini": lambda: _phi3_mini(**_to_128k(_PHI35_MINI_SHORT, _PHI35_MINI_LONG)),
    "phi-3-vision": lambda: _phi3_mini(
        **_to_128k(_PHI3_MINI_SHORT, _PHI3_MINI_LONG, window=131072), family="phi3_v", vision=VisionConfig()
    ),
    "phi-3.5-vision": lambda: _phi3_mini(
        **_to_128k(_PHI35_VISION_SHORT, _PHI35_MINI_LONG), family="phi3_v", vision=VisionConfig()
    ),
    "phi-4": lambda: _phi3_medium(**_CL100K, rope_theta=250_000.0, max_position=16384),
    "phi-4-mini": lambda: _phi3_mini(
        **_O200K,
        **_to_128k((1.0,) * 48, _PHI4_MINI_LONG),
        heads=24,
        kv_heads=8,
        head_dim=128,
        tied_embeddings=True,
        rotary_fraction=0.75,
    ),
    "phi-3.5-moe": _phi35_moe,
    "smollm2-135m": _smollm2_135m,
    "student-1m": lambda: student(hidden_size=128, layers=3, vocab_size=2048),
    "student-4m": lambda: student(hidden_size=192, layers=6, vocab_size=4096),
    "student-9m": lambda: student(hidden_size=256, layers=8, vocab_size=4096),
    "student-17m": lambda: student(hidden_size=320, layers=9, vocab_size=8192),
    "student-33m": lambda: student(hidden_size=448, layers=9, vocab_size=8192),
    "student-350m": lambda: student(hidden_size=1024, layers=19, vocab_size=32064),
    "student-1.3b": lambda: student(hidden_size=2048, layers=18, vocab_size=32064),
}
_ALIASES = {
    "phi-3-mini-4k": "phi-3-mini",
    "phi-3-small-8k": "phi-3-small",
    "phi-3-medium-4k": "phi-3-medium",
    "smollm2": "smollm2-135m",
}


def preset(name: str) -> ModelConfig:
    """The configuration known by `name`; HornbookError lists the names where it is not known."""
    key = _ALIASES.get(name, name)
    if key not in PRESETS:
        raise HornbookError(f"No model is called {name!r}. Known: {', '.join(PRESETS)}.")
    return PRESETS[key]()
