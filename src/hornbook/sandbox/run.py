"""Run programs that models wrote: one (`run_program`) or tens of thousands (`run_many`).

Three things stand between a program and the machine. The outer wall is the
backend (`backends.py`): an interpreter that sees the standard library, one
private folder, no network and no other process. Inside it a keeper
(`zygote.py`) forks a child for each program, with an inner wall (`confine.py`)
of resource limits and a system-call filter. The host reads frames of JSON from
the keeper and never parses a program.

`run_many` is fast in two ways: a fork costs a millisecond where a start costs
sixty, and programs that pass the strict list of `simple.py` (assignments,
arithmetic, loops, functions, a few builtins) share a child by the hundred. What
shares and what does not is decided inside the sandbox, program by program, and
does not change an outcome: one that exceeds anything is run again alone.
"""

import atexit
import contextlib
import functools
import json
import os
import queue
import select
import shutil
import struct
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import resources
from types import TracebackType
from typing import IO, Any, Protocol

from hornbook.errors import HornbookError
from hornbook.sandbox.backends import BackendName, Confined, choose_backend, interpreter, start
from hornbook.sandbox.limits import Job, Limits, Outcome

_GRACE_SECONDS = 15.0
_LARGEST_BATCH = 256
_LARGEST_FRAME = 1 << 28


class Advances(Protocol):
    """The part of a progress bar that `run_many` uses."""

    def advance(self, n: int = 1) -> object: ...


class _Died(Exception):
    """The keeper is gone or silent."""


@functools.lru_cache(maxsize=1)
def _bootstrap() -> str:
    """The keeper's program: our modules as text, so that the sandbox need not read our folder."""
    folder = resources.files("hornbook.sandbox")
    sources = {
        f"hornbook.sandbox.{name}": folder.joinpath(f"{name}.py").read_text(encoding="utf-8")
        for name in ("simple", "confine", "zygote")
    }
    return (
        "import sys, types\n"
        f"sources = {sources!r}\n"
        "for name in ('hornbook', 'hornbook.sandbox', *sources):\n"
        "    module = sys.modules[name] = types.ModuleType(name)\n"
        "    parent, _, last = name.rpartition('.')\n"
        "    if parent: setattr(sys.modules[parent], last, module)\n"
        "    exec(compile(sources.get(name, ''), name, 'exec'), module.__dict__)\n"
        "del sources\n"
        "sys.modules['hornbook.sandbox.zygote'].main(sys.argv[1])\n"
    )


@functools.lru_cache(maxsize=1)
def _starter(process: int) -> ThreadPoolExecutor:
    """The one thread of this process that starts keepers.

    A keeper dies with its parent, and to the kernel the parent is the *thread* that started it: keepers
    started by the crew of one `run_many` would be dead when the next one wants them.
    """
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix="sandbox-starter")


class _Worker:
    """One confined keeper and the frames that go to it and come back."""

    def __init__(self, backend: BackendName) -> None:
        self.folder = tempfile.mkdtemp(prefix="hornbook-sandbox-")
        self.process: Confined | None = None
        try:
            # Not -I: it would ignore the fixed PYTHONHASHSEED. The environment is ours, entirely.
            command = [interpreter(), "-P", "-s", "-S", "-c", _bootstrap(), self.folder]
            self.process = _starter(os.getpid()).submit(start, backend, command, self.folder).result()
            ready = self._receive(time.monotonic() + 60)
            if not (isinstance(ready, dict) and ready.get("ready")):
                raise _Died("the keeper did not report ready")
            self.inner_filter = bool(ready.get("filter"))
        except _Died as error:
            self.close()
            raise HornbookError(
                f"The {backend} sandbox did not start ({error}); `hornbook doctor` tests it step by step."
            ) from None
        except BaseException:
            self.close()
            raise

    def send(self, value: Any) -> None:
        assert self.process is not None
        body = json.dumps(value).encode()
        try:
            _write_all(self.process.stdin, struct.pack("<I", len(body)) + body)
        except OSError as error:
            raise _Died(str(error)) from None

    def receive(self, wait_seconds: float) -> Any:
        return self._receive(time.monotonic() + wait_seconds)

    def _receive(self, deadline: float) -> Any:
        (size,) = struct.unpack("<I", self._read(4, deadline))
        if size > _LARGEST_FRAME:
            raise _Died("the keeper sent a frame that is too large")
        try:
            return json.loads(self._read(size, deadline))
        except ValueError as error:
            raise _Died(f"the keeper sent something else than JSON ({error})") from None

    def _read(self, size: int, deadline: float) -> bytes:
        assert self.process is not None
        fd = self.process.stdout.fileno()
        parts, left = [], size
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        while left:
            if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
                raise _Died("the keeper did not answer in time")
            part = os.read(fd, min(left, 1 << 20))
            if not part:
                raise _Died("the keeper is gone")
            parts.append(part)
            left -= len(part)
        return b"".join(parts)

    def kill(self) -> None:
        """End it from another thread: the one that waits for an answer meets the end and calls `close`.

        Closing the streams here would let that thread read whatever file gets their number next.
        """
        if self.process is not None:
            self.process.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def close(self) -> None:
        if self.process is not None:
            self.process.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def _write_all(stream: IO[bytes], data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(stream.fileno(), view) :]


