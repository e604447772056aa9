"""How fast training will go: what a token costs, and what this machine gives."""

from hornbook.model.config import ModelConfig

# Share of the measured matrix-product ceiling that training reaches (docs/training.md).
_CPU_SHARE = 0.35
_CUDA_SHARE = 0.45

SMALL_STUDENT_RATE = 12_000.0
"""Tokens a second of a student of two to three million parameters on two cores (docs/results)."""
PROCESS_BYTES = 3.0e9
"""What training takes beside weights and activations: libraries, buffers, a second process."""


def visible_tokens(model: ModelConfig, time: int) -> float:
    """Mean number of tokens a token of a causal row of `time` tokens attends to, inside the window."""
    window = min(model.sliding_window or time, time)
    return window - window * window / (2 * time)


def flops_per_token(model: ModelConfig, time: int) -> float:
    """Operations to train on one token, forward and backward: 6 N + 12 L H d n.

    N: active parameters without the input embedding (Kaplan et al. 2020, section 2.1); L layers, H heads of
    size d, n the tokens attended to on average (half of `time` for plain causal rows).
    """
    embedding = 0 if model.tied_embeddings else model.vocab_size * model.hidden_size
    width = model.layers * model.heads * model.head_dim
    return 6.0 * (model.active_parameters() - embedding) + 12.0 * width * visible_tokens(model, time)


def expected_tokens_per_second(model: ModelConfig, time: int) -> float:
    """A forecast from this machine's measured matrix-product ceiling (measured once, then remembered)."""
    from hornbook.lab.machine import ceilings, machine_facts

    facts = machine_facts()
    measured = ceilings(device="cuda" if facts.gpu else "cpu")
    gflops = max(measured.fp32_gflops, measured.bf16_gflops)
    share = _CUDA_SHARE if facts.gpu else _CPU_SHARE
    return share * gflops * 1e9 / flops_per_token(model, time)
