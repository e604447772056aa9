"""All stages over one corpus: what each document is, and which stage removes it for which reason.

`examine` is a pure function from one Arrow batch to one batch of attributes, row for row; it looks at
nothing outside the batch, so batches may be examined by any number of processes. `decide` takes the
attributes of the whole corpus and says what stays: only duplicates need that view. Nothing is written here.
"""

import itertools
import multiprocessing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from hornbook.curate import exact, heuristics, near, pii
from hornbook.curate.decontaminate import DecontaminationSettings, Decontaminator, EvaluationSets
from hornbook.curate.educational import EducationalModel
from hornbook.curate.language import LanguageSettings, identify, rejects
from hornbook.curate.near import NearSettings
from hornbook.curate.words import I64, split
from hornbook.errors import HornbookError

STAGES = (
    "too_long",
    "language",
    "heuristics",
    "exact_duplicate",
    "near_duplicate",
    "repeated_lines",
    "educational",
    "contaminated",
)


@dataclass(frozen=True, kw_only=True)
class CurateSettings:
    """Settings of all stages; a stage set to None is switched off.

    longest_characters: longer documents are removed unread. language, rules, near, decontamination: see
    their modules. exact: remove exact duplicates. prefer: which of near duplicates stays, "first" or
    "longest". repeated_lines: largest share of a document's characters in lines that earlier documents have
    too (counted from the third copy of a line on); 1 switches it off. educational_share: share of the
    documents that come so far which the educational classifier keeps, the highest scores first (1 keeps
    all). personal_data: "off", "tag" (counts beside the document) or "mask" (replaced in the kept text).
    """

    longest_characters: int = 5_000_000
    language: LanguageSettings | None = field(default_factory=LanguageSettings)
    rules: tuple[heuristics.Rule, ...] = heuristics.DEFAULT_RULES
    exact: bool = True
    near: NearSettings | None = field(default_factory=NearSettings)
    prefer: str = "first"
    repeated_lines: float = 0.7
    educational_share: float = 0.5
    decontamination: DecontaminationSettings | None = field(default_factory=DecontaminationSettings)
    personal_data: str = "mask"

    def __post_init__(self) -> None:
        for name, accepted in (("prefer", ("first", "longest")), ("personal_data", ("off", "tag", "mask"))):
            if getattr(self, name) not in accepted:
                value = getattr(self, name)
                raise HornbookError(f"curate: {name} = {value!r}; it must be one of {', '.join(accepted)}.")
        for name in ("repeated_lines", "educational_share"):
            if not 0 < getattr(self, name) <= 1:
                value = getattr(self, name)
                raise HornbookError(f"curate: {name} = {value}; it must be above 0 and at most 1.")
        if self.longest_characters < 1:
            raise HornbookError(
                f"curate: longest_characters = {self.longest_characters}; it must be at least 1."
            )


