"""The outer wall: how a confined interpreter is started on this machine.

`sandlock` (Landlock and seccomp, no privileges, no daemon) where it is installed
and the kernel carries it; `bubblewrap` where its binary works; otherwise nothing
runs unless the user says so with HORNBOOK_UNSAFE_EXECUTION=1.
"""

import contextlib
import functools
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import IO, Literal, Protocol, TypeAlias

from hornbook.errors import HornbookError

UNSAFE_VARIABLE = "HORNBOOK_UNSAFE_EXECUTION"
BackendName: TypeAlias = Literal["sandlock", "bubblewrap", "unsafe"]
# Hash order is part of what a program can print: fix it, so that outcomes repeat.
_ENVIRONMENT = {"PYTHONHASHSEED": "0", "PYTHONUTF8": "1", "LC_ALL": "C.UTF-8", "PATH": "/usr/bin:/bin"}


class Confined(Protocol):
    """A running confined process with pipes on both ends."""

    @property
    def stdin(self) -> IO[bytes]: ...
    @property
    def stdout(self) -> IO[bytes]: ...
    def kill(self) -> None:
        """Kill it with everything it started, and wait until it is gone; whoever reads meets the end."""

    def close(self) -> None:
        """`kill`, and close the streams: for the thread that reads them, never for another."""


def runtime_paths() -> list[str]:
    """What an interpreter must read to start: itself, its standard library, the system's libraries."""
    paths = sysconfig.get_paths()
    wanted = {
        paths["stdlib"],
        paths["platstdlib"],
        str(Path(paths["platstdlib"]) / "lib-dynload"),
        os.path.realpath(sys.executable),
        "/usr/lib",
        "/usr/lib64",
        "/lib",
        "/lib64",
        "/usr/local/lib",
        "/etc/ld.so.cache",
    }
    for name in ("LIBDIR", "LIBPL"):
        folder = sysconfig.get_config_var(name)
        if folder:
            # The shared interpreter library alone, not the folder: a home's lib/ may hold anything.
            wanted.update(str(path) for path in Path(folder).glob("libpython*"))
    return sorted(path for path in wanted if os.path.exists(path))


def interpreter() -> str:
    """The real executable: a virtual environment's link would need its home readable."""
    return os.path.realpath(sys.executable)


class _Sandlock:
    def __init__(self, command: list[str], folder: str) -> None:
        import sandlock

        piped, null = sandlock.StdioMode.PIPED, sandlock.StdioMode.NULL
        self._sandbox = sandlock.Sandbox(
            fs_readable=[*runtime_paths(), "/dev/null", "/dev/urandom", "/dev/zero"],
            fs_writable=[folder, "/dev/null"],
            clean_env=True,
            env=_ENVIRONMENT,
            cwd=folder,
            max_processes=8,
            no_coredump=True,
        )
        self._process = self._sandbox.popen(command, stdin=piped, stdout=piped, stderr=null)
        self.stdin: IO[bytes] = self._process.stdin
        self.stdout: IO[bytes] = self._process.stdout

    def kill(self) -> None:
        with contextlib.suppress(Exception):
            self._process.kill()
        with contextlib.suppress(Exception):
            self._process.wait(timeout=10)

    def close(self) -> None:
        self.kill()
        for stream in (self.stdin, self.stdout):
            with contextlib.suppress(OSError):
                stream.close()


class _Subprocess:
    """bubblewrap, or no outer wall at all."""

    def __init__(self, command: list[str], folder: str) -> None:
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=folder,
            env=_ENVIRONMENT,
            start_new_session=True,
            bufsize=0,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self.stdin: IO[bytes] = self._process.stdin
        self.stdout: IO[bytes] = self._process.stdout

    def kill(self) -> None:
        if self._process.poll() is not None:
            return  # its number may be another's by now
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def close(self) -> None:
        self.kill()
        for stream in (self.stdin, self.stdout):
            with contextlib.suppress(OSError):
                stream.close()


def _bubblewrap_command(command: list[str], folder: str) -> list[str]:
    arguments = [shutil.which("bwrap") or "bwrap", "--unshare-all", "--die-with-parent", "--new-session"]
    for path in runtime_paths():
        # Debian's /lib is a link to usr/lib: links are made again, not followed.
        if os.path.islink(path) and os.path.isdir(path):
            arguments += ["--symlink", os.readlink(path), path]
        else:
            arguments += ["--ro-bind", path, path]
    arguments += ["--dev", "/dev", "--tmpfs", "/tmp", "--bind", folder, folder]
    # What bubblewrap builds around the folder is a writable tmpfs: one program could leave
    # something there for the next, and no quota would see it.
    arguments += ["--remount-ro", "/dev", "--remount-ro", "/tmp", "--remount-ro", "/"]
    return [*arguments, "--chdir", folder, "--", *command]


def start(backend: BackendName, command: list[str], folder: str) -> Confined:
    """Start `command` confined by `backend`; it may write in `folder` and nowhere else."""
    if backend == "sandlock":
        return _Sandlock(command, folder)
    if backend == "bubblewrap":
        return _Subprocess(_bubblewrap_command(command, folder), folder)
    return _Subprocess(command, folder)


def _why_not_sandlock() -> str | None:
    if sys.platform != "linux":
        return "sandlock needs Linux"
    try:
        import sandlock
    except Exception as error:  # also a library that does not load
        return f"sandlock is not installed ({error}); pip install 'hornbook[sandbox]'"
    have, need = sandlock.landlock_abi_version(), sandlock.min_landlock_abi()
    if have < need:
        return f"sandlock needs Landlock ABI {need} (Linux 6.12) and this kernel has {have}"
    return None


def _why_not_bubblewrap() -> str | None:
    binary = shutil.which("bwrap") if sys.platform == "linux" else None
    if binary is None:
        return "bubblewrap (bwrap) is not installed"
    command = _bubblewrap_command([interpreter(), "-I", "-S", "-c", "print(1)"], "/tmp")
    try:
        probe = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"bubblewrap did not start ({error})"
    return None if probe.returncode == 0 else f"bubblewrap failed: {probe.stderr.strip()[:200]}"


@functools.lru_cache(maxsize=1)
def _found() -> tuple[BackendName | None, tuple[str, ...]]:
    reasons: list[str] = []
    for name, why_not in (("sandlock", _why_not_sandlock), ("bubblewrap", _why_not_bubblewrap)):
        reason = why_not()
        if reason is None:
            return name, tuple(reasons)  # type: ignore[return-value]
        reasons.append(reason)
    return None, tuple(reasons)


def unsafe_allowed() -> bool:
    """Whether the user allowed running programs without a sandbox."""
    return os.environ.get(UNSAFE_VARIABLE, "") in ("1", "yes", "true")


def choose_backend() -> BackendName:
    """The best backend here; raises with what to install when there is none."""
    name, reasons = _found()
    if name is not None:
        return name
    if unsafe_allowed():
        return "unsafe"
    raise HornbookError(
        f"No sandbox works on this machine: {'; '.join(reasons)}. Programs written by a model are not run "
        f"without one. Install bubblewrap or use Linux 6.12 or newer; to run them unconfined with your own "
        f"rights, on a machine that holds nothing of value, set {UNSAFE_VARIABLE}=1."
    )
