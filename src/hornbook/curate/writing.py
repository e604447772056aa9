"""What curation writes: the kept corpus, what was removed, attributes beside both, samples for people."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from hornbook.curate.decision import Decision
from hornbook.curate.pipeline import CurateSettings
from hornbook.data.corpus import Corpus, CorpusWriter
from hornbook.lab.files import write_json
from hornbook.lab.progress import Progress

_SAMPLES = 10
_EXCERPT = 600
_ROWS = 2048
# Attributes that documents have only when their length, language and rules let them through.
_CLOSE = ("educational", "personal_data", "match")


def write(
    folder: Path,
    source: Corpus,
    attributes: pa.Table,
    decision: Decision,
    settings: CurateSettings,
    progress: Progress,
) -> dict[str, Any]:
    """The kept corpus in `folder`, the removed one in `folder/removed`, `funnel.json`; the facts of both."""
    removed_folder = folder / "removed"
    shutil.rmtree(removed_folder, ignore_errors=True)
    lineage = {"made_by": "curate", "from": source.sha256, "rows_in": source.rows}
    samples: dict[str, list[dict[str, Any]]] = {"kept": [], "removed": []}
    shown = _shown(decision)
    kept_sources: dict[str, list[int]] = {}
    ids: list[str] = []
    row = 0
    with (
        CorpusWriter(folder, "documents", lineage) as kept,
        CorpusWriter(removed_folder, "documents", lineage | {"removed": True}) as removed,
    ):
        for batch in source.iter_batches(rows=_ROWS):
            table = pa.Table.from_batches([batch])
            keep = decision.kept[row : row + len(batch)]
            ids += table["id"].to_pylist()
            for name, one in zip(table["source"].to_pylist(), keep.tolist()):
                tally = kept_sources.setdefault(name, [0, 0])
                tally[0] += 1
                tally[1] += one
            for place in range(len(batch)):
                if row + place in shown:
                    kind = "kept" if keep[place] else "removed"
                    samples[kind].append(_excerpt(table, place, decision, row + place))
            clean = table
            if settings.personal_data == "mask":
                masked = attributes["text"].slice(row, len(batch)).combine_chunks()
                column = table.schema.get_field_index("text")
                text = pc.coalesce(
                    masked.cast(table.schema.field("text").type), table["text"].combine_chunks()
                )
                clean = table.set_column(column, "text", text)
            kept.write_table(clean.filter(pa.array(keep)))
            removed.write_table(table.filter(pa.array(~keep)))
            row += len(batch)
            progress.advance(len(batch))
    seen = _seen(attributes, decision, settings)
    _write_attributes(folder, removed_folder, seen, decision, ids)
    funnel = decision.funnel()
    write_json(folder / "funnel.json", {"funnel": funnel, "reasons": decision.reasons()})
    return {
        "rows_in": source.rows,
        "rows_out": kept.rows,
        "bytes_in": source.bytes,
        "bytes_out": kept.bytes,
        "funnel": funnel,
        "reasons": decision.reasons(),
        "languages": _counts(attributes["language"]),
        "kinds": _counts(attributes["kind"]),
        "sources": {
            name: {"in": total, "out": left} for name, (total, left) in sorted(kept_sources.items())[:200]
        },
        "personal_data": int(pc.sum(seen["personal_data"]).as_py() or 0),
        "samples": samples,
    }


def _seen(attributes: pa.Table, decision: Decision, settings: CurateSettings) -> pa.Table:
    """The attributes to be written: the same whatever else was examined on an earlier occasion."""
    names = ["language", "language_score", "kind", "words", *_CLOSE]
    table = attributes.select(names).combine_chunks()
    own = pa.array(np.isin(decision.stage, (0, 1, 2)))
    for name in _CLOSE:
        column = table[name].combine_chunks()
        hidden = pa.scalar(None, column.type)
        off = name == "personal_data" and settings.personal_data == "off"
        off |= name == "match" and settings.decontamination is None
        changed = pa.nulls(len(column), column.type) if off else pc.if_else(own, hidden, column)
        table = table.set_column(names.index(name), name, changed)
    return table


def _shown(decision: Decision) -> set[int]:
    """Rows for the report: ten kept, evenly spaced, and ten removed, each reason in turn."""
    kept = np.flatnonzero(decision.kept)
    rows = {int(kept[i]) for i in np.linspace(0, len(kept) - 1, min(_SAMPLES, len(kept))).astype(int)}
    by_reason: dict[str, list[int]] = {reason: [] for reason in decision.reasons()}
    for row, reason in enumerate(decision.reason):
        if reason is not None and len(by_reason[reason]) < _SAMPLES:
            by_reason[reason].append(row)
    turns = [
        row for turn in range(_SAMPLES) for group in by_reason.values() for row in group[turn : turn + 1]
    ]
    return rows | set(turns[:_SAMPLES])


def _excerpt(table: pa.Table, place: int, decision: Decision, row: int) -> dict[str, Any]:
    entry = {
        "id": table["id"][place].as_py(),
        "source": table["source"][place].as_py(),
        "text": table["text"][place].as_py()[:_EXCERPT],
    }
    if not decision.kept[row]:
        score = decision.score[row]
        entry |= {"reason": decision.reason[row], "score": None if score is None else round(score, 4)}
    return entry


def _counts(column: pa.ChunkedArray) -> dict[str, int]:
    pairs = column.drop_null().value_counts().to_pylist()
    return dict(sorted(((p["values"], p["counts"]) for p in pairs), key=lambda pair: (-pair[1], pair[0])))


def _write_attributes(
    kept: Path, removed: Path, attributes: pa.Table, decision: Decision, ids: list[str]
) -> None:
    table = attributes.drop_columns(["match"])
    more: dict[str, Any] = {
        "stage": pa.array([None if s < 0 else int(s) for s in decision.stage.tolist()], pa.int64()),
        "reason": pa.array(decision.reason, pa.string()),
        "score": pa.array(decision.score, pa.float64()),
        "cluster": pa.array([ids[i] for i in decision.cluster.tolist()], pa.string()),
        "match": attributes["match"],
    }
    for name, column in more.items():
        table = table.append_column(name, column)
    mask: npt.NDArray[np.bool_]
    for folder, mask in ((kept, decision.kept), (removed, ~decision.kept)):
        corpus = Corpus.open(folder, allow_empty=True)
        part = table.filter(pa.array(mask))
        if corpus.rows:
            corpus.write_attributes("curation", [part.combine_chunks()])
