"""LanguageModel and its kinds; the call store, the ledger, the HTTP client."""

from hornbook.lm.base import (
    Capabilities,
    Completion,
    Failure,
    LanguageModel,
    Message,
    Request,
    Sampling,
    Score,
    Usage,
    ask,
)

__all__ = [
    "Capabilities",
    "Completion",
    "Failure",
    "LanguageModel",
    "Message",
    "Request",
    "Sampling",
    "Score",
    "Usage",
    "ask",
]
