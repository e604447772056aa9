"""Seven attacks on the sandbox, each with a control that shows the attack is real.

A sandbox that "blocks" an attack which would fail anyway has shown nothing: a
wrong path, a missing victim or a refused port look the same as protection. So
each attack also runs in a plain child process, where it must succeed. The
attacks are bounded and clean up after themselves: memory is reserved and not
touched, forks wait on a pipe and are reaped, the victim is a process of ours.
"""

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from hornbook.sandbox.backends import interpreter
from hornbook.sandbox.limits import Job, Limits, Outcome
from hornbook.sandbox.run import Sandbox

FORKS = 200
_LIMITS = Limits(cpu_seconds=5, wall_seconds=15)

Check: TypeAlias = Callable[[str], bool]
"""From what the program printed to whether the attack succeeded."""


@dataclass(frozen=True, slots=True)
class Attack:
    """One attack on one sandbox. `open_outside` is the control; `how` says what stopped it."""

    name: str
    open_outside: bool
    blocked: bool
    how: str

    @property
    def shown(self) -> bool:
        """Whether the sandbox stopped an attack that works."""
        return self.open_outside and self.blocked


@dataclass(frozen=True, slots=True)
class SelfTest:
    """The result: which backend, each attack, and whether an honest program still computes."""

    backend: str
    inner_filter: bool
    attacks: tuple[Attack, ...]
    computes: bool

    @property
    def passed(self) -> bool:
        return self.computes and all(attack.shown for attack in self.attacks)

    def rows(self) -> list[tuple[str, str, str, str]]:
        """(attack, without a sandbox, in the sandbox, how) for a table."""
        rows = [
            (
                attack.name,
                "succeeds" if attack.open_outside else "FAILS (control broken)",
                "blocked" if attack.blocked else "OPEN",
                attack.how,
            )
            for attack in self.attacks
        ]
        honest = "runs" if self.computes else "FAILS"
        return [*rows, ("an honest program computes", "runs", honest, "")]


@contextmanager
def _read_a_secret() -> Iterator[tuple[str, Check]]:
    word = secrets.token_hex(16)
    with tempfile.NamedTemporaryFile("w", prefix="hornbook-secret-", dir=Path.home()) as file:
        file.write(word)
        file.flush()
        yield f"print(open({file.name!r}).read())", lambda printed: word in printed


@contextmanager
def _write(folder: Path) -> Iterator[tuple[str, Check]]:
    path = folder / f".hornbook-self-test-{secrets.token_hex(8)}"
    try:
        yield f"open({str(path)!r}, 'w').write('here')", lambda _: path.exists()
    finally:
        path.unlink(missing_ok=True)


@contextmanager
def _connect() -> Iterator[tuple[str, Check]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.5)

        def reached(_: str) -> bool:
            try:
                listener.accept()[0].close()
            except TimeoutError:
                return False
            return True

        port = listener.getsockname()[1]
        yield f"import socket\nsocket.create_connection(('127.0.0.1', {port}), timeout=5).close()", reached


@contextmanager
def _memory() -> Iterator[tuple[str, Check]]:
    # Reserved and never touched: harmless, and refused all the same by an address-space limit.
    yield (
        "import mmap\nblock = mmap.mmap(-1, 2 << 30)\nprint(len(block))",
        lambda printed: str(2 << 30) in printed,
    )


@contextmanager
def _forks() -> Iterator[tuple[str, Check]]:
    source = f"""
import os
read, write = os.pipe()
children = []
try:
    for _ in range({FORKS}):
        pid = os.fork()
        if pid == 0:
            os.close(write)
            os.read(read, 1)
            os._exit(0)
        children.append(pid)
finally:
    os.close(write)
    for pid in children:
        os.waitpid(pid, 0)
    print("forked", len(children))
"""
    yield source, lambda printed: f"forked {FORKS}" in printed


@contextmanager
def _signal() -> Iterator[tuple[str, Check]]:
    victim = subprocess.Popen([interpreter(), "-I", "-S", "-c", "import time; time.sleep(60)"])

    def hit(_: str) -> bool:
        try:
            victim.wait(timeout=0.5)
        except subprocess.TimeoutExpired:
            return False
        return True

    try:
        yield f"import os\nos.kill({victim.pid}, {int(signal.SIGTERM)})", hit
    finally:
        victim.kill()
        victim.wait()


ATTACKS: dict[str, Callable[[], AbstractContextManager[tuple[str, Check]]]] = {
    "read a file of the user": _read_a_secret,
    "write into the home folder": lambda: _write(Path.home()),
    "write into the shared temporary folder": lambda: _write(Path(tempfile.gettempdir())),
    "open a TCP connection": _connect,
    "take 2 GB of memory": _memory,
    f"fork {FORKS} times": _forks,
    "signal a process of the host": _signal,
}


def _outside(source: str) -> str:
    """Run an attack in a plain child: what every sandbox has to beat."""
    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(subprocess.TimeoutExpired):
        command = [sys.executable, "-I", "-S", "-c", source]
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=30, env=dict(os.environ)
        )
        return done.stdout
    return ""


def _how(outcome: Outcome) -> str:
    if outcome.status == "ok":
        return "went to a private place"
    if outcome.status != "error":
        return outcome.status
    return outcome.stderr.strip().rsplit("\n", 1)[-1][:100]


def self_test(*, sandbox: Sandbox | None = None) -> SelfTest:
    """Run every attack outside (the control) and inside `sandbox` (default: one of the best backend here).

    Takes a few seconds. Raises `HornbookError` when no sandbox works at all.
    """
    with sandbox if sandbox is not None else Sandbox(workers=1) as tested:
        attacks = []
        for name, prepare in ATTACKS.items():
            with prepare() as (source, succeeded):
                open_outside = succeeded(_outside(source))
            with prepare() as (source, succeeded):  # anew: the control has used up its victim
                outcome = tested.run(Job(source=source), limits=_LIMITS)
                attacks.append(Attack(name, open_outside, not succeeded(outcome.stdout), _how(outcome)))
        honest = tested.run(
            Job(source="def f(n): return sum(i * i for i in range(n))", entry="f", args=(1000,))
        )
        return SelfTest(tested.backend, tested.inner_filter, tuple(attacks), honest.value == 332833500)
