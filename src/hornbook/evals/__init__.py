"""Measuring a model honestly."""
