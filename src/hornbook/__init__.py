"""Hornbook: small language models, raised on textbooks."""

__version__ = "0.1.0"
