"""People's judgements: queues of items, every stroke kept, agreement, export with provenance.

Everything lies in one SQLite file. A stroke is on the disk when `record` returns, and nothing is ever changed
or deleted: a later stroke of the same person on the same item counts instead of the earlier one. So do
edits of questions (MATH^2, 2407.21009): the text as it came, and every text put in its place, are kept.
"""

import hashlib
import json
import random
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

from hornbook.errors import HornbookError
from hornbook.evals.judges import cohen_kappa, krippendorff_alpha

Kind = Literal["labels", "pairs", "questions"]
PAIR_LABELS = ("first", "second", "tie", "both bad")
"""Verdicts on a pair, told apart from the sides on which the texts were shown."""
QUESTION_LABELS = ("accept", "reject")
"""Verdicts on a question; one that was edited is accepted as it now stands."""
EDITABLE = ("question", "solution", "answer", "own answer", "difficulty")
"""What an annotator may write; an own answer, found before the solution was seen, and a difficulty from 1 to
5 have nothing before them."""

GRADER = "the grader"
"""Under this name a program's verdicts are kept: an annotator whose agreement with people is shown, to whom
no item is given, and whose name nobody else may take."""

FILE = ".studio/annotations.sqlite"
"""Where the queues of a home lie."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS queues (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, kind TEXT NOT NULL, question TEXT NOT NULL,
    labels TEXT NOT NULL, seed INTEGER NOT NULL, created REAL NOT NULL, overlap REAL NOT NULL DEFAULT 1
);
CREATE TABLE IF NOT EXISTS items (
    queue INTEGER NOT NULL REFERENCES queues(id), number INTEGER NOT NULL, content TEXT NOT NULL,
    provenance TEXT NOT NULL, PRIMARY KEY (queue, number)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS strokes (
    id INTEGER PRIMARY KEY, queue INTEGER NOT NULL, number INTEGER NOT NULL, annotator TEXT NOT NULL,
    label TEXT, note TEXT NOT NULL, swapped INTEGER NOT NULL, seconds REAL, at REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS strokes_of ON strokes (queue, annotator, number, id);
CREATE TABLE IF NOT EXISTS edits (
    id INTEGER PRIMARY KEY, queue INTEGER NOT NULL, number INTEGER NOT NULL, annotator TEXT NOT NULL,
    field TEXT NOT NULL, before TEXT NOT NULL, after TEXT NOT NULL, at REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS edits_of ON edits (queue, number, annotator, field, id);
"""
_CURRENT = (
    "SELECT number, annotator, label, note, swapped, seconds, at FROM strokes WHERE id IN "
    "(SELECT MAX(id) FROM strokes WHERE queue = ? GROUP BY number, annotator) AND label IS NOT NULL"
)
_PATIENCE_SECONDS = 30.0
_LONGEST_NAME = 80


