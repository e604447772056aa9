"""People's judgements: queues of items, every stroke kept, agreement, export with provenance.

Everything lies in one SQLite file. A stroke is on the disk when `record` returns, and nothing is ever changed
or deleted: a later stroke of the same person on the same item counts instead of the earlier one.
"""

import hashlib
import json
import random
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

from hornbook.errors import HornbookError
from hornbook.evals.judges import cohen_kappa

Kind = Literal["labels", "pairs"]
PAIR_LABELS = ("first", "second", "tie", "both bad")
"""Verdicts on a pair, told apart from the sides on which the texts were shown."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS queues (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, kind TEXT NOT NULL, question TEXT NOT NULL,
    labels TEXT NOT NULL, seed INTEGER NOT NULL, created REAL NOT NULL
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
        content: texts by name, in the order they are shown; of a pair `first`, `second` and what both answer.
        provenance: where it comes from (corpus, row, model, ...), kept and exported as it is.
    """

    content: Mapping[str, str]
    provenance: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Queue:
    """A list of items and the question asked of each; `done` counts items by annotator."""

    name: str
    kind: Kind
    question: str
    labels: tuple[str, ...]
    items: int
    created: float
    done: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class Task:
    """One item as one annotator sees it.

    Attributes:
        content: for a pair with "left" and "right" in place of "first" and "second".
        label: the annotator's verdict so far, in the queue's words; for a pair on the shown sides.
        place: how many items of this annotator's order come before it.
    """

    number: int
    content: Mapping[str, str]
    label: str | None
    note: str
    place: int


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
    ) -> Queue:
        """A new queue.

        Args:
            labels: the verdicts to choose from; of pairs they are `PAIR_LABELS`.
            seed: of the order in which items come, and of the sides of pairs.

        Raises:
            HornbookError: a name that is taken or empty, no items, fewer than two labels, or a pair without
                two texts.
        """
        name = name.strip()
        if not name or len(name) > _LONGEST_NAME:
            raise HornbookError(f"A queue's name has 1 to {_LONGEST_NAME} characters, not {len(name)}.")
        if not items:
            raise HornbookError(f"The queue {name!r} has no items; give at least one.")
        chosen = PAIR_LABELS if kind == "pairs" else tuple(label.strip() for label in labels)
        if len(set(chosen)) < 2 or len(set(chosen)) != len(chosen) or not all(chosen):
            raise HornbookError(f"The labels are {list(chosen)}; give at least two that differ.")
        if kind == "pairs" and any(not {"first", "second"} <= set(item.content) for item in items):
            raise HornbookError("Every item of a queue of pairs has a first and a second text.")
        with self._connected() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                cursor = connection.execute(
                    "INSERT INTO queues (name, kind, question, labels, seed, created) "
                    "VALUES (?, ?, ?, ?, ?, ?)",
                    (name, kind, question, json.dumps(chosen), seed, time.time()),
                )
                connection.executemany(
                    "INSERT INTO items (queue, number, content, provenance) VALUES (?, ?, ?, ?)",
                    [
                        (cursor.lastrowid, number, _json(item.content), _json(item.provenance))
                        for number, item in enumerate(items)
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
        judged overlaps from the start.
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
                number = next((i for i in order if i not in own), None)
                if number is None:
                    return None
            elif not 0 <= number < count:
                raise HornbookError(f"The queue {queue!r} has items 0 to {count - 1}, not {number}.")
            [(content,)] = connection.execute(
                "SELECT content FROM items WHERE queue = ? AND number = ?", (identity, number)
            )
        texts: dict[str, str] = json.loads(content)
        label, note = (own[number][2], own[number][3]) if number in own else (None, "")
        if kind == "pairs":
            swapped = _swapped(seed, number, annotator)
            texts = _on_sides(texts, swapped)
            label = None if label is None else _turned(label, swapped)
        return Task(number=number, content=texts, label=label, note=note, place=order.index(number))

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

    # -- all of them -----------------------------------------------------------------------------

    def agreement(self, queue: str) -> list[Agreement]:
        """Every two annotators who have judged the same items."""
        by_annotator: dict[str, dict[int, str]] = {}
        with self._connected() as connection:
            identity = self._queue(connection, queue)[0]
            for number, annotator, label, *_ in connection.execute(_CURRENT, (identity,)):
                by_annotator.setdefault(annotator, {})[number] = label
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
        are those that were judged.
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
        for number, content, provenance in rows:
            if number in judged:
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
                }


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
