"""The record of a run: one JSON line per step, cut back to the checkpoint on resume."""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TextIO

Sink = Callable[[int, Mapping[str, float]], None]
"""Receives (step, numbers); for trackers such as TensorBoard."""


class Metrics:
    """`metrics.jsonl`: training lines hold `loss`, validation lines hold `bits_per_byte`.

    Lines of steps that a resumed run will take again are removed first, so that the file always holds one
    curve. A last line that was cut off by a crash is removed too.
    """

    def __init__(self, path: Path | None, *, done: int, sinks: tuple[Sink, ...] = ()) -> None:
        self.path, self.sinks = path, sinks
        self.evaluated: Mapping[str, float] | None = None  # bits per byte that were measured at `done`
        self._file: TextIO | None = None
        if path is None:  # a rank that does not report
            return
        kept = [line for line in read(path) if _belongs(line, done)]
        for line in kept:
            if line["step"] == done and "bits_per_byte" in line:
                self.evaluated = line["bits_per_byte"]
        text = "".join(json.dumps(line) + "\n" for line in kept)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".partial")
        temporary.write_text(text)
        os.replace(temporary, path)
        self._file = open(path, "a", buffering=1)  # noqa: SIM115 (closed by close)

    def write(self, step: int, numbers: Mapping[str, Any]) -> None:
        """One line; numbers go to the sinks as well."""
        if self._file is None:
            return
        self._file.write(json.dumps({"step": step, **numbers}) + "\n")
        if self.sinks:
            flat = {key: float(value) for key, value in _flat(numbers) if isinstance(value, int | float)}
            for sink in self.sinks:
                sink(step, flat)

    def close(self) -> None:
        """Closes the file."""
        if self._file is not None:
            self._file.close()


def read(path: Path) -> list[dict[str, Any]]:
    """All whole lines of a metrics file; nothing when there is none."""
    lines: list[dict[str, Any]] = []
    if not path.is_file():
        return lines
    for text in path.read_text().splitlines():
        try:
            line = json.loads(text)
        except ValueError:
            break
        if isinstance(line, dict) and isinstance(line.get("step"), int):
            lines.append(line)
    return lines


def _belongs(line: dict[str, Any], done: int) -> bool:
    # A training line names the step it took (from 0), a validation line the number of steps before it.
    return int(line["step"]) < done + ("bits_per_byte" in line)


def _flat(numbers: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, value in numbers.items():
        if isinstance(value, Mapping):
            found += _flat(value, f"{prefix}{key}/")
        else:
            found.append((prefix + key, value))
    return found
