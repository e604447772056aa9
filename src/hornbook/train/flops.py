"""What one token costs, in floating-point operations."""

from hornbook.model.config import ModelConfig


def active_parameters(model: ModelConfig) -> int:
    """Parameters that one token meets: all of them, or the chosen experts' share."""
    count = getattr(model, "active_parameters", model.parameters)
    return int(count() if callable(count) else count)


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
    return 6.0 * (active_parameters(model) - embedding) + 12.0 * width * visible_tokens(model, time)
