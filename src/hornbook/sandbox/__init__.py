"""Runs programs that models wrote, safely."""

from hornbook.sandbox.limits import Job, Limits, Outcome
from hornbook.sandbox.run import Sandbox, run_many, run_program
from hornbook.sandbox.self_test import SelfTest, self_test

__all__ = ["Job", "Limits", "Outcome", "Sandbox", "SelfTest", "run_many", "run_program", "self_test"]
