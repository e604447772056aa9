"""Skill-Mix, the skills that programs can check, and what a student learns of composing them."""
