"""The keeper inside the sandbox: one confined Python that forks a child for each program.

Starting a confined interpreter costs 60 ms or more; forking this one, modules
loaded, costs about one. The keeper reads frames of jobs from its standard input
and answers with frames of outcomes on its standard output; programs see neither,
for the child replaces both and closes every other descriptor before it runs.

Who says what: the status, CPU time, stdout and stderr come from the keeper,
which looks at the kernel's account of the child and at files the child wrote.
The value is the program's own word, as it must be, and is taken only under a
nonce and after a clean exit; a program that prints a result, or leaves early,
has returned nothing. What the right value is never enters the sandbox.

This module runs inside the sandbox and imports only the standard library.
"""

import ast
import builtins
import gc
import io
import json
import linecache
import os
import random
import secrets
import select
import shutil
import signal
import stat
import struct
import sys
import tempfile
import time
import traceback
from typing import Any

from hornbook.sandbox import confine, simple

# What programs most often import: loaded once here, free in every child.
for _name in [
    "bisect",
    "collections",
    "copy",
    "dataclasses",
    "datetime",
    "decimal",
    "enum",
    "fractions",
    "functools",
    "heapq",
    "itertools",
    "math",
    "operator",
    "re",
    "statistics",
    "string",
    "typing",
]:
    __import__(_name)

JsonDict = dict[str, Any]
_FIRST_FREE_FD = 4
_RESULT_FD = 3
_TICK_SECONDS = 0.05


# ---------------------------------------------------------------- the program's side


class _Capped(io.RawIOBase):
    """Writes to a descriptor up to a number of bytes and drops the rest without an error."""

    def __init__(self, fd: int, room: int) -> None:
        self._fd, self._room = fd, room

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._fd

    def write(self, data: Any) -> int:
        size: int = memoryview(data).nbytes  # not len(): the program may have replaced it
        if self._room > 0:
            # One byte more than fits is kept, so that the keeper sees the cut.
            written = os.write(self._fd, bytes(data[: self._room + 1]))
            self._room -= written
        return size


def _text_stream(fd: int, room: int) -> io.TextIOWrapper:
    raw = io.BufferedWriter(_Capped(fd, room))
    return io.TextIOWrapper(raw, encoding="utf-8", errors="backslashreplace", line_buffering=True)


def _describe(error: BaseException, source: str) -> str:
    """The traceback as Python prints it, from the program's first frame; safe for hostile exceptions."""
    try:
        lines = source.splitlines(keepends=True)
        linecache.cache["<program>"] = (len(source), None, lines, "<program>")
        tb = error.__traceback__
        while tb is not None and tb.tb_frame.f_code.co_filename != "<program>":
            tb = tb.tb_next
        return "".join(traceback.format_exception(type(error), error, tb, limit=20))
    except BaseException:
        return f"{type(error).__name__} (its message could not be printed)\n"


def _encode(value: Any, limit: int) -> tuple[str, str]:
    """(kind, text) of a returned value: JSON where it is faithful, else a `repr`."""
    if value is None:
        return "none", "null"
    try:
        if _faithful(value):
            text = json.dumps(value)
            if len(text) <= limit:
                return "json", text
    except (ValueError, RecursionError, MemoryError):
        pass
    try:
        shown = repr(value)[:limit]
    except BaseException:
        shown = f"<{type(value).__name__}>"
    return "repr", json.dumps(shown)


def _faithful(value: Any) -> bool:
    kind = type(value)
    if kind in (int, float, str, bool, type(None)):
        return True
    if kind in (list, tuple):
        return all(map(_faithful, value))
    return kind is dict and all(type(key) is str for key in value) and all(map(_faithful, value.values()))


def _call(
    source: str, code: Any, scope: JsonDict, entry: str | None, args: list[Any]
) -> tuple[str, Any, str]:
    """(status, value, what went wrong) of running a program in this very process."""
    try:
        exec(code, scope)
        if entry is None:
            return "ok", None, ""
        function = scope.get(entry)
        if not callable(function):
            return "error", None, f"NameError: the program defines no function named {entry!r}\n"
        return "ok", function(*args), ""
    except SystemExit as leaving:
        if entry is None and leaving.code in (None, 0):
            return "ok", None, ""
        return "error", None, f"SystemExit: {leaving.code!r}\n"
    except MemoryError:
        return "memory", None, "MemoryError\n"
    except BaseException as error:
        return "error", None, _describe(error, source)


