"""Trainer, objectives, optimizers, schedules, checkpoints."""
