"""The steps of curation: choose the documents of a corpus, and fit the classifier that helps to choose."""

import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute

from hornbook.curate.decontaminate import EvaluationItem
from hornbook.curate.educational import EducationalModel, EducationalSettings, fit
from hornbook.curate.pipeline import CurateSettings, Decision, decide, examine_all, prepare
from hornbook.data.corpus import Corpus, CorpusWriter
from hornbook.data.shards import MANIFEST
from hornbook.errors import HornbookError
from hornbook.lab.files import write_json
from hornbook.lab.step import Artifact, Estimate, StepContext, step

Source = Artifact | Path | str
EvaluationSource = Artifact | Path | Sequence[EvaluationItem]
# Documents whose word frequencies tell decontamination which words inform.
_BACKGROUND = 2000
_SAMPLES = 10
_EXCERPT = 600


def _folder(source: Source) -> Path:
    return source.path if isinstance(source, Artifact) else Path(source)


def _documents(source: Source) -> Corpus:
    corpus = Corpus.open(_folder(source))
    if corpus.schema != "documents":
        raise HornbookError(f"{corpus.folder} holds {corpus.schema}; curation works on documents.")
    return corpus


def read_evaluation_set(source: EvaluationSource) -> list[EvaluationItem]:
    """The questions of an evaluation set.

    A corpus of documents: the text is the question; `answer`, `passage` and `code` are taken from its meta.
    A corpus of conversations: what users say is the question, the last assistant message the answer.
    """
    import json

    if not isinstance(source, Artifact | Path):
        return list(source)
    items = []
    corpus = Corpus.open(_folder(source))
    for row in corpus.iter_rows():
        meta = json.loads(row["meta"])
        if corpus.schema == "documents":
            question, answer = row["text"], str(meta.get("answer", ""))
        else:
            question = "\n".join(m["content"] for m in row["messages"] if m["role"] == "user")
            said = [m["content"] for m in row["messages"] if m["role"] == "assistant"]
            answer = said[-1] if said else str(row.get("chosen", ""))
        items.append(
            EvaluationItem(
                id=row["id"],
                question=question,
                answer=answer,
                passage=str(meta.get("passage", "")),
                code=str(meta.get("code", "")),
            )
        )
    return items


def estimate(
    *, corpus: Source, settings: CurateSettings | None = None, workers: int | None = None, **_: object
) -> Estimate:
    """About 2 MB a second and core for all stages, and half a kilobyte a document in memory."""
    opened = Corpus.open(_folder(corpus))
    cores = workers or _workers(opened.bytes)
    return Estimate(
        seconds=2 + opened.bytes / 2e6 / cores,
        memory_bytes=3e8 * cores + 2000.0 * opened.rows,
        disk_bytes=opened.bytes / 2,
    )


def _workers(size: int) -> int:
    """A pool pays for its start from about 8 MB on."""
    return min(os.cpu_count() or 1, 8) if size > 8 << 20 else 1


@step(version="1", makes="corpus", estimate=estimate)
def curate(
    ctx: StepContext,
    *,
    corpus: Source,
    evaluation_sets: Mapping[str, EvaluationSource] | None = None,
    educational: Source | None = None,
    settings: CurateSettings | None = None,
    workers: int | None = None,
) -> Mapping[str, Any]:
    """Run all stages over a corpus of documents.

    Args:
        corpus: documents. evaluation_sets: {name: questions} that no kept document may give away.
        educational: what
            `fit_educational` made, or None for no such stage. workers: processes (None chooses by size and
            cores); the result is the same byte for byte.

    Writes the kept corpus (attributes `curation`) and, under `removed/`, what was removed (attributes
    `curation` with stage, reason, score and the document it duplicates). Facts: rows and bytes in and out,
    `funnel` (one row a stage: in, out, share), `reasons`, `languages`, `kinds`, `sources`, `personal_data`,
    `samples` (ten kept and ten removed), `labelling` of the educational classifier.

    Raises:
        HornbookError: an empty corpus; nothing left, with the rule that removed most.
    """
    settings = settings or CurateSettings()
    source = _documents(corpus)
    sets = {name: read_evaluation_set(given) for name, given in (evaluation_sets or {}).items()}
    model = EducationalModel.load(_folder(educational)) if educational is not None else None
    examiner = prepare(settings, sets, _sample(source, _BACKGROUND), model)
    pieces = []
    with ctx.progress(source.rows, "documents", "examine") as progress:
        batches = source.iter_batches(["text"], rows=2048)
        for piece in examine_all(batches, examiner, workers=workers or _workers(source.bytes)):
            pieces.append(piece)
            progress.advance(len(piece))
    attributes = pa.Table.from_batches(pieces)
    decision = decide(attributes, settings)
    if not decision.kept.any():
        reason, count = next(iter(decision.reasons().items()))
        raise HornbookError(
            f"Curation removed all {source.rows} documents of {source.folder}: "
            f"{count} of them for {reason!r}. Loosen that rule in CurateSettings, or give it other documents."
        )
    return _write(ctx, source, attributes, decision, examiner.educational, sets)


