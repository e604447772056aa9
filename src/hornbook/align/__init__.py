"""Post-training: supervised chat tuning, preference pairs, DPO."""
