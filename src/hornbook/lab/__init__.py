"""Runs, steps, claims, reports, machine facts: what every recipe stands on."""