def _outcome(row: list[Any]) -> Outcome:
    _, status, kind, text, stdout, stderr, cpu_seconds, cut = row
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        # Only a program that tampered with its own harness gets here.
        return Outcome(status="refused", stderr="the value could not be read\n", cpu_seconds=cpu_seconds)
    return Outcome(
        status=status,
        value=value,
        value_kind=kind,
        stdout=stdout,
        stderr=stderr,
        cpu_seconds=cpu_seconds,
        cut=cut,
    )


class Sandbox:
    """A pool of confined keepers. A context manager; `run_program` and `run_many` share one by default.

    `workers`: how many run at once (default: the cores this process may use).
    `backend`: "sandlock", "bubblewrap" or "unsafe"; default is the best that works here.
    """

    def __init__(self, *, workers: int | None = None, backend: BackendName | None = None) -> None:
        if workers is not None and workers < 1:
            raise HornbookError(f"workers is {workers}; accepted is a count of at least 1.")
        self.backend: BackendName = backend or choose_backend()
        self.workers = workers or available_cores()
        self._idle: list[_Worker] = []
        self._busy: set[_Worker] = set()
        self._lock = threading.Lock()
        self._closed = False
        self._owner = os.getpid()
        self._inner_filter = False

    def __enter__(self) -> "Sandbox":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    def close(self) -> None:
        """Kill every keeper and its children. Running calls fail."""
        with self._lock:
            self._closed = True
            idle, busy = list(self._idle), list(self._busy)
            self._idle.clear()
            self._busy.clear()
        for worker in idle:
            worker.close()
        for worker in busy:
            worker.kill()

    @property
    def inner_filter(self) -> bool:
        """Whether programs run under the system-call filter (known once a keeper has started)."""
        return self._inner_filter

    def _take(self) -> _Worker:
        with self._lock:
            if self._closed:
                raise _Died("the sandbox was closed")
            if self._idle:
                worker = self._idle.pop()
                self._busy.add(worker)
                return worker
        worker = _Worker(self.backend)
        self._inner_filter = worker.inner_filter
        with self._lock:
            self._busy.add(worker)
        if self.closed:  # between the two locks
            self._give(worker, healthy=False)
            raise _Died("the sandbox was closed")
        return worker

    def _give(self, worker: _Worker, *, healthy: bool) -> None:
        with self._lock:
            self._busy.discard(worker)
            if healthy and not self._closed:
                self._idle.append(worker)
                return
        worker.close()

    def run(self, job: Job, *, limits: Limits | None = None) -> Outcome:
        """Run one program."""
        return self._batch([(0, job)], limits or Limits(), share=False)[0][1]

    def run_many(
        self,
        jobs: Sequence[str | Job],
        *,
        limits: Limits | None = None,
        share: bool = True,
        progress: Advances | None = None,
    ) -> list[Outcome]:
        """Run every program; one outcome for each, in order.

        `share=False` gives even simple programs a process each.
        """
        limits = limits or Limits()
        todo = [(i, Job(source=job) if isinstance(job, str) else job) for i, job in enumerate(jobs)]
        outcomes: list[Outcome | None] = [None] * len(todo)
        threads = min(self.workers, len(todo))
        if threads == 0:
            return []
        size = max(1, min(_LARGEST_BATCH, len(todo) // (threads * 4)))
        batches: queue.SimpleQueue[list[tuple[int, Job]]] = queue.SimpleQueue()
        for at in range(0, len(todo), size):
            batches.put(todo[at : at + size])
        done: queue.SimpleQueue[list[tuple[int, Outcome]] | BaseException] = queue.SimpleQueue()
        stop = threading.Event()

        def work() -> None:
            try:
                while not stop.is_set():
                    try:
                        batch = batches.get_nowait()
                    except queue.Empty:
                        return
                    done.put(self._batch(batch, limits, share=share))
            except BaseException as error:
                done.put(error)

        crew = [threading.Thread(target=work, daemon=True) for _ in range(threads)]
        for thread in crew:
            thread.start()
        left = len(todo)
        try:
            while left:
                result = done.get()
                if isinstance(result, BaseException):
                    raise result
                for i, outcome in result:
                    outcomes[i] = outcome
                left -= len(result)
                if progress is not None:
                    progress.advance(len(result))
        except BaseException:
            stop.set()
            self._drop_busy()
            raise
        return [outcome for outcome in outcomes if outcome is not None]

    def _drop_busy(self) -> None:
        with self._lock:
            workers = list(self._busy)
            self._busy.clear()
        for worker in workers:
            worker.kill()

    def _batch(
        self, batch: list[tuple[int, Job]], limits: Limits, *, share: bool
    ) -> list[tuple[int, Outcome]]:
        """Run a batch on one worker. If the worker dies, the programs without an
        outcome run again one to a message: then it is known whose deed it was. One
        that loses two workers in a row did it; one death may be an accident."""
        rows: dict[int, Outcome] = {}
        died: _Died | None = None
        for _ in range(2 if len(batch) == 1 else 1):
            try:
                self._exchange(batch, limits, share, rows)
                died = None
                break
            except _Died as error:
                died = error
                if self.closed:
                    raise HornbookError("The sandbox was closed while programs were running.") from None
        if died is not None and len(batch) == 1:
            message = f"the program took its sandbox down ({died})\n"
            rows[batch[0][0]] = Outcome(status="refused", stderr=message)
        elif died is not None:
            for i, job in batch:
                if i not in rows:
                    rows.update(self._batch([(i, job)], limits, share=False))
        return [(i, rows[i]) for i, _ in batch]

    def _exchange(
        self, batch: list[tuple[int, Job]], limits: Limits, share: bool, rows: dict[int, Outcome]
    ) -> None:
        worker = self._take()
        healthy = False
        try:
            jobs = [[i, job.source, job.entry, list(job.args), job.stdin] for i, job in batch]
            worker.send({"limits": limits.as_json(), "share": share, "jobs": jobs})
            # Between two answers lies at most one child, or two when a shared one died first.
            wait = 2 * limits.wall_seconds + _GRACE_SECONDS
            while (answer := worker.receive(wait)) is not None:
                for row in answer:
                    rows[row[0]] = _outcome(row)
            missing = [i for i, _ in batch if i not in rows]
            if missing:
                raise _Died(f"the keeper left {len(missing)} programs out")
            healthy = True
        finally:
            self._give(worker, healthy=healthy)


def available_cores() -> int:
    """The cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


_default: Sandbox | None = None
_default_lock = threading.Lock()


def default_sandbox() -> Sandbox:
    """The sandbox that `run_program` and `run_many` share; started on first use, closed at exit."""
    global _default
    with _default_lock:
        if _default is None or _default._owner != os.getpid() or _default.closed:
            _default = Sandbox()
        return _default


@atexit.register
def _close_default() -> None:
    # A forked copy of this process does not own the keepers.
    if _default is not None and _default._owner == os.getpid():
        with contextlib.suppress(Exception):
            _default.close()


def run_program(
    source: str,
    *,
    entry: str | None = None,
    args: Sequence[Any] = (),
    stdin: str = "",
    limits: Limits | None = None,
) -> Outcome:
    """Run a Python program in the sandbox.

    With `entry`, the function of that name is called with `args` (JSON values)
    after the program ran, and `Outcome.value` is what it returned. Programs see
    the standard library alone, an empty private folder as working directory,
    `random` seeded with 0 and a fixed hash seed: the same program has the same
    outcome. Never raises for what a program does; raises `HornbookError` when
    the machine has no sandbox.
    """
    return default_sandbox().run(
        Job(source=source, entry=entry, args=tuple(args), stdin=stdin), limits=limits
    )


def run_many(
    jobs: Sequence[str | Job],
    *,
    workers: int | None = None,
    limits: Limits | None = None,
    share: bool = True,
    progress: Advances | None = None,
) -> list[Outcome]:
    """Run many programs; one `Outcome` for each, in order.

    Simple programs (see `simple.py`) share processes, the rest get one each;
    outcomes do not depend on it. `workers` is the number of confined
    interpreters (default: one for each core).
    """
    if workers is None:
        return default_sandbox().run_many(jobs, limits=limits, share=share, progress=progress)
    with Sandbox(workers=workers) as sandbox:
        return sandbox.run_many(jobs, limits=limits, share=share, progress=progress)
