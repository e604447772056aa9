"""Every paid answer, kept: a content-addressed store of calls in one SQLite file.

The key is the SHA-256 of everything that can change an answer; what is kept is
the raw response, written before anything looks inside it. Reading decides
anew, each time, what the response is worth, so a better parser needs no new
calls and a refusal need never be replayed.

Several processes may share a file. A call in flight is leased: a second process
that wants the same answer waits for it instead of paying again, and takes over
when the first one has died.
"""

import json
import os
import queue
import socket
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from hornbook.errors import HornbookError
from hornbook.lab.database import open_database
from hornbook.lm.base import Json, content_key

_SCHEMA = """
CREATE TABLE IF NOT EXISTS calls (
    id INTEGER PRIMARY KEY,
    key BLOB NOT NULL,
    model TEXT NOT NULL,
    outcome TEXT NOT NULL,
    created REAL NOT NULL,
    body BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS calls_key ON calls (key);
CREATE TABLE IF NOT EXISTS leases (
    key BLOB PRIMARY KEY,
    owner TEXT NOT NULL,
    until REAL NOT NULL
) WITHOUT ROWID;
"""
_RELEASE = "DELETE FROM leases WHERE key = ? AND owner = ?"
_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Call:
    """One stored call. `outcome` is "answer" for a response that came whole (whatever it
    says), else the kind of failure. `response` is the body as text, unparsed."""

    key: str
    model: str
    outcome: str
    request: Json
    response: str
    status: int
    latency_seconds: float
    created: float


def call_key(*, provider: str, url: str, model: str, revision: str, request: Json, extra: Json = None) -> str:
    """The identity of a call: who is asked (provider kind, base URL, model, revision or
    weights hash) and everything asked (`Request.as_json()`, plus `extra` body fields)."""
    return content_key(
        {
            "format": _FORMAT,
            "provider": provider,
            "url": url,
            "model": model,
            "revision": revision,
            "request": request,
            "extra": extra,
        }
    )