@dataclass(frozen=True, kw_only=True)
class Item:
    """What is judged.

    Attributes:
        content: texts by name, in the order they are shown; of a pair `first`, `second` and what both answer;
            of a question at least `question`, `solution` and `answer`.
        provenance: where it comes from (corpus, row, model, ...), kept and exported as it is.
    """

    content: Mapping[str, str]
    provenance: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Queue:
    """A list of items and the question asked of each; `done` counts items by annotator.

    overlap: the share of items that everybody is given; of the others each comes to one person.
    """

    name: str
    kind: Kind
    question: str
    labels: tuple[str, ...]
    items: int
    created: float
    done: Mapping[str, int]
    overlap: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Task:
    """One item as one annotator sees it.

    Attributes:
        content: for a pair with "left" and "right" in place of "first" and "second".
        label: the annotator's verdict so far, in the queue's words; for a pair on the shown sides.
        place: how many items of this annotator's order come before it.
        edits: of a question, what this annotator has written in place of what it came with.
    """

    number: int
    content: Mapping[str, str]
    label: str | None
    note: str
    place: int
    edits: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Two annotators on the items that both judged: share of equal verdicts, and Cohen's kappa.

    kappa is None where it is not defined (no common item, or both always gave one and the same verdict).
    """

    annotators: tuple[str, str]
    items: int
    equal: float | None
    kappa: float | None


class AnnotationStore:
    """The queues in the file `path`, made when missing. Any number of threads and processes may use it."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self._connected() as connection:
                connection.executescript(_SCHEMA)
                columns = [row[1] for row in connection.execute("PRAGMA table_info(queues)")]
                if "overlap" not in columns:  # a file of an earlier version
                    connection.execute("ALTER TABLE queues ADD COLUMN overlap REAL NOT NULL DEFAULT 1")
        except (sqlite3.Error, OSError) as error:
            raise HornbookError(
                f"The annotations {self.path} cannot be opened ({error}). Name a file in a folder you can "
                "write; if the file is damaged, move it away."
            ) from None

    @contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        connection = sqlite3.connect(self.path, timeout=_PATIENCE_SECONDS, isolation_level=None)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")  # a stroke outlives a power cut
            yield connection
        finally:
            connection.close()

    # -- queues ---------------------------------------------------------------------------------

    def create_queue(
        self,
        name: str,
        items: Sequence[Item],
        *,
        question: str,
        labels: Sequence[str] = (),
        kind: Kind = "labels",
        seed: int = 0,
        overlap: float = 1.0,
        verdicts: Sequence[str] = (),
    ) -> Queue:
        """A new queue.

        Args:
            labels: the verdicts to choose from; of pairs they are `PAIR_LABELS`, of questions
                `QUESTION_LABELS`.
            seed: of the order in which items come, and of the sides of pairs.
            overlap: the share of items, in [0, 1], that everybody is given, the first in the order; of the
                others each goes to whoever comes first.
            verdicts: a program's label of each item, kept as those of `GRADER`; none of it takes an item
                from a person.

        Raises:
            HornbookError: a name that is taken or empty, no items, fewer than two labels, a pair without two
                texts, a question without solution and answer, an overlap out of range, or verdicts that are
                not one label of the queue for each item.
        """
        name = name.strip()
        if not name or len(name) > _LONGEST_NAME:
            raise HornbookError(f"A queue's name has 1 to {_LONGEST_NAME} characters, not {len(name)}.")
        if not items:
            raise HornbookError(f"The queue {name!r} has no items; give at least one.")
        fixed = {"pairs": PAIR_LABELS, "questions": QUESTION_LABELS}
        chosen = fixed.get(kind, tuple(label.strip() for label in labels))
        if len(set(chosen)) < 2 or len(set(chosen)) != len(chosen) or not all(chosen):
            raise HornbookError(f"The labels are {list(chosen)}; give at least two that differ.")
        if kind == "pairs" and any(not {"first", "second"} <= set(item.content) for item in items):
            raise HornbookError("Every item of a queue of pairs has a first and a second text.")
        texts = {"question", "solution", "answer"}
        if kind == "questions" and any(not texts <= set(item.content) for item in items):
            raise HornbookError(
                "Every item of a queue of questions has a question, a solution and an answer."
            )
        if not 0 <= overlap <= 1:
            raise HornbookError(f"The overlap is {overlap}; accepted is a share in [0, 1].")
        if verdicts and (len(verdicts) != len(items) or not set(verdicts) <= set(chosen)):
            raise HornbookError(f"Give none or {len(items)} verdicts, each of {', '.join(chosen)}.")
        with self._connected() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                cursor = connection.execute(
                    "INSERT INTO queues (name, kind, question, labels, seed, created, overlap) "
                    "VALUES (?, ?, ?, ?, ?, ?, ?)",
                    (name, kind, question, json.dumps(chosen), seed, time.time(), overlap),
                )
                connection.executemany(
                    "INSERT INTO items (queue, number, content, provenance) VALUES (?, ?, ?, ?)",
                    [
                        (cursor.lastrowid, number, _json(item.content), _json(item.provenance))
                        for number, item in enumerate(items)
                    ],
                )
                connection.executemany(
                    "INSERT INTO strokes (queue, number, annotator, label, note, swapped, at) "
                    "VALUES (?, ?, ?, ?, '', 0, ?)",
                    [
                        (cursor.lastrowid, number, GRADER, label, time.time())
                        for number, label in enumerate(verdicts)
                    ],
                )
                connection.execute("COMMIT")
            except sqlite3.IntegrityError:
                connection.execute("ROLLBACK")
                raise HornbookError(f"There is a queue {name!r} already; choose another name.") from None
        return self.queue(name)

    def queues(self) -> list[Queue]:
        """Every queue, newest first."""
        with self._connected() as connection:
            names = [row[0] for row in connection.execute("SELECT name FROM queues ORDER BY id DESC")]
        return [self.queue(name) for name in names]

    def queue(self, name: str) -> Queue:
        """One queue.

        Raises:
            HornbookError: there is none of that name.
        """
        with self._connected() as connection:
            identity, kind, question, labels, _, created = self._queue(connection, name)
            [(items,)] = connection.execute("SELECT COUNT(*) FROM items WHERE queue = ?", (identity,))
            done = connection.execute(
                f"SELECT annotator, COUNT(*) FROM ({_CURRENT}) GROUP BY annotator", (identity,)
            )
            return Queue(
                name=name,
                kind=kind,
                question=question,
                labels=labels,
                items=items,
                created=created,
                done=dict(done.fetchall()),
                overlap=_overlap(connection, identity),
            )

    def _queue(
        self, connection: sqlite3.Connection, name: str
    ) -> tuple[int, Kind, str, tuple[str, ...], int, float]:
        row = connection.execute(
            "SELECT id, kind, question, labels, seed, created FROM queues WHERE name = ?", (name,)
        ).fetchone()
        if row is None:
            raise HornbookError(f"There is no queue {name!r}.")
        return row[0], row[1], row[2], tuple(json.loads(row[3])), row[4], row[5]

    # -- one annotator ---------------------------------------------------------------------------

    def task(self, queue: str, annotator: str, *, number: int | None = None) -> Task | None:
        """The item `number`, or the first one that this annotator has not judged; None when all are done.

        Everybody meets the items in the same order (drawn by the queue's seed), so that what two people have
        judged overlaps from the start. Behind the queue's overlap an item comes to nobody who finds that
        another person has judged it.
        """
        _check_annotator(annotator)
        with self._connected() as connection:
            identity, kind, _, _, seed, _ = self._queue(connection, queue)
            [(count,)] = connection.execute("SELECT COUNT(*) FROM items WHERE queue = ?", (identity,))
            order = _order(count, seed)
            own = {
                row[0]: row
                for row in connection.execute(f"{_CURRENT} AND annotator = ?", (identity, annotator))
            }
            if number is None:
                shared = order[: round(_overlap(connection, identity) * count)]
                taken = {
                    row[0] for row in connection.execute(_CURRENT, (identity,)) if row[1] != GRADER
                }.difference(shared)
                number = next((i for i in order if i not in own and i not in taken), None)
                if number is None:
                    return None
            elif not 0 <= number < count:
                raise HornbookError(f"The queue {queue!r} has items 0 to {count - 1}, not {number}.")
            [(content,)] = connection.execute(
                "SELECT content FROM items WHERE queue = ? AND number = ?", (identity, number)
            )
            edits = _edits(connection, identity, number, annotator)
        texts: dict[str, str] = json.loads(content)
        label, note = (own[number][2], own[number][3]) if number in own else (None, "")
        if kind == "pairs":
            swapped = _swapped(seed, number, annotator)
            texts = _on_sides(texts, swapped)
            label = None if label is None else _turned(label, swapped)
        place = order.index(number)
        return Task(number=number, content=texts, label=label, note=note, place=place, edits=edits)

    def order(self, queue: str) -> list[int]:
        """The numbers of the items in the order in which they are met."""
        with self._connected() as connection:
            identity, _, _, _, seed, _ = self._queue(connection, queue)
            [(count,)] = connection.execute("SELECT COUNT(*) FROM items WHERE queue = ?", (identity,))
        return _order(count, seed)

    def record(
        self,
        queue: str,
        number: int,
        annotator: str,
        label: str | None,
        *,
        note: str = "",
        seconds: float | None = None,
    ) -> None:
        """Keeps one stroke; when this returns it is on the disk.

        Args:
            label: of the queue's labels; of a pair the verdict on the shown sides, "first" for the left one.
                None takes the verdict back.
            seconds: how long it took.

        Raises:
            HornbookError: no such queue, item or label.
        """
        _check_annotator(annotator)
        with self._connected() as connection:
            identity, kind, _, labels, seed, _ = self._queue(connection, queue)
            if label is not None and label not in labels:
                raise HornbookError(f"The label is {label!r}; accepted are {', '.join(labels)}.")
            known = connection.execute(
                "SELECT 1 FROM items WHERE queue = ? AND number = ?", (identity, number)
            ).fetchone()
            if known is None:
                raise HornbookError(f"The queue {queue!r} has no item {number}.")
            swapped = kind == "pairs" and _swapped(seed, number, annotator)
            kept = label if label is None else _turned(label, swapped)
            connection.execute(
                "INSERT INTO strokes (queue, number, annotator, label, note, swapped, seconds, at) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (identity, number, annotator, kept, note, swapped, seconds, time.time()),
            )

    def edit(self, queue: str, number: int, annotator: str, field: str, text: str) -> None:
        """Keeps what an annotator writes in place of a text of a question; earlier texts stay on record.

        Args:
            field: one of `EDITABLE`. A text as it came, written again, takes the edit back.

        Raises:
            HornbookError: no such item, a queue of another kind, a field that nobody may edit, an empty
                question, or a difficulty that is not 1 to 5.
        """
        _check_annotator(annotator)
        if field not in EDITABLE:
            raise HornbookError(f"The field is {field!r}; accepted are {', '.join(EDITABLE)}.")
        if field == "difficulty" and text not in ("1", "2", "3", "4", "5"):
            raise HornbookError(f"The difficulty is {text!r}; accepted are 1 to 5.")
        if field == "question" and not text.strip():
            raise HornbookError("The question is empty; reject it instead.")
        with self._connected() as connection:
            identity, kind, *_ = self._queue(connection, queue)
            if kind != "questions":
                raise HornbookError(f"The queue {queue!r} has no questions to edit; it is one of {kind}.")
            row = connection.execute(
                "SELECT content FROM items WHERE queue = ? AND number = ?", (identity, number)
            ).fetchone()
            if row is None:
                raise HornbookError(f"The queue {queue!r} has no item {number}.")
            came = json.loads(row[0]).get(field, "")
            before = _edits(connection, identity, number, annotator).get(field, came)
            if text != before:
                connection.execute(
                    "INSERT INTO edits (queue, number, annotator, field, before, after, at) "
                    "VALUES (?, ?, ?, ?, ?, ?, ?)",
                    (identity, number, annotator, field, before, text, time.time()),
                )

    # -- all of them -----------------------------------------------------------------------------

    def agreement(self, queue: str) -> list[Agreement]:
        """Every two annotators who have judged the same items."""
        by_annotator = self._labels(queue)
        found = []
        for a, b in combinations(sorted(by_annotator), 2):
            common = sorted(by_annotator[a].keys() & by_annotator[b].keys())
            pairs = [(by_annotator[a][i], by_annotator[b][i]) for i in common]
            found.append(
                Agreement(
                    annotators=(a, b),
                    items=len(pairs),
                    equal=sum(x == y for x, y in pairs) / len(pairs) if pairs else None,
                    kappa=cohen_kappa(pairs) if pairs else None,
                )
            )
        return found

    def alpha(self, queue: str) -> float | None:
        """Krippendorff's alpha over all annotators, who need not have judged the same items."""
        by_item: dict[int, list[str]] = {}
        for labels in self._labels(queue).values():
            for number, label in labels.items():
                by_item.setdefault(number, []).append(label)
        return krippendorff_alpha(list(by_item.values()))

    def _labels(self, queue: str) -> dict[str, dict[int, str]]:
        by_annotator: dict[str, dict[int, str]] = {}
        with self._connected() as connection:
            identity = self._queue(connection, queue)[0]
            for number, annotator, label, *_ in connection.execute(_CURRENT, (identity,)):
                by_annotator.setdefault(annotator, {})[number] = label
        return by_annotator

    def counts(self, queue: str) -> dict[str, dict[str, int]]:
        """How often each annotator gave each label."""
        with self._connected() as connection:
            identity, _, _, labels, _, _ = self._queue(connection, queue)
            found: dict[str, dict[str, int]] = {}
            for _, annotator, label, *_ in connection.execute(_CURRENT, (identity,)):
                own = found.setdefault(annotator, dict.fromkeys(labels, 0))
                own[label] += 1
        return dict(sorted(found.items()))

    def export(self, queue: str) -> Iterator[dict[str, Any]]:
        """Every judged item with its texts, provenance and judgements, for `json.dumps` line by line.

        `content_sha256` is of the content as canonical JSON: whoever reads the file can see that the texts
        are those that were judged. A question's row has `edits` too, every one with its text before and
        after, and each judgement the texts as this annotator left them (`final`) and whether question or
        solution were `modified`.
        """
        with self._connected() as connection:
            identity, kind, question, labels, seed, _ = self._queue(connection, queue)
            judged: dict[int, list[dict[str, Any]]] = {}
            for number, annotator, label, note, swapped, seconds, at in connection.execute(
                _CURRENT + " ORDER BY number, annotator", (identity,)
            ):
                entry = {"annotator": annotator, "label": label, "note": note, "seconds": seconds, "at": at}
                if kind == "pairs":
                    entry["shown_first"] = "second" if swapped else "first"
                judged.setdefault(number, []).append(entry)
            rows = connection.execute(
                "SELECT number, content, provenance FROM items WHERE queue = ? ORDER BY number", (identity,)
            ).fetchall()
            edits: dict[int, list[dict[str, Any]]] = {}
            for number, *told in connection.execute(
                "SELECT number, annotator, field, before, after, at FROM edits WHERE queue = ? ORDER BY id",
                (identity,),
            ):
                names = ("annotator", "field", "before", "after", "at")
                edits.setdefault(number, []).append(dict(zip(names, told, strict=True)))
        for number, content, provenance in rows:
            if number in judged:
                more: dict[str, Any] = {}
                if kind == "questions":
                    more = _finished(json.loads(content), judged[number], edits.get(number, []))
                yield {
                    "queue": queue,
                    "question": question,
                    "labels": list(labels),
                    "seed": seed,
                    "item": number,
                    "content": json.loads(content),
                    "content_sha256": hashlib.sha256(content.encode()).hexdigest(),
                    "provenance": json.loads(provenance),
                    "judgements": judged[number],
                    **more,
                }


