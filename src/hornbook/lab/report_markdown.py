"""A finished run as Markdown: its claims and tables, printed, or filled into pages that keep places for them.

A page keeps a place with two comments, which readers do not see:

    <!-- run ptst-quick: claims -->
    <!-- end of run -->

What stands between them is replaced. After the run's name comes "claims", or the title of a table, of bars or
of a heat map in its report.
"""

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hornbook.errors import HornbookError
from hornbook.lab.claim import Claim
from hornbook.lab.files import human_bytes, human_seconds, write_atomic
from hornbook.lab.history import RunRecord, finished_runs

_OPENING, _END = re.compile(r"^<!-- run (?P<run>\S+): (?P<what>.+?) -->$"), "<!-- end of run -->"
_OF_THE_RUN = ("Settings at scale", "Machine and versions")
"""Tables of every report that say nothing of what was measured."""


def run_markdown(run: RunRecord) -> str:
    """All that was measured: where and in what time, the claims, then every table, bars and heat map."""
    parts = [f"## {_report(run)['title']}", claims_markdown(run)]
    parts += [f"### {title}\n\n{text}" for title, text in _tables(run).items()]
    return "\n\n".join(parts) + "\n"


def claims_markdown(run: RunRecord) -> str:
    """The table of claims, below it the rules, and what the run took."""
    claims = run.claims
    rows = [
        [
            claim.sentence,
            "" if claim.paper_value is None else _cell(claim.paper_value),
            _measured(claim),
            claim.verdict,
        ]
        for claim in claims
    ]
    parts = [_took(run)]
    if rows:
        parts += [_table(["claim", "paper", "here", "verdict"], rows), _rules(claims)]
    return "\n\n".join(part for part in parts if part)


def fill(page: Path, home: Path) -> list[str]:
    """Replaces what stands in the places that `page` keeps for runs; returns the places that were filled.

    Raises:
        HornbookError: the page keeps no place, one that does not end, or one for something no run has.
    """
    try:
        lines = page.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise HornbookError(f"The page {page} cannot be read: {error}") from error
    runs = {run.folder.name: run for run in finished_runs(home)}
    out: list[str] = []
    filled: list[str] = []
    number = 0
    while number < len(lines):
        line = lines[number]
        number += 1
        out.append(line)
        if (place := _OPENING.match(line.strip())) is None:
            continue
        began = number
        while number < len(lines) and lines[number].strip() != _END:
            number += 1
        if number == len(lines):
            raise HornbookError(f"{page}, line {began}: this place for a run has no line {_END} behind it.")
        out += _content(runs, place["run"], place["what"], home).splitlines()
        filled.append(f"{place['run']}: {place['what']}")
    if not filled:
        raise HornbookError(
            f"{page} keeps no place for a run. Write the two lines <!-- run RECIPE-SCALE: claims --> and "
            f"{_END} where its figures belong."
        )
    write_atomic(page, "\n".join(out) + "\n")
    return filled


def _content(runs: Mapping[str, RunRecord], name: str, what: str, home: Path) -> str:
    run = runs.get(name)
    if run is None:
        known = ", ".join(sorted(runs)) or "none"
        raise HornbookError(f"There is no finished run {name} below {home}; there are: {known}.")
    if what == "claims":
        return claims_markdown(run)
    tables = _tables(run)
    if what not in tables:
        raise HornbookError(
            f"The report of {name} has no table {what!r}; it has: claims, {', '.join(tables)}."
        )
    return tables[what]


def _report(run: RunRecord) -> dict[str, Any]:
    path = run.folder / "report.json"
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise HornbookError(f"The report {path} cannot be read: {error}. Run the recipe again.") from error
    assert isinstance(data, dict)
    return data


def _took(run: RunRecord) -> str:
    """One sentence: the command, the day, the machine, time and memory."""
    steps, machine = run.data["steps"], run.data.get("machine", {})
    where = f"{machine.get('cores', '?')} cores ({machine.get('cpu', 'unknown')})"
    if machine.get("gpu"):
        where += f", {machine['gpu']}"
    took = human_seconds(sum(step["seconds"] for step in steps))
    memory = human_bytes(max((step["peak_memory_bytes"] for step in steps), default=0))
    seeds = run.data.get("settings", {}).get("seeds")
    many = f", {len(seeds)} seeds" if isinstance(seeds, list) and seeds else ""
    return (
        f"`hornbook run {run.recipe} --scale {run.scale}`{many}, {run.finished[:10]}, on {where}: {took}, "
        f"peak memory {memory}."
    )


def _measured(claim: Claim) -> str:
    """The number with its unit and its interval."""
    if claim.measured is None:
        return "not measured"
    text = _cell(float(claim.measured))
    if claim.interval is not None:
        text += f" [{_cell(claim.interval[0])}, {_cell(claim.interval[1])}]"
    return f"{text} {claim.unit}".strip()


def _rules(claims: Sequence[Claim]) -> str:
    """Each rule, fixed before the run, and what the verdict rests on; a rule that all share is said once."""
    rules = {claim.rule for claim in claims if claim.rule}
    lines = [f"Rule of all: {next(iter(rules))}.\n"] if len(rules) == 1 else []
    for claim in claims:
        told = [f"rule: {claim.rule}."] if claim.rule and len(rules) > 1 else []
        told += [claim.why] if claim.why else []
        if told:
            lines.append(f"- *{claim.sentence.rstrip('.')}*: {' '.join(told)}")
    return "\n".join(lines).strip()


def _tables(run: RunRecord) -> dict[str, str]:
    """By title, everything in the report that can stand as a table."""
    found: dict[str, str] = {}
    for block in _report(run)["blocks"]:
        made = _MAKERS.get(block["kind"])
        title = block.get("title") or ""
        if made is None or title.startswith(_OF_THE_RUN):
            continue
        text = made(block)
        if note := block.get("note"):
            text += f"\n\n{note}"
        title = title or "table"
        while title in found:  # two of one name: neither is lost
            title += "'"
        found[title] = text
    return found


def _bars(block: Mapping[str, Any]) -> str:
    value = f"value ({block['unit']})" if block["unit"] else "value"
    ranges = any(bar["interval"] for bar in block["bars"])
    rows = []
    for bar in block["bars"]:
        row = [bar["label"], bar["value"]]
        if ranges:
            row.append(" to ".join(_cell(end) for end in bar["interval"] or ()))
        rows.append(row)
    return _table(["", value, *(["95 % interval"] if ranges else [])], rows)


def _heat_map(block: Mapping[str, Any]) -> str:
    rows = [[name, *values] for name, values in zip(block["rows"], block["values"], strict=True)]
    return _table(["", *block["columns"]], rows)


_MAKERS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "table": lambda block: _table(block["columns"], block["rows"]),
    "bars": _bars,
    "heat_map": _heat_map,
}


def _table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    head = [[_cell(name) for name in columns], ["---"] * len(columns)]
    return "\n".join(f"| {' | '.join(line)} |" for line in [*head, *([_cell(v) for v in r] for r in rows)])


def _cell(value: object) -> str:
    """Text that breaks no table, and numbers of three digits."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return _number(value)
    return str(value).replace("|", "\\|").replace("\n", " ")


def _number(value: float) -> str:
    if not math.isfinite(value):
        return ""
    size = abs(value)
    if size >= 1000:
        return f"{value:,.0f}"
    if size == 0 or size >= 0.001:
        places = 3 if size < 10 else 1
        return f"{value:.{places}f}".rstrip("0").rstrip(".") if size else "0"
    return f"{value:.2g}"
