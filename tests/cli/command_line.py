"""Commands called in this process, and what the smallest real run needs."""

import contextlib
import io

from hornbook.cli import main

MICRO = [
    *("--scale", "smoke", "--vocab-size", "300", "--hidden-size", "64", "--layers", "1"),
    *("--tokens", "4000", "--rows", "4", "--time", "64"),
]
"""Flags that make the recipe of `hornbook new` take two seconds."""


def call(*arguments):
    """Exit status, standard output and standard error of one command, in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as stop:
            code = stop.code
    return code or 0, out.getvalue(), err.getvalue()


def write_notes(folder):
    folder.mkdir()
    for page in range(8):
        lines = [
            f"A hornbook was page {page}, line {i}, for child {page * i}. The sum of {i} and {page} is "
            f"{i + page}.\n"
            for i in range(40)
        ]
        (folder / f"{page}.txt").write_text("".join(lines))
    return folder
