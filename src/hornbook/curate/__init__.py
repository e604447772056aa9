"""Choosing text: quality, duplicates, educational value, decontamination."""
