"""What every document of a batch is: the part of curation that any number of processes may share.

`Examiner.examine` is a pure function from one Arrow batch to one batch of attributes, row for row; it looks
at nothing outside the batch. `decision.decide` takes the attributes of the whole corpus and says what stays:
only duplicates need that view. Nothing is written here.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from hornbook.curate import exact, heuristics, near, pii
from hornbook.curate.decontaminate import DecontaminationSettings, Decontaminator, EvaluationSets
from hornbook.curate.educational import EducationalModel
from hornbook.curate.language import Languages, LanguageSettings, identify, rejects
from hornbook.curate.near import NearSettings
from hornbook.curate.semantic import Embedder, SemanticSettings
from hornbook.curate.words import I64, split
from hornbook.errors import HornbookError
from hornbook.lab.files import sha256_of

STAGES = (
    "too_long",
    "language",
    "heuristics",
    "exact_duplicate",
    "near_duplicate",
    "semantic_duplicate",
    "repeated_lines",
    "repeated_paragraphs",
    "educational",
    "contaminated",
)
_VERSION = 1  # of the attributes: what was examined by another version is examined again


@dataclass(frozen=True, kw_only=True)
class CurateSettings:
    """Settings of all stages; a stage set to None is switched off.

    longest_characters: longer documents are removed unread. language, rules, near, semantic, decontamination:
    see their modules. exact: remove exact duplicates. prefer: which of near and semantic duplicates stays,
    "first" or "longest". repeated_lines, repeated_paragraphs: largest share of a document's characters in
    lines (or paragraphs) that earlier documents have too (counted from the third copy on); 1 switches it off.
    educational_share: share of the documents that come so far which the educational classifier keeps, the
    highest scores first (1 keeps all). personal_data: "off", "tag" (counts beside the document) or "mask"
    (replaced in the kept text).
    """

    longest_characters: int = 5_000_000
    language: LanguageSettings | None = field(default_factory=LanguageSettings)
    rules: tuple[heuristics.Rule, ...] = heuristics.DEFAULT_RULES
    exact: bool = True
    near: NearSettings | None = field(default_factory=NearSettings)
    semantic: SemanticSettings | None = None
    prefer: str = "first"
    repeated_lines: float = 0.7
    repeated_paragraphs: float = 1.0
    educational_share: float = 0.5
    decontamination: DecontaminationSettings | None = field(default_factory=DecontaminationSettings)
    personal_data: str = "mask"

    def __post_init__(self) -> None:
        for name, accepted in (("prefer", ("first", "longest")), ("personal_data", ("off", "tag", "mask"))):
            if getattr(self, name) not in accepted:
                value = getattr(self, name)
                raise HornbookError(f"curate: {name} = {value!r}; it must be one of {', '.join(accepted)}.")
        for name in ("repeated_lines", "repeated_paragraphs", "educational_share"):
            if not 0 < getattr(self, name) <= 1:
                value = getattr(self, name)
                raise HornbookError(f"curate: {name} = {value}; it must be above 0 and at most 1.")
        if self.longest_characters < 1:
            raise HornbookError(
                f"curate: longest_characters = {self.longest_characters}; it must be at least 1."
            )


@dataclass(frozen=True, kw_only=True)
class OwnFaults:
    """What removes documents for what they are by themselves.

    stage: (documents,) index into STAGES, -1 for none. reason: (documents,) name of the rule. score:
    (documents,) the number behind it.
    """

    stage: I64
    reason: npt.NDArray[Any]
    score: npt.NDArray[np.float64]


def own_faults(attributes: pa.Table | pa.RecordBatch, settings: CurateSettings) -> OwnFaults:
    """The verdicts of length, language and heuristics on attributes that `Examiner.examine` made."""
    size = attributes.num_rows
    stage = np.full(size, -1, np.int64)
    reason = np.full(size, None, object)
    score = np.full(size, np.nan)
    characters = np.asarray(attributes["characters"])
    long = characters > settings.longest_characters
    stage[long], reason[long], score[long] = STAGES.index("too_long"), "too_long", characters[long]
    read = np.flatnonzero(~long)
    part = attributes.take(pa.array(read)) if len(read) < size else attributes
    language = np.asarray(part["language"].to_pylist(), object)
    kind = np.asarray(part["kind"].to_pylist(), object)
    share = np.asarray(part["language_score"].to_numpy(), np.float64)
    if settings.language is not None:
        found = Languages(language=language, score=share, kind=kind, code=share)
        foreign = read[rejects(found, settings.language)]
        stage[foreign] = STAGES.index("language")
        places = np.searchsorted(read, foreign)
        reason[foreign] = [f"language_{name}" for name in language[places]]
        score[foreign] = share[places]
    if settings.rules and len(read):
        numbers = _matrix(part["measures"])
        measures = {name: numbers[:, i] for i, name in enumerate(heuristics.MEASURES)}
        verdict = heuristics.judge(measures, kind, settings.rules)
        broken = np.flatnonzero((verdict.reason >= 0) & (stage[read] < 0))
        stage[read[broken]] = STAGES.index("heuristics")
        names = np.array([rule.name for rule in settings.rules], object)
        reason[read[broken]] = names[verdict.reason[broken]]
        score[read[broken]] = verdict.score[broken]
    return OwnFaults(stage=stage, reason=reason, score=score)


def _matrix(column: pa.ChunkedArray | pa.Array) -> npt.NDArray[np.float64]:
    """(documents, measures) of a column of fixed-size lists."""
    whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return np.asarray(whole.flatten()).reshape(len(whole), -1)


@dataclass(frozen=True, kw_only=True)
class Examiner:
    """What one process needs to examine batches; built once and sent to every worker.

    thorough: look closely also at documents that length, language or rules remove, so that any later rule
    finds them examined.
    """

    settings: CurateSettings
    decontaminator: Decontaminator | None = None
    educational: EducationalModel | None = None
    embedder: Embedder | None = None
    thorough: bool = False

    @property
    def key(self) -> str:
        """Names everything that the attributes depend on beside the texts: equal keys, equal attributes.

        Rules, accepted languages, what is preferred, shares and what happens to personal data are not in it:
        they are applied to attributes, as often as one likes.
        """
        s = self.settings
        hashes = None if s.near is None else [s.near.ngram, s.near.bands, s.near.rows, s.near.seed]
        return sha256_of(
            {
                "version": _VERSION,
                "longest": s.longest_characters,
                "language": (s.language or LanguageSettings()).share,
                "near": hashes,
                "semantic": None if self.embedder is None else self.embedder.key,
                "educational": None if self.educational is None else self.educational.key,
                "decontamination": None
                if self.decontaminator is None
                else [asdict(self.decontaminator.settings), self.decontaminator.key],
            }
        )

    def examine(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Attributes of a batch with a `text` column, one row for each document.

        Columns for every document: `characters`; for those that are not too long `language`,
        `language_score`, `kind`, `words`, `measures` (in the order of `heuristics.MEASURES`). For those that
        length, language and rules leave (all, if thorough): `close` (True), `digest` (16 bytes), `signature`
        (4 bytes a hash), `embedding`, `lines` and `paragraphs` (hashes of the long ones) with their lengths,
        `educational`, `match` (what it gives away, null for nothing), `match_score`, `personal_data` (finds),
        `text` (masked text where it differs, else null).
        """
        texts = batch.column("text")
        out = _Columns(len(texts))
        if texts.null_count:
            texts = texts.fill_null("")
        lengths = np.array([len(t) for t in texts.to_pylist()], np.int64)
        out.put("characters", range(len(texts)), lengths.tolist())
        short = np.flatnonzero(lengths <= self.settings.longest_characters)
        if not len(short):
            return out.batch()
        words = split(texts.take(pa.array(short)) if len(short) < len(texts) else texts)
        found = identify(words, self.settings.language)
        measured = heuristics.measure(words)
        rows = short.tolist()
        out.put("language", rows, found.language.tolist())
        out.put("language_score", rows, found.score.tolist())
        out.put("kind", rows, found.kind.tolist())
        out.put("words", rows, words.counts.tolist())
        out.put("measures", rows, list(np.stack([measured[m] for m in heuristics.MEASURES], axis=1)))
        if not self.thorough:
            stage = own_faults(out.batch(), self.settings).stage
            if (stage[short] >= 0).any():
                short = np.flatnonzero(stage < 0)
                words = split(texts.take(pa.array(short)))
        if len(short):
            self._closely(out, texts.take(pa.array(short)), words, short.tolist())
        return out.batch()

    def _closely(self, out: "_Columns", texts: pa.Array, words: Any, rows: list[int]) -> None:
        out.put("close", rows, [True] * len(rows))
        out.put("digest", rows, [key.tobytes() for key in exact.digests(texts)])
        if self.settings.near is not None:
            signature = near.signatures(words, self.settings.near)
            out.put("signature", rows, [row.tobytes() for row in signature])
        if self.embedder is not None:
            out.put("embedding", rows, [row.tobytes() for row in self.embedder.embed(words)])
        for unit in ("line", "paragraph"):
            hashes, lengths, document = exact.line_keys(words, unit=unit)
            bounds = np.searchsorted(document, np.arange(len(rows) + 1))
            out.put(f"{unit}s", rows, [hashes[a:b] for a, b in itertools.pairwise(bounds)])
            out.put(f"{unit}_lengths", rows, [lengths[a:b] for a, b in itertools.pairwise(bounds)])
        if self.educational is not None:
            out.put("educational", rows, self.educational.score(words).tolist())
        if self.decontaminator is not None:
            for match in self.decontaminator.matches(words):
                at = [rows[match.document]]
                what = f"{match.evaluation_set}/{match.item} ({match.rule}): {match.text[:300]}"
                out.put("match", at, [what])
                out.put("match_score", at, [match.score])
        plain = texts.to_pylist()
        for place in np.flatnonzero(pii.suspicious(words, plain)).tolist():
            clean, counts = pii.mask(plain[place])
            if counts:
                out.put("personal_data", [rows[place]], [sum(counts.values())])
                out.put("text", [rows[place]], [clean])

    def examine_piece(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """As `examine`, for a batch of any size: memory stays that of a few megabytes of text."""
        made = [self.examine(part) for part in bounded([batch])]
        table = pa.Table.from_batches(made, ATTRIBUTES).combine_chunks()
        return pa.RecordBatch.from_arrays([_one(column) for column in table.columns], schema=ATTRIBUTES)


def _one(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks else pa.array([], column.type)


ATTRIBUTES = pa.schema(
    [
        ("characters", pa.int64()),
        ("language", pa.string()),
        ("language_score", pa.float64()),
        ("kind", pa.string()),
        ("words", pa.int64()),
        ("measures", pa.list_(pa.float64(), len(heuristics.MEASURES))),
        ("close", pa.bool_()),
        ("digest", pa.binary(16)),
        ("signature", pa.binary()),
        ("embedding", pa.binary()),
        ("lines", pa.list_(pa.uint64())),
        ("line_lengths", pa.list_(pa.int64())),
        ("paragraphs", pa.list_(pa.uint64())),
        ("paragraph_lengths", pa.list_(pa.int64())),
        ("educational", pa.float64()),
        ("match", pa.string()),
        ("match_score", pa.float64()),
        ("personal_data", pa.int64()),
        ("text", pa.large_string()),
    ]
)
"""The columns that `Examiner.examine` gives."""


class _Columns:
    """Attribute columns filled by rows."""

    def __init__(self, size: int) -> None:
        self._columns: dict[str, list[Any]] = {name: [None] * size for name in ATTRIBUTES.names}

    def put(self, name: str, rows: Iterable[int], values: Sequence[Any]) -> None:
        column = self._columns[name]
        for row, value in zip(rows, values):
            column[row] = value

    def batch(self) -> pa.RecordBatch:
        arrays = [pa.array(self._columns[field.name], field.type) for field in ATTRIBUTES]
        return pa.RecordBatch.from_arrays(arrays, schema=ATTRIBUTES)


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
    embedder = None
    if settings.semantic is not None:
        embedder = Embedder.fit(background, settings.semantic)
    return Examiner(
        settings=settings, decontaminator=decontaminator, educational=educational, embedder=embedder
    )
