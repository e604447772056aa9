"""SQLite files that several processes open at once."""

import sqlite3
import time
from pathlib import Path

PATIENCE_SECONDS = 60.0


def open_database(path: Path, schema: str) -> sqlite3.Connection:
    """A connection in autocommit mode for any thread, with a write-ahead journal and `schema` executed.

    What is committed is durable against the death of the process (kill -9); a power cut may take the last
    moments (WAL, synchronous=NORMAL). Two processes that make the same new file wait for each other: SQLite's
    own timeout does not cover the change of the journal mode, which says "locked" at once.

    Raises:
        sqlite3.Error, OSError: the file cannot be opened; say which it is and what to do.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(
        path, timeout=PATIENCE_SECONDS, isolation_level=None, check_same_thread=False
    )
    until = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")
            connection.executescript(schema)
            return connection
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > until:
                connection.close()
                raise
            time.sleep(0.02)
        except sqlite3.Error:
            connection.close()
            raise