def _overlap(connection: sqlite3.Connection, identity: int) -> float:
    [(overlap,)] = connection.execute("SELECT overlap FROM queues WHERE id = ?", (identity,))
    return float(overlap)


def _edits(connection: sqlite3.Connection, identity: int, number: int, annotator: str) -> dict[str, str]:
    """What an annotator last wrote for each field."""
    rows = connection.execute(
        "SELECT field, after FROM edits WHERE queue = ? AND number = ? AND annotator = ? ORDER BY id",
        (identity, number, annotator),
    )
    return dict(rows.fetchall())


def _finished(
    content: Mapping[str, str], judgements: list[dict[str, Any]], edits: list[dict[str, Any]]
) -> dict[str, Any]:
    """Puts the final texts into the judgements on a question; gives the edits of its row."""
    for judgement in judgements:
        own = {e["field"]: e["after"] for e in edits if e["annotator"] == judgement["annotator"]}
        judgement["final"] = {name: own.get(name, content.get(name, "")) for name in EDITABLE}
        judgement["modified"] = [
            name
            for name in ("question", "solution", "answer")
            if own.get(name, content[name]) != content[name]
        ]
    return {"edits": edits}


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(dict(value), ensure_ascii=False, separators=(",", ":"))


def _order(count: int, seed: int) -> list[int]:
    order = list(range(count))
    random.Random(f"order {seed}").shuffle(order)
    return order


def _swapped(seed: int, number: int, annotator: str) -> bool:
    """Whether this annotator sees the second text on the left: by hash, so that it is the same next time."""
    return hashlib.sha256(f"{seed}|{number}|{annotator}".encode()).digest()[0] % 2 == 1


def _on_sides(texts: Mapping[str, str], swapped: bool) -> dict[str, str]:
    left, right = ("second", "first") if swapped else ("first", "second")
    rest = {name: text for name, text in texts.items() if name not in ("first", "second")}
    return {**rest, "left": texts[left], "right": texts[right]}


def _turned(label: str, swapped: bool) -> str:
    """A verdict on the shown sides as one on the texts, and back."""
    if not swapped:
        return label
    return {"first": "second", "second": "first"}.get(label, label)


def _check_annotator(name: str) -> None:
    if not name.strip() or len(name) > _LONGEST_NAME or name != name.strip():
        raise HornbookError(
            f"An annotator's name has 1 to {_LONGEST_NAME} characters and no space around it, not {name!r}."
        )
    if name == GRADER:
        raise HornbookError(f"{GRADER!r} is the name of a program's verdicts; take another.")