def _run_alone(job: list[Any], nonce: bytes, limit: int) -> None:
    """In the child: run one program; its record goes to the result file. Never returns."""
    _, source, entry, args, _ = job
    sys.stdin = open(0, encoding="utf-8", errors="replace", closefd=False)  # noqa: SIM115
    sys.stdout, sys.stderr = _text_stream(1, limit), _text_stream(2, limit)
    sys.argv = ["<program>"]
    random.seed(0)  # the same program gives the same outcome
    scope: JsonDict = {"__name__": "__main__", "__builtins__": builtins}
    try:
        code = compile(source, "<program>", "exec")
    except MemoryError:
        status, value, trouble = "memory", None, "MemoryError\n"
    except BaseException as error:
        status, value, trouble = "error", None, _describe(error, source)
    else:
        status, value, trouble = _call(source, code, scope, entry, args)
    scope = {}
    try:
        sys.stdout.flush()
        if trouble:
            sys.stderr.write(trouble)
        sys.stderr.flush()
    except BaseException:
        pass
    kind, text = _encode(value, max(limit, 4096)) if status == "ok" else ("none", "null")
    os.write(_RESULT_FD, b"%s %s %s %s" % (nonce, status.encode(), kind.encode(), text.encode()))
    os._exit(0)


def _run_simple(jobs: list[list[Any]], limit: int, results: int) -> None:
    """In the child: run every program that is simple, one after another. Never returns."""
    safe = {name: getattr(builtins, name) for name in simple.BUILTINS}
    safe["__import__"] = __import__  # the tree admits math and typing only
    for job in jobs:
        index, source, entry, args, stdin = job
        begun = time.process_time()
        record: list[Any] = [index, None]
        try:
            tree = ast.parse(source, "<program>")
            if not stdin and simple.reason_not_simple(tree) is None:
                code = compile(tree, "<program>", "exec")
                out = io.StringIO()
                sys.stdout = out
                status, value, trouble = _call(
                    source, code, {"__name__": "__main__", "__builtins__": dict(safe)}, entry, args
                )
                if not (
                    status == "memory" or trouble.startswith("RecursionError") or "RecursionError" in trouble
                ):
                    kind, text = _encode(value, max(limit, 4096)) if status == "ok" else ("none", "null")
                    shown, cut = _cut(out.getvalue().encode("utf-8", "backslashreplace"), limit)
                    told, cut_too = _cut(trouble.encode("utf-8", "backslashreplace"), limit)
                    used = time.process_time() - begun
                    record = [index, status, kind, text, shown, told, used, cut or cut_too]
        except BaseException:
            pass  # whatever it was, the program meets it again in a process of its own
        os.write(results, json.dumps(record).encode() + b"\n")
    os._exit(0)


def _cut(data: bytes, limit: int) -> tuple[str, bool]:
    return data[:limit].decode("utf-8", "replace"), len(data) > limit


# ---------------------------------------------------------------- the keeper's side


