"""Corpora on disk: read, write, tokenize, mix, pack."""
