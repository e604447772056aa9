"""What is known about each item of an evaluation, kept as it is found: a run that was stopped goes on, and
nothing that was answered is asked or graded again."""

import json
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from hornbook.errors import HornbookError
from hornbook.lab.database import open_database
from hornbook.lab.files import sha256_of

_SCHEMA = """
CREATE TABLE IF NOT EXISTS samples (
    run TEXT NOT NULL,
    item TEXT NOT NULL,
    sample TEXT NOT NULL,
    PRIMARY KEY (run, item)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS runs (run TEXT PRIMARY KEY, told TEXT NOT NULL) WITHOUT ROWID;
"""


class SampleStore:
    """Samples in one SQLite file. A context manager.

    A *run* is a model on a task in one way of asking (`run_key`). Several processes may share the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._connection = open_database(path, _SCHEMA)
        except (sqlite3.Error, OSError) as error:
            raise HornbookError(
                f"The store of samples {path} cannot be opened ({error}). Name another with --store."
            ) from None

    def begin(self, told: Mapping[str, Any]) -> str:
        """The key of a run, remembered with what it stands for."""
        key = run_key(told)
        self._connection.execute(
            "INSERT OR IGNORE INTO runs VALUES (?, ?)", (key, json.dumps(dict(told), ensure_ascii=False))
        )
        return key

    def known(self, run: str, items: Sequence[str]) -> dict[str, dict[str, Any]]:
        """{item: sample} for those of `items` that are done."""
        wanted = set(items)
        rows = self._connection.execute("SELECT item, sample FROM samples WHERE run = ?", (run,))
        return {item: json.loads(sample) for item, sample in rows if item in wanted}

    def put(self, run: str, samples: Mapping[str, Mapping[str, Any]]) -> None:
        """Keeps samples; they are on disk against the death of the process when this returns."""
        rows = [(run, item, json.dumps(dict(sample), ensure_ascii=False)) for item, sample in samples.items()]
        self._connection.execute("BEGIN IMMEDIATE")
        with self._connection:  # commits, or takes all of it back
            self._connection.executemany("INSERT OR REPLACE INTO samples VALUES (?, ?, ?)", rows)

    def runs(self) -> list[dict[str, Any]]:
        """Every run with its number of samples, for lists."""
        rows = self._connection.execute(
            "SELECT runs.run, told, count(item) FROM runs LEFT JOIN samples ON samples.run = runs.run "
            "GROUP BY runs.run ORDER BY runs.run"
        )
        return [{"run": run, "samples": count, **json.loads(told)} for run, told, count in rows]

    def close(self) -> None:
        """Closes the file."""
        self._connection.close()

    def __enter__(self) -> "SampleStore":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def run_key(told: Mapping[str, Any]) -> str:
    """20 hexadecimal digits over what a run is: model, card and the way of asking."""
    return sha256_of(dict(told))[:20]