@dataclass(frozen=True, kw_only=True)
class Examiner:
    """What one process needs to examine batches; built once and sent to every worker."""

    settings: CurateSettings
    decontaminator: Decontaminator | None = None
    educational: EducationalModel | None = None

    def examine(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Attributes of a batch with a `text` column, one row for each document.

        Columns: `stage` and `reason` of what removes the document for what it is by itself (null: nothing
        does), `score` behind it, `language`, `language_score`, `kind`, `words`, `digest` (16 bytes),
        `signature` (4 bytes a hash), `lines` (hashes of its long lines) and `line_lengths`, `educational`,
        `match` (what it gives away, null for nothing), `match_score`, `personal_data` (finds), `text`
        (masked text where it differs, else null). A document that the first stages remove has nulls in the
        later columns: it is not worth the time.
        """
        texts = batch.column("text")
        size = len(texts)
        out = _Columns(size)
        if texts.null_count:
            texts = texts.fill_null("")
        lengths = np.array([len(t) for t in texts.to_pylist()], np.int64)
        short = np.flatnonzero(lengths <= self.settings.longest_characters)
        out.remove(
            np.flatnonzero(lengths > self.settings.longest_characters), "too_long", "too_long", lengths
        )
        words = split(texts.take(pa.array(short)) if len(short) < size else texts)
        found = identify(words, self.settings.language)
        out.put("language", short, found.language.tolist())
        out.put("language_score", short, found.score.tolist())
        out.put("kind", short, found.kind.tolist())
        out.put("words", short, words.counts.tolist())
        alive = np.ones(len(short), np.bool_)
        if self.settings.language is not None:
            foreign = rejects(found, self.settings.language)
            scores = np.zeros(size)
            scores[short] = found.score
            for row in np.flatnonzero(foreign).tolist():
                out.remove(short[[row]], "language", f"language_{found.language[row]}", scores)
            alive &= ~foreign
        if self.settings.rules:
            verdict = heuristics.judge(heuristics.measure(words), found.kind, self.settings.rules)
            names = verdict.names
            scores = np.zeros(size)
            scores[short] = verdict.score
            for row in np.flatnonzero(alive & (verdict.reason >= 0)).tolist():
                out.remove(short[[row]], "heuristics", str(names[row]), scores)
            alive &= verdict.reason < 0
        self._survivors(out, texts, short[alive])
        return out.batch()

    def _survivors(self, out: "_Columns", texts: pa.Array, rows: I64) -> None:
        if not len(rows):
            return
        settings = self.settings
        rest = texts.take(pa.array(rows))
        words = split(rest)
        if settings.exact:
            keys = exact.digests(rest)
            out.put("digest", rows, [key.tobytes() for key in keys])
        if settings.near is not None:
            signature = near.signatures(words, settings.near)
            out.put("signature", rows, [row.tobytes() for row in signature])
        if settings.repeated_lines < 1:
            hashes, lengths, document = exact.line_keys(words)
            bounds = np.searchsorted(document, np.arange(len(rows) + 1))
            out.put("lines", rows, [hashes[a:b] for a, b in itertools.pairwise(bounds)])
            out.put("line_lengths", rows, [lengths[a:b] for a, b in itertools.pairwise(bounds)])
        if self.educational is not None:
            out.put("educational", rows, self.educational.score(words).tolist())
        if self.decontaminator is not None:
            for match in self.decontaminator.matches(words):
                row = rows[[match.document]]
                out.put(
                    "match", row, [f"{match.evaluation_set}/{match.item} ({match.rule}): {match.text[:300]}"]
                )
                out.put("match_score", row, [match.score])
        if settings.personal_data != "off":
            for row, text in zip(rows.tolist(), rest.to_pylist()):
                clean, counts = pii.mask(text)
                if counts:
                    out.put("personal_data", np.array([row]), [sum(counts.values())])
                    if settings.personal_data == "mask":
                        out.put("text", np.array([row]), [clean])


class _Columns:
    """Attribute columns filled by rows."""

    TYPES: Mapping[str, pa.DataType] = {
        "stage": pa.string(),
        "reason": pa.string(),
        "score": pa.float64(),
        "language": pa.string(),
        "language_score": pa.float64(),
        "kind": pa.string(),
        "words": pa.int64(),
        "digest": pa.binary(16),
        "signature": pa.binary(),
        "lines": pa.list_(pa.uint64()),
        "line_lengths": pa.list_(pa.int64()),
        "educational": pa.float64(),
        "match": pa.string(),
        "match_score": pa.float64(),
        "personal_data": pa.int64(),
        "text": pa.large_string(),
    }

    def __init__(self, size: int) -> None:
        self._columns: dict[str, list[Any]] = {name: [None] * size for name in self.TYPES}

    def put(self, name: str, rows: I64, values: Sequence[Any]) -> None:
        column = self._columns[name]
        for row, value in zip(rows.tolist(), values):
            column[row] = value

    def remove(self, rows: I64, stage: str, reason: str, scores: npt.NDArray[Any]) -> None:
        self.put("stage", rows, [stage] * len(rows))
        self.put("reason", rows, [reason] * len(rows))
        self.put("score", rows, scores[rows].tolist())

    def batch(self) -> pa.RecordBatch:
        arrays = [pa.array(self._columns[name], kind) for name, kind in self.TYPES.items()]
        return pa.RecordBatch.from_arrays(arrays, names=list(self.TYPES))


def bounded(
    batches: Iterable[pa.RecordBatch], *, rows: int = 512, size: int = 4 << 20
) -> Iterator[pa.RecordBatch]:
    """Slices of at most `rows` documents and about `size` bytes: what one process holds at a time."""
    for batch in batches:
        start = 0
        while start < len(batch):
            piece = batch.slice(start, rows)
            step = len(piece)
            if piece.nbytes > size:
                sizes = np.cumsum([len(t.as_buffer() or b"") for t in piece.column("text")])
                step = max(1, int(np.searchsorted(sizes, size, "right")))
            yield batch.slice(start, step)
            start += step


_worker: Examiner | None = None


def _start_worker(examiner: Examiner) -> None:
    global _worker
    _worker = examiner


def _examine_in_worker(batch: pa.RecordBatch) -> pa.RecordBatch:
    if _worker is None:
        raise RuntimeError("the worker was not started with an examiner")
    return _worker.examine(batch)


def examine_all(
    batches: Iterable[pa.RecordBatch], examiner: Examiner, *, workers: int = 1
) -> Iterator[pa.RecordBatch]:
    """`examiner.examine` of every batch, in order; the results do not depend on `workers`."""
    pieces = bounded(batches)
    if workers <= 1:
        yield from map(examiner.examine, pieces)
        return
    context = multiprocessing.get_context("spawn")
    with context.Pool(workers, _start_worker, (examiner,)) as pool:
        yield from pool.imap(_examine_in_worker, pieces)


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What happens to each document, in corpus order.

    stage: (documents,) index into STAGES of the stage that removes it, -1 for a kept one. reason: name of
    the rule. score: number behind it. cluster: index of the first document of its near-duplicate cluster
    (itself if alone).
    """

    stage: npt.NDArray[np.int64]
    reason: list[str | None]
    score: list[float | None]
    cluster: npt.NDArray[np.int64]

    @property
    def kept(self) -> npt.NDArray[np.bool_]:
        return np.less(self.stage, 0)

    def funnel(self) -> list[dict[str, Any]]:
        """One row a stage: {stage, in, out, share} where share is out / in (1 where nothing came in)."""
        rows, left = [], len(self.stage)
        for i, name in enumerate(STAGES):
            gone = int((self.stage == i).sum())
            rows.append(
                {
                    "stage": name,
                    "in": left,
                    "out": left - gone,
                    "share": (left - gone) / left if left else 1.0,
                }
            )
            left -= gone
        return rows

    def reasons(self) -> dict[str, int]:
        """{reason: removed documents}, most first."""
        counts: dict[str, int] = {}
        for reason in self.reason:
            if reason is not None:
                counts[reason] = counts.get(reason, 0) + 1
        return dict(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))