def _sample(source: Corpus, count: int) -> list[str]:
    """Every k-th text, k chosen so that there are about `count`."""
    stride = max(1, source.rows // count)
    texts: list[str] = []
    row = 0
    for batch in source.iter_batches(["text"], rows=2048):
        first = -row % stride
        texts += [
            t[:20_000]
            for t in batch.column("text").take(pa.array(range(first, len(batch), stride))).to_pylist()
        ]
        row += len(batch)
    return texts


def _write(
    ctx: StepContext,
    source: Corpus,
    attributes: pa.Table,
    decision: Decision,
    model: EducationalModel | None,
    sets: Mapping[str, Sequence[EvaluationItem]],
) -> dict[str, Any]:
    folder, removed_folder = ctx.folder, ctx.folder / "removed"
    # An earlier attempt may have been cut off between the two corpora.
    (folder / MANIFEST).unlink(missing_ok=True)
    shutil.rmtree(folder / "attributes", ignore_errors=True)
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
        ctx.progress(source.rows, "documents", "write") as progress,
    ):
        for batch in source.iter_batches(rows=2048):
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
            masked = attributes["text"].slice(row, len(batch)).combine_chunks()
            column = table.schema.get_field_index("text")
            kind = table.schema.field("text").type
            clean = pa.compute.coalesce(masked.cast(kind), table["text"].combine_chunks())
            kept.write_table(table.set_column(column, "text", clean).filter(pa.array(keep)))
            removed.write_table(table.filter(pa.array(~keep)))
            row += len(batch)
            progress.advance(len(batch))
    _write_attributes(folder, removed_folder, attributes, decision, ids)
    funnel = decision.funnel()
    facts: dict[str, Any] = {
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
        "personal_data": int(pa.compute.sum(attributes["personal_data"]).as_py() or 0),
        "evaluation_sets": {name: len(items) for name, items in sets.items()},
        "labelling": model.card["labelling"] if model is not None else None,
        "samples": samples,
    }
    write_json(folder / "funnel.json", {"funnel": funnel, "reasons": decision.reasons()})
    ctx.say(
        f"kept {kept.rows} of {source.rows} documents, {kept.bytes / max(source.bytes, 1):.0%} of the text"
    )
    return facts


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
    names = ["language", "language_score", "kind", "words", "educational", "personal_data"]
    table = attributes.select(names)
    more = {
        "stage": pa.array([None if s < 0 else int(s) for s in decision.stage.tolist()], pa.int64()),
        "reason": pa.array(decision.reason, pa.string()),
        "score": pa.array(decision.score, pa.float64()),
        "cluster": pa.array([ids[i] for i in decision.cluster.tolist()], pa.string()),
        "match": attributes["match"],
    }
    for name, column in more.items():
        table = table.append_column(name, column)
    for folder, mask in ((kept, decision.kept), (removed, ~decision.kept)):
        corpus = Corpus.open(folder, allow_empty=True)
        part = table.filter(pa.array(mask))
        if corpus.rows:
            corpus.write_attributes("curation", [part.combine_chunks()])


_GRADE = re.compile(r"grade\s*[:=]\s*([0-5])\b", re.IGNORECASE)
RUBRIC = (
    "You grade how much a student who wants to learn would gain from reading a text. Consider whether it "
    "explains, stands on its own, shows a computation or idea worth knowing, and is written with care. "
    "Set-up code, tables of constants, boilerplate and fragments teach nothing. First write one sentence of "
    "reasons, then a last line 'Grade: n' with n from 0 (nothing to learn) to 5 (as good as a textbook page)."
)


def rate(model: Any, texts: Sequence[str], *, longest_characters: int = 4000) -> list[int | None]:
    """Grades 0 to 5 by a language model fit to grade; None where it failed or gave no readable grade."""
    from hornbook.lm.base import Completion, Sampling, ask

    sampling = Sampling(temperature=0.0, max_tokens=200)
    requests = [ask(text[:longest_characters], system=RUBRIC, sampling=sampling) for text in texts]
    grades: list[int | None] = []
    for answer in model.complete(requests):
        found = _GRADE.findall(answer.text) if isinstance(answer, Completion) else []
        grades.append(int(found[-1]) if found else None)
    return grades


def _texts(sources: Sequence[Source], most: int, seed: int) -> list[str]:
    """At most `most` texts of several corpora, drawn without regard to their order."""
    texts = [t for source in sources for t in _iter_texts(source)]
    if len(texts) <= most:
        return texts
    chosen: npt.NDArray[Any] = np.random.default_rng(seed).choice(len(texts), most, replace=False)
    return [texts[i] for i in np.sort(chosen)]


def _iter_texts(source: Source) -> Iterator[str]:
    for batch in _documents(source).iter_batches(["text"]):
        yield from batch.column("text").to_pylist()


@step(version="1", makes="classifier")
def fit_educational(
    ctx: StepContext,
    *,
    high: Sequence[Source],
    low: Sequence[Source],
    check_high: Sequence[Source] = (),
    check_low: Sequence[Source] = (),
    labels_by: str = "textbook-like sources against random organic documents",
    most: int = 2000,
    settings: EducationalSettings | None = None,
) -> Mapping[str, Any]:
    """Fit the educational classifier by contrast of corpora (phi-1, section 2.1; see `educational` for the
    caveat).

    Args:
        high, low: corpora of textbook-like and of organic documents. check_high, check_low: an independent
        check
            (see `educational.fit`). labels_by: what the contrast is between, for the card. most: documents
            a side.

    Facts: the model's card: labelling, held-out precision, recall, AUC and calibration, top features.
    """
    settings = settings or EducationalSettings()
    groups = [_texts(sources, most, settings.seed) for sources in (high, low, check_high, check_low)]
    model = fit(
        groups[0],
        groups[1],
        labelling="contrast",
        settings=settings,
        check_high=groups[2],
        check_low=groups[3],
        labels_by=labels_by,
    )
    model.save(ctx.folder)
    return model.card
