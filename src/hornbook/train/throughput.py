"""How fast training will go: what a token costs, and what this machine gives."""

from hornbook.model.config import ModelConfig

# Share of the measured matrix-product ceiling that training reaches (docs/training.md).
_CPU_SHARE = 0.35
_CUDA_SHARE = 0.45


def flops_per_token(model: ModelConfig, time: int) -> float:
    """Floating-point operations to train on one token, forward and backward.

    6 N for the matrices (Kaplan et al. 2020, section 2.1), N without the input embedding, plus attention:
    6 * layers * hidden * time for causal rows of `time` tokens (12, halved because half the scores are
    masked).
    """
    embedding = model.vocab_size * model.hidden_size
    matrices = model.parameters() - (0 if model.tied_embeddings else embedding)
    return 6.0 * matrices + 6.0 * model.layers * model.heads * model.head_dim * time


def expected_tokens_per_second(model: ModelConfig, time: int) -> float:
    """A forecast from this machine's measured matrix-product ceiling (measured once, then remembered)."""
    from hornbook.lab.machine import ceilings, machine_facts

    facts = machine_facts()
    measured = ceilings(device="cuda" if facts.gpu else "cpu")
    gflops = max(measured.fp32_gflops, measured.bf16_gflops)
    share = _CUDA_SHARE if facts.gpu else _CPU_SHARE
    return share * gflops * 1e9 / flops_per_token(model, time)
