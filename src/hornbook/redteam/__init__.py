"""Attacks on models their owners are responsible for, to find what gives way and mend it."""