class CallStore:
    """The calls in the file `path` (made with its folder when missing). A context manager.

    Writes go through one thread that commits what has gathered in one
    transaction: durable against the death of the process (kill -9) as soon as
    `put` returns; a power cut may take the last moments (WAL, synchronous=NORMAL).
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._pid = os.getpid()
        self._local = threading.local()
        self._connections: list[sqlite3.Connection] = []
        self._connections_lock = threading.Lock()
        self._closed = False
        try:
            self._connection()
        except (sqlite3.Error, OSError) as error:
            raise HornbookError(
                f"The call store {self.path} cannot be opened ({error}). Name a file in a folder you can "
                f"write; if the file is damaged, move it away."
            ) from None
        self._queue: queue.SimpleQueue[_Row | _Release | None] = queue.SimpleQueue()
        self._writer = threading.Thread(target=self._write, name="hornbook-call-store", daemon=True)
        self._writer.start()

    def __enter__(self) -> "CallStore":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Write what is waiting and close the file."""
        if self._closed:
            return
        self._closed = True
        self._queue.put(None)
        self._writer.join()
        with self._connections_lock:
            for connection in self._connections:
                connection.close()
            self._connections.clear()

    def leave(self) -> None:
        """Closes what this thread has open of the file; for threads that end before the store is closed."""
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is not None:
            del self._local.connection
            with self._connections_lock:
                if connection in self._connections:
                    self._connections.remove(connection)
                    connection.close()

    def _connection(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = open_database(self.path, _SCHEMA)
            self._local.connection = connection
            with self._connections_lock:
                self._connections.append(connection)
        return connection

    # ------------------------------------------------------------ reading

    def get(self, key: str) -> Call | None:
        """The newest whole answer under `key`, or None."""
        return self.get_many([key])[0]

    def get_many(self, keys: Sequence[str]) -> list[Call | None]:
        """The newest whole answer under each key."""
        connection = self._connection()
        found: list[Call | None] = []
        for key in keys:
            row = connection.execute(
                "SELECT model, outcome, created, body FROM calls WHERE key = ? AND outcome = 'answer' "
                "ORDER BY id DESC LIMIT 1",
                (bytes.fromhex(key),),
            ).fetchone()
            found.append(None if row is None else _call(key, row))
        return found

    def history(self, key: str) -> list[Call]:
        """Everything recorded under `key`, failures too, oldest first."""
        rows = self._connection().execute(
            "SELECT model, outcome, created, body FROM calls WHERE key = ? ORDER BY id", (bytes.fromhex(key),)
        )
        return [_call(key, row) for row in rows]

    def summary(self) -> dict[str, dict[str, int]]:
        """Counts by model and outcome."""
        counts: dict[str, dict[str, int]] = {}
        rows = self._connection().execute(
            "SELECT model, outcome, COUNT(*) FROM calls GROUP BY model, outcome ORDER BY model, outcome"
        )
        for model, outcome, count in rows:
            counts.setdefault(model, {})[outcome] = count
        return counts

    # ------------------------------------------------------------ writing

    def put(
        self,
        key: str,
        *,
        model: str,
        request: Json,
        response: str,
        status: int = 200,
        outcome: str = "answer",
        latency_seconds: float = 0.0,
    ) -> None:
        """Record a call. When this returns, it is in the file. Its lease stays until `release`:
        what came may be an error, and be tried again."""
        done: Future[None] = Future()

        def finish(error: BaseException | None) -> None:
            if error is None:
                done.set_result(None)
            else:
                done.set_exception(error)

        self.put_soon(
            key,
            finish,
            model=model,
            request=request,
            response=response,
            status=status,
            outcome=outcome,
            latency_seconds=latency_seconds,
        )
        done.result()

    def put_soon(
        self,
        key: str,
        finish: Callable[[BaseException | None], None],
        *,
        model: str,
        request: Json,
        response: str,
        status: int = 200,
        outcome: str = "answer",
        latency_seconds: float = 0.0,
    ) -> None:
        """As `put`, without waiting: `finish(error or None)` is called from the writer's thread."""
        if self._closed:
            raise ValueError("the call store is closed")
        if os.getpid() != self._pid:
            raise ValueError("the call store was opened before a fork; open it again in the new process")
        body = {"request": request, "response": response, "status": status, "latency": latency_seconds}
        self._queue.put(_Row(bytes.fromhex(key), model, outcome, time.time(), body, finish))

    def _write(self) -> None:
        import zstandard

        compressor = zstandard.ZstdCompressor(level=3)
        while True:
            first = self._queue.get()
            waiting = [] if first is None else [first]
            last = first is None
            while not last and len(waiting) < 256:
                try:
                    more = self._queue.get_nowait()
                except queue.Empty:
                    break
                if more is None:
                    last = True
                else:
                    waiting.append(more)
            rows = [item for item in waiting if isinstance(item, _Row)]
            released = [(item.key, item.owner) for item in waiting if isinstance(item, _Release)]
            if waiting:
                error = self._commit(rows, released, compressor.compress)
                for row in rows:
                    row.finish(error)
            if last:
                return

    def _commit(
        self, rows: "list[_Row]", released: list[tuple[bytes, str]], compress: Callable[[bytes], bytes]
    ) -> BaseException | None:
        try:
            packed = [
                (row.key, row.model, row.outcome, row.created, compress(json.dumps(row.body).encode()))
                for row in rows
            ]
            connection = self._connection()
            connection.execute("BEGIN IMMEDIATE")
            try:
                connection.executemany(
                    "INSERT INTO calls (key, model, outcome, created, body) VALUES (?, ?, ?, ?, ?)", packed
                )
                connection.executemany(_RELEASE, released)
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:  # a full disk has rolled back already
                    connection.execute("ROLLBACK")
                raise
        except Exception as error:
            wrapped = HornbookError(
                f"The call store {self.path} could not be written ({error}); answers just paid for were not "
                f"kept. Free space or name another file, then run the same command again."
            )
            wrapped.__cause__ = error
            return wrapped
        return None

    # ------------------------------------------------------------ leases

    def new_owner(self) -> str:
        """A name to claim under: one a job, so that two jobs of one process wait for each other too."""
        return f"{socket.gethostname()}:{os.getpid()}:{_start_of(os.getpid())}:{uuid.uuid4().hex}"

    def claim(self, keys: Sequence[str], *, owner: str, seconds: float) -> list[bool]:
        """Lease each key that nobody living holds, for at most `seconds`; whether each is `owner`'s now.

        A lease ends with `release`, its time, or the death of its process.
        Ask `get` again after a claim: the answer may have come in between.
        """
        connection = self._connection()
        now = time.time()
        ours = []
        connection.execute("BEGIN IMMEDIATE")
        try:
            for key in keys:
                blob = bytes.fromhex(key)
                row = connection.execute("SELECT owner, until FROM leases WHERE key = ?", (blob,)).fetchone()
                free = row is None or row[0] == owner or row[1] < now or _is_dead(row[0])
                if free:
                    connection.execute(
                        "INSERT OR REPLACE INTO leases (key, owner, until) VALUES (?, ?, ?)",
                        (blob, owner, now + seconds),
                    )
                ours.append(free)
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        return ours

    def release(self, keys: Sequence[str], *, owner: str) -> None:
        """End leases, answered or not."""
        self._connection().executemany(_RELEASE, [(bytes.fromhex(key), owner) for key in keys])

    def release_soon(self, key: str, *, owner: str) -> None:
        """As `release`, with the writer's next commit."""
        self._queue.put(_Release(bytes.fromhex(key), owner))


@dataclass(frozen=True, slots=True)
class _Row:
    key: bytes
    model: str
    outcome: str
    created: float
    body: dict[str, Json]
    finish: Callable[[BaseException | None], None]


@dataclass(frozen=True, slots=True)
class _Release:
    key: bytes
    owner: str


def _call(key: str, row: tuple[str, str, float, bytes]) -> Call:
    import zstandard

    model, outcome, created, body = row
    fields = json.loads(zstandard.ZstdDecompressor().decompress(body))
    return Call(
        key=key,
        model=model,
        outcome=outcome,
        request=fields["request"],
        response=fields["response"],
        status=fields["status"],
        latency_seconds=fields["latency"],
        created=created,
    )


def _start_of(pid: int) -> str:
    """When the process began, in kernel ticks: tells a new process from a reused number."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return "?"


def _is_dead(owner: str) -> bool:
    """Whether the owner of a lease is a process of this host that is no more."""
    host, pid, start, _ = owner.rsplit(":", 3)
    if host != socket.gethostname():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return _start_of(int(pid)) != start
