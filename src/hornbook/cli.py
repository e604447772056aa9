"""Every command of `hornbook`, thin."""

import sys


def main() -> None:
    """Entry point of the `hornbook` command."""
    sys.exit("hornbook: the commands are being built.")
