"""Runs programs that models wrote, safely."""

from hornbook.sandbox.limits import Job, Limits, Outcome
from hornbook.sandbox.run import Sandbox, run_many, run_program

__all__ = ["Job", "Limits", "Outcome", "Sandbox", "run_many", "run_program"]
