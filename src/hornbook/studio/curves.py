"""Metrics of a run as lines to draw: read once a change, thinned to what a screen can show."""

import json
import math
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hornbook.lab.step import METRICS_FILE

POINTS = 600
"""Of one line: more cannot be seen."""

_MOST_LINES = 20_000
_NOT_MEASURED = frozenset({"step", "time", "made_by"})
_FIRST = (
    "loss",
    "bits_per_byte",
    "accuracy",
    "margin",
    "learning_rate",
    "gradient_norm",
    "tokens_per_second",
)

_kept: dict[Path, tuple[tuple[int, int], dict[str, Any]]] = {}
_lock = threading.Lock()


def of_run(folder: Path) -> dict[str, Any]:
    """`{"groups": [{"step", "x", "metrics": [{"name", "x": [...], "y": [...]}]}]}` of a run's folder."""
    path = folder / METRICS_FILE
    try:
        found = path.stat()
    except OSError:
        return {"groups": []}
    stamp = (found.st_mtime_ns, found.st_size)
    with _lock:
        kept = _kept.get(path)
    if kept is not None and kept[0] == stamp:
        return kept[1]
    data = {"groups": _groups(path)}
    with _lock:
        if len(_kept) > 64:
            _kept.clear()
        _kept[path] = (stamp, data)
    return data


def _groups(path: Path) -> list[dict[str, Any]]:
    lines: dict[str, dict[str, dict[float, float]]] = {}
    for number, entry in enumerate(_entries(path)):
        own = lines.setdefault(str(entry.get("made_by", "")), {})
        place = entry.get("step", number)
        if not isinstance(place, int | float):
            continue
        for name, value in _numbers(entry):
            own.setdefault(name, {})[place] = value  # logged again after an interruption: the last one counts
    return [
        {"step": step, "metrics": [_thinned(name, points) for name, points in sorted(own.items(), key=_rank)]}
        for step, own in lines.items()
        if own
    ]


def _entries(path: Path) -> Iterator[dict[str, Any]]:
    """Lines as dictionaries; of very long files evenly chosen ones. A torn line is left out."""
    text = path.read_text(encoding="utf-8", errors="replace").splitlines()
    stride = max(1, len(text) // _MOST_LINES)
    for line in text[::stride]:
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict):
            yield entry


def _numbers(entry: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    for name, value in entry.items():
        if name in _NOT_MEASURED:
            continue
        if isinstance(value, dict):
            yield from _numbers(value, f"{prefix}{name}.")
        elif isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            yield prefix + name, float(value)


def _rank(item: tuple[str, Any]) -> tuple[int, str]:
    name = item[0].partition(".")[0]
    return (_FIRST.index(name) if name in _FIRST else len(_FIRST)), item[0]


def _thinned(name: str, points: dict[float, float]) -> dict[str, Any]:
    places = sorted(points)
    stride = max(1, math.ceil(len(places) / POINTS))
    chosen = places[::stride]
    if places and chosen[-1] != places[-1]:
        chosen.append(places[-1])
    return {"name": name, "x": chosen, "y": [points[place] for place in chosen]}
