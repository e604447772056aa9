"""Bytes on one device: in training under fully sharded data parallelism, and in inference.

Counted for the Trainer as it is: fp32 weights, gradients and optimizer states, products in bf16, a residual
stream in fp32, attention that never holds its scores, and a loss that never holds all logits. Everything is
arithmetic on a `ModelConfig`; nothing heavy is imported.
"""

from dataclasses import dataclass, fields
from typing import Literal

from hornbook.model.config import EXPERTS_PER_TOKEN, ModelConfig

QUANTIZED_GROUP = 32
LOSS_CHUNK_ELEMENTS = 1 << 27
"""Both as in `hornbook.model.quantized` and `hornbook.train.loss` (a test holds them equal)."""

Storage = Literal["bf16", "int8", "int4"]


@dataclass(frozen=True, kw_only=True)
class TrainingMemory:
    """Bytes on one device. working: bf16 copies of weights (of all of them on one device, of the gathered
    layers where they are sharded); loss: the head's fp32 gradient in the making and one chunk of logits."""

    weights: int
    gradients: int
    optimizer: int
    working: int
    activations: int
    loss: int

    @property
    def total(self) -> int:
        """All of it."""
        return sum(int(getattr(self, field.name)) for field in fields(self))


@dataclass(frozen=True, kw_only=True)
class InferenceMemory:
    """Bytes to serve one sequence: weights as stored and read, and a bf16 key-value cache of `context`
    tokens. prompt_copy: what `hornbook.infer` holds besides, where its compiled kernels do not serve, a bf16
    copy of quantized matrices that makes prompts fast; other runtimes (a GGUF in llama.cpp) do without, so
    `total` leaves it out."""

    storage: Storage
    weights: int
    cache: int
    prompt_copy: int

    @property
    def total(self) -> int:
        """Weights and cache."""
        return self.weights + self.cache


def layer_parameters(model: ModelConfig) -> int:
    """Parameters of one layer, all experts counted."""
    outside = model.vocab_size * model.hidden_size + _head(model)
    if model.vision is not None:
        outside += model.vision.parameters(model.hidden_size)
    norm = model.hidden_size * (2 if model.norm == "layernorm" else 1)
    return (model.parameters() - outside - norm) // model.layers


def _head(model: ModelConfig) -> int:
    """Parameters of the head that the embedding does not hold already."""
    weight = 0 if model.tied_embeddings else model.vocab_size * model.hidden_size
    return weight + (model.vocab_size if model.head_bias else 0)


def activation_bytes(model: ModelConfig) -> int:
    """Bytes that one token leaves in one layer for the backward pass, without recomputation.

    Norms keep their fp32 input (RMSNorm its fp32 result too) and a bf16 copy for the product behind;
    attention keeps the projection, rotated queries and keys, its output in two layouts and one fp32 sum per
    head; the MLP keeps what its elementwise steps and its last product read.
    """
    h, inner = model.hidden_size, model.intermediate_size
    queries, keys = model.heads * model.head_dim, model.kv_heads * model.head_dim
    norms = 1 if model.block == "parallel" else 2
    per_norm = 4 * h + (4 * h + 4 if model.norm == "rmsnorm" else 8)
    copies = 2 * 2 * h  # one for qkv, one for the MLP: with one shared norm still two
    attention = 2 * (queries + 2 * keys) + 2 * (queries + keys) + 2 * 2 * queries + 4 * model.heads
    mlp = {"silu_glu": 8, "gegelu": 18, "gelu_new": 4}[model.activation] * inner
    width = min(model.experts, EXPERTS_PER_TOKEN) or 1
    # Each pick keeps its own input and result (8 h, measured), the router its scores and the choices.
    routing = 8 * width * h + 10 * model.experts + 64 if model.experts else 0
    dropout = 2 * h if model.residual_dropout else 0
    return norms * per_norm + copies + attention + mlp * width + routing + dropout


def training_memory(
    model: ModelConfig,
    *,
    devices: int,
    rows: int,
    time: int,
    recompute: bool,
    optimizer: Literal["adamw", "muon"] = "adamw",
) -> TrainingMemory:
    """Bytes on one of `devices` that share weights, gradients and optimizer states evenly.

    rows, time: what goes through one device at once. recompute: each layer keeps its input alone and is
    computed again in the backward pass.
    """
    parameters, layer = model.parameters(), layer_parameters(model)
    outside = parameters - model.layers * layer
    hidden_matrices = model.layers * layer if optimizer == "muon" else 0
    tokens = rows * time
    per_layer = activation_bytes(model)
    if recompute:
        activations = tokens * (model.layers * 4 * model.hidden_size + per_layer)
    else:
        activations = tokens * model.layers * per_layer
    # Embedding output, final norm, the loss's own gradient of the hidden states.
    activations += tokens * (4 + 8 + 2 + 2) * model.hidden_size
    if devices == 1:
        working = 2 * parameters
    else:
        # bf16 weights of this layer and the one prefetched, fp32 gradients of one; what lies outside the
        # layers stays gathered, with its gradient.
        working = (2 * 2 + 4) * layer + (2 + 4) * outside
    return TrainingMemory(
        weights=_share(4 * parameters, devices),
        gradients=_share(4 * parameters, devices),
        optimizer=_share(8 * (parameters - hidden_matrices) + 4 * hidden_matrices, devices),
        working=working,
        activations=activations,
        loss=4 * model.vocab_size * model.hidden_size + 8 * LOSS_CHUNK_ELEMENTS,
    )


def _share(total: int, devices: int) -> int:
    return -(-total // devices)


def inference_memory(model: ModelConfig, storage: Storage, *, context: int) -> InferenceMemory:
    """Bytes of the engine's weights and of the cache of one sequence.

    int8 has one bf16 scale per row, int4 one per group of 32 (4.5 bits a weight) with the head in int8. The
    embedding table stays bf16, so a tied model stores its head once more when it is quantized.
    """
    table = model.vocab_size * model.hidden_size
    layers = model.layers * layer_parameters(model)
    if storage == "bf16":
        weights = 2 * model.parameters()
    elif storage == "int8":
        rows = (layers + table) // model.hidden_size
        weights = 2 * table + layers + table + 2 * rows
    else:
        weights = 3 * table + 2 * model.vocab_size + layers // 2 + 2 * layers // QUANTIZED_GROUP
    return InferenceMemory(
        storage=storage,
        weights=weights,
        cache=context * model.cache_bytes_per_token(bytes_per_number=2),
        prompt_copy=0 if storage == "bf16" else 2 * (layers + table),
    )