def decide(attributes: pa.Table, settings: CurateSettings) -> Decision:
    """Combine the attributes of a whole corpus into one decision a document; stages act in the order of
    STAGES.
    """
    size = attributes.num_rows
    by_name = {name: i for i, name in enumerate(STAGES)}
    stage = np.array([-1 if s is None else by_name[s] for s in attributes["stage"].to_pylist()], np.int64)
    reason: list[str | None] = attributes["reason"].to_pylist()
    score: list[float | None] = attributes["score"].to_pylist()
    cluster = np.arange(size)

    def remove(rows: I64, name: str, scores: npt.NDArray[Any]) -> None:
        stage[rows] = by_name[name]
        for row, value in zip(rows.tolist(), scores.tolist()):
            reason[row], score[row] = name, float(value)

    alive = np.flatnonzero(stage < 0)
    if settings.exact and len(alive):
        keys = np.frombuffer(b"".join(attributes["digest"].take(alive).to_pylist()), exact.DIGEST)
        first = alive[exact.first_of_equals(keys)]
        cluster[alive] = first
        copies = alive[first != alive]
        remove(copies, "exact_duplicate", np.ones(len(copies)))
        alive = np.flatnonzero(stage < 0)
    if settings.near is not None and len(alive):
        raw = b"".join(attributes["signature"].take(alive).to_pylist())
        signature = np.frombuffer(raw, np.uint32).reshape(len(alive), settings.near.hashes)
        found = near.clusters(signature, settings.near)
        prefer = (
            np.array(attributes["words"].take(alive).to_pylist()) if settings.prefer == "longest" else None
        )
        keep = near.keep_one(found, prefer)
        chosen = np.arange(len(alive))
        chosen[found[keep]] = np.flatnonzero(keep)
        kept_row = chosen[found]
        similarity = near.estimate(signature, signature[kept_row])
        cluster[alive] = alive[found]
        remove(alive[~keep], "near_duplicate", similarity[~keep])
        alive = np.flatnonzero(stage < 0)
    if settings.repeated_lines < 1 and len(alive):
        lines = attributes["lines"].take(alive).combine_chunks()
        lengths = attributes["line_lengths"].take(alive).combine_chunks()
        count = np.diff(np.asarray(lines.offsets))
        shares = exact.repeated_share(
            np.asarray(lines.flatten()).astype(np.uint64),
            np.asarray(lengths.flatten()).astype(np.int64),
            np.repeat(np.arange(len(alive)), count),
            len(alive),
            copies=3,
        )
        over = shares > settings.repeated_lines
        remove(alive[over], "repeated_lines", shares[over])
        alive = np.flatnonzero(stage < 0)
    values = attributes["educational"].take(alive).to_pylist()
    if values and values[0] is not None and settings.educational_share < 1:
        scores = np.array(values)
        quota = max(1, round(len(alive) * settings.educational_share))
        order = np.argsort(-scores, kind="stable")
        low = np.sort(order[quota:])
        remove(alive[low], "educational", scores[low])
        alive = np.flatnonzero(stage < 0)
    matched = [
        (row, value)
        for row, value in zip(alive.tolist(), attributes["match"].take(alive).to_pylist())
        if value
    ]
    if matched:
        rows = np.array([row for row, _ in matched])
        remove(rows, "contaminated", np.array(attributes["match_score"].take(rows).to_pylist()))
    return Decision(stage=stage, reason=reason, score=score, cluster=cluster)


def prepare(
    settings: CurateSettings,
    evaluation_sets: EvaluationSets,
    background: Sequence[str] = (),
    educational: EducationalModel | None = None,
) -> Examiner:
    """An examiner for these settings and evaluation sets; `background` is a sample of the corpus."""
    decontaminator = None
    if settings.decontamination is not None and any(len(items) for items in evaluation_sets.values()):
        decontaminator = Decontaminator(evaluation_sets, settings.decontamination, background)
    return Examiner(settings=settings, decontaminator=decontaminator, educational=educational)
