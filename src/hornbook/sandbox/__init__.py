"""Runs programs that models wrote, safely."""
