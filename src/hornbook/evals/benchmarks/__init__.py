"""Benchmarks as cards (TOML), with items from the user's files, from a package, or from the hub."""
