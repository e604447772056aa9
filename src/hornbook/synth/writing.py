"""What every writing step shares: the teacher opened, its work checked, kept and counted, the corpus
written."""

import json
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from hornbook.data.corpus import CorpusWriter
from hornbook.errors import HornbookError
from hornbook.lab.step import Estimate, StepContext
from hornbook.lm.base import LanguageModel
from hornbook.synth.coverage import growth
from hornbook.synth.diversity import Coded, diversity, near_duplicates, words
from hornbook.synth.scripts import Row
from hornbook.synth.teacher import Teacher, is_small_embedded, open_teacher

CHUNK = 1000
DIVERSITY_SAMPLE = 4000
GROWTH_SAMPLE = 1600
"""Texts whose coverage is followed as they grow in number."""
Fault = Callable[[list[Row]], list[str]]
"""For a chunk of rows, one reason each why it is removed; empty: it is kept."""
_FACETS = (
    "topic", "concept", "audience", "kind", "about", "skeleton", "scene", "composition", "task", "setting",
    "form", "asker", "verb", "noun", "adjective", "plot", "language",
)  # fmt: skip


class NothingPassed(HornbookError):
    """Not one row passed the checks; `reasons` counts why."""

    def __init__(self, reasons: Mapping[str, int], message: str) -> None:
        super().__init__(message)
        self.reasons = dict(reasons)


def estimate_rows(rows_a_second: float, bytes_a_row: int) -> Callable[..., Estimate]:
    """The estimate of a step that writes `rows` of its inputs with the simulated teacher."""

    def estimate(**inputs: Any) -> Estimate:
        rows = int(inputs["rows"])
        return Estimate(seconds=2 + rows / rows_a_second, memory_bytes=3e8, disk_bytes=rows * bytes_a_row)

    return estimate


def no_fault(rows: list[Row]) -> list[str]:
    """Every row is kept."""
    return [""] * len(rows)


def text_of(row: Row) -> str:
    """Everything a row says, whatever its schema."""
    if "text" in row:
        return str(row["text"])
    if "chosen" in row:
        return f"{row['messages'][-1]['content']}\n{row['chosen']}"
    return "\n".join(message["content"] for message in row["messages"])


def row_facets(row: Row) -> dict[str, str]:
    """What a row is about, by kind, as its lineage says: topic, concept, audience, words of its plan..."""
    try:
        meta = json.loads(row.get("meta") or "{}")
    except ValueError:
        return {}
    plan = meta.get("plan")
    known = {**meta, **plan} if isinstance(plan, dict) else meta
    found = {kind: known[kind] for kind in _FACETS if known.get(kind)}
    return {
        kind: " / ".join(map(str, value)) if isinstance(value, list) else str(value)
        for kind, value in found.items()
    }


def write_corpus(
    ctx: StepContext,
    rows: Iterable[Row],
    *,
    total: int,
    schema: str,
    lineage: Mapping[str, Any],
    fault: Fault = no_fault,
    drop_repeats: bool = True,
    removed: list[Row] | None = None,
    follow: int = GROWTH_SAMPLE,
) -> dict[str, Any]:
    """Checks rows chunk by chunk, writes the corpus, and keeps what was removed with its reason.

    Args:
        fault: for each row of a chunk why it goes, or nothing.
        removed: rows that went before, with their `reason`.
        follow: rows whose coverage is followed as they grow in number.

    Raises:
        NothingPassed: no row was kept; the reasons are counted.
    """
    if total < 1:
        raise HornbookError(f"rows is {total}; a corpus has at least 1 row.")
    progress = ctx.progress(total, "rows")
    reasons: dict[str, int] = {}
    removed = [] if removed is None else removed
    for row in removed:
        reasons[row["reason"]] = reasons.get(row["reason"], 0) + 1
    seen: set[str] = set()
    sample: list[str] = []
    about: list[dict[str, str]] = []
    count = words_kept = checked = passed = 0
    source = iter(rows)
    with CorpusWriter(ctx.folder, schema, lineage=dict(lineage)) as writer:
        while chunk := list(islice(source, CHUNK)):
            keep = []
            for row, reason in zip(chunk, fault(chunk)):
                checked += 1
                passed += not reason
                text = text_of(row)
                if not reason and drop_repeats:
                    reason = "exact repeat" if text in seen else ""
                    seen.add(text)
                if reason:
                    reasons[reason] = reasons.get(reason, 0) + 1
                    removed.append({"reason": reason, **row})
                    continue
                keep.append(row)
                words_kept += len(words(text))
                if len(sample) < max(DIVERSITY_SAMPLE, follow):
                    sample.append(text)
                    about.append(row_facets(row))
            writer.write_rows(keep)
            count += len(keep)
            progress.advance(len(chunk))
        if not count:
            raise NothingPassed(
                reasons,
                f"none of {checked + len(removed)} rows passed the checks "
                f"({', '.join(f'{reason}: {n}' for reason, n in reasons.items())}). "
                f"Look at what the teacher, {lineage.get('teacher', 'simulated')}, answers, or name another.",
            )
    if removed:
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in removed)
        Path(ctx.folder, "removed.jsonl").write_text(lines, encoding="utf-8")
    facts: dict[str, Any] = {
        "rows": count,
        "asked": total,
        "words": words_kept,
        "removed": reasons,
        "pass_rate": passed / checked if checked else None,
        **lineage,
    }
    if len(sample) > 1:
        coded = Coded.of(sample)
        repeats = near_duplicates(coded)
        facts["diversity"] = diversity(
            sample[:DIVERSITY_SAMPLE],
            coded=coded.first(DIVERSITY_SAMPLE),
            repeats=repeats[:DIVERSITY_SAMPLE],
        )
        facts["growth"] = growth(sample[:follow], about[:follow], coded=coded, repeats=repeats)
    return facts


def open_for(ctx: StepContext, teacher: str | LanguageModel) -> Teacher:
    """The teacher, its calls kept in one store beside the steps: no other row count or seed pays twice."""
    return open_teacher(teacher, calls=ctx.folder.parent.parent / "calls.sqlite")


def not_by_the_small_one(teacher: LanguageModel, what: str) -> None:
    """Refuses the embedded SmolLM2-135M for what it cannot write."""
    if is_small_embedded(teacher):
        raise HornbookError(
            f"SmolLM2-135M does not write {what}: it was measured at or below chance there. "
            f'Use --teacher simulated or an endpoint such as "http://localhost:11434/v1#model".'
        )


def not_held_out(held_out: bool) -> None:
    """Refuses to hold out what only the simulated teacher, who composes it, can keep out of training."""
    if held_out:
        raise HornbookError(
            "held_out=True keeps skeletons and compositions out of training, and those are the simulated "
            "teacher's; a real one writes what it likes. Leave held_out out, and hold out rows by seed."
        )


def check_rows(rows: int) -> None:
    """Refuses a corpus without rows."""
    if rows < 1:
        raise HornbookError(f"rows is {rows}; a corpus has at least 1 row.")
