"""Probes in the spirit of "Sparks of Artificial General Intelligence" (Bubeck et al. 2023), with graders."""