def _scratch() -> int:
    """A file in memory (or an unlinked one) that a child writes and the keeper reads."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("hornbook")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _contents(fd: int, limit: int) -> bytes:
    os.lseek(fd, 0, os.SEEK_SET)
    parts, left = [], limit
    while left > 0 and (part := os.read(fd, min(left, 1 << 20))):
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


class Keeper:
    """Runs the jobs of a sandboxed worker, one child at a time."""

    def __init__(self, folder: str, jobs: int, replies: int) -> None:
        self.folder, self.jobs, self.replies = folder, jobs, replies
        self.null = os.open(os.devnull, os.O_RDWR)
        self.timed = hasattr(signal, "sigtimedwait")
        if self.timed:
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})

    def serve(self) -> None:
        while (message := self._receive()) is not None:
            limits, jobs = message["limits"], message["jobs"]
            alone = jobs
            if message["share"]:
                alone = self._run_shared(jobs, limits)
            for job in alone:
                self._send([self._run_one(job, limits)])
            self._send(None)

    def _read(self, size: int) -> bytes | None:
        data = b""
        while len(data) < size:
            part = os.read(self.jobs, min(size - len(data), 1 << 20))
            if not part:
                return None
            data += part
        return data

    def _receive(self) -> JsonDict | None:
        head = self._read(4)
        body = None if head is None else self._read(struct.unpack("<I", head)[0])
        return None if body is None else json.loads(body)

    def _send(self, value: Any) -> None:
        body = json.dumps(value).encode()
        data = memoryview(struct.pack("<I", len(body)) + body)
        while data:
            data = data[os.write(self.replies, data) :]

    def _fork(self, limits: JsonDict, stdin: int, stdout: int, stderr: int, result: int) -> int:
        """Fork; in the child (which gets 0) set the inner wall up around it."""
        pid = os.fork()
        if pid:
            return pid
        confine.die_with_parent()
        if self.timed:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
        for target, fd in enumerate((stdin, stdout, stderr, result)):
            os.dup2(fd, target)
        os.closerange(_FIRST_FREE_FD, 256)
        confine.set_limits(
            limits["cpu_seconds"],
            limits["memory_bytes"],
            max(limits["disk_bytes"], limits["output_bytes"] * 4),
        )
        confine.install_filter()
        return 0

    def _wait(self, pid: int, limits: JsonDict) -> tuple[str | None, int, float]:
        """(why it was killed, wait status, CPU seconds) once the child is gone."""
        begun, killed = time.monotonic(), None
        pause = 0.0005
        while True:
            done, status, usage = os.wait4(pid, os.WNOHANG)
            if done:
                return killed, status, usage.ru_utime + usage.ru_stime
            if killed is None:
                killed = self._overdrawn(pid, time.monotonic() - begun, limits)
                if killed is not None:
                    os.kill(pid, signal.SIGKILL)
            if self.timed:
                signal.sigtimedwait({signal.SIGCHLD}, _TICK_SECONDS)
            else:
                select.select([], [], [], pause)
                pause = min(pause * 2, _TICK_SECONDS)

    def _overdrawn(self, pid: int, wall: float, limits: JsonDict) -> str | None:
        if wall > limits["wall_seconds"]:
            return "wall_limit"
        if wall > limits["cpu_seconds"]:
            try:  # the CPU clock of another process: man 3 clock_getcpuclockid
                if time.clock_gettime((~pid << 3) | 2) > limits["cpu_seconds"]:
                    return "cpu_limit"
            except OSError:
                pass  # not on this system: the kernel's own limit stands behind
        if wall > _TICK_SECONDS and self._disk_used() > limits["disk_bytes"]:
            return "refused"
        return None

    def _disk_used(self) -> int:
        total = 0
        for folder, _, files in os.walk(self.folder):
            for name in files:
                try:
                    total += max(os.lstat(os.path.join(folder, name)).st_blocks * 512, 512)
                except OSError:
                    continue
        return total

    def _sweep(self) -> None:
        """Empty the private folder, whatever modes the program left behind."""
        if not os.listdir(self.folder):
            return
        for folder, folders, _ in os.walk(self.folder):
            for name in folders:
                path = os.path.join(folder, name)
                if not stat.S_ISLNK(os.lstat(path).st_mode):
                    os.chmod(path, 0o700)
        for entry in list(os.scandir(self.folder)):
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path)
            else:
                os.unlink(entry.path)

    def _run_one(self, job: list[Any], limits: JsonDict) -> list[Any]:
        """One program in a child of its own; its outcome as a row."""
        limit = limits["output_bytes"]
        out, err, result = _scratch(), _scratch(), _scratch()
        stdin = self.null
        if job[4]:
            stdin = _scratch()
            data = memoryview(job[4].encode("utf-8", "replace"))
            while data:
                data = data[os.write(stdin, data) :]
            os.lseek(stdin, 0, os.SEEK_SET)
        nonce = secrets.token_hex(8).encode()
        pid = self._fork(limits, stdin, out, err, result)
        if pid == 0:
            _run_alone(job, nonce, limit)
        killed, status, used = self._wait(pid, limits)
        record = _contents(result, max(limit, 4096) * 8 + 256)
        shown, cut = _cut(_contents(out, limit + 1), limit)
        told, cut_too = _cut(_contents(err, limit + 1), limit)
        for fd in (out, err, result) if stdin == self.null else (out, err, result, stdin):
            os.close(fd)
        self._sweep()
        verdict, kind, text = "error", "none", "null"
        fields = record.split(b" ", 3)
        if killed is None and used > limits["cpu_seconds"]:
            killed = "cpu_limit"
        if killed is not None:
            verdict = killed
        elif os.WIFSIGNALED(status):
            number = os.WTERMSIG(status)
            told += f"the program was killed by signal {number} ({signal.Signals(number).name})\n"
            if number == signal.SIGXCPU:
                verdict = "cpu_limit"
        elif os.WEXITSTATUS(status) == 0 and len(fields) == 4 and fields[0] == nonce:
            verdict, kind, text = fields[1].decode(), fields[2].decode(), fields[3].decode()
        else:
            told += f"the program ended its process itself (exit status {os.WEXITSTATUS(status)})\n"
        return [job[0], verdict, kind, text, shown, told, used, cut or cut_too]

    def _run_shared(self, jobs: list[list[Any]], limits: JsonDict) -> list[list[Any]]:
        """Run the simple ones among `jobs` in shared children and send their outcomes;
        return the jobs that need a process of their own."""
        alone, left = [], jobs
        while left:
            # The records are small, but many: the file may hold all of them.
            roomy = dict(limits, disk_bytes=1 << 28)
            results = _scratch()
            pid = self._fork(roomy, self.null, self.null, self.null, results)
            if pid == 0:
                _run_simple(left, limits["output_bytes"], _RESULT_FD)
            self._wait(pid, roomy)
            rows = [json.loads(line) for line in _contents(results, 1 << 28).split(b"\n")[:-1]]
            os.close(results)
            alone += [job for job, row in zip(left, rows) if row[1] is None]
            done = [row for row in rows if row[1] is not None]
            if done:
                self._send(done)
            # The child died inside the first program without a record: it is judged alone.
            alone += left[len(rows) : len(rows) + 1]
            left = left[len(rows) + 1 :]
        return alone


def main(folder: str) -> None:
    """Serve until the host closes the job pipe. `folder` is the programs' private folder."""
    jobs, replies = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    os.dup2(null, 2)
    os.chdir(folder)
    gc.collect()
    gc.freeze()
    keeper = Keeper(folder, jobs, replies)
    keeper._send({"ready": True, "filter": confine.filter_program(1) is not None})
    keeper.serve()
