"""What a run is doing right now, in a file that others may read: `live.json` in the run's folder.

The file is written about once a second while a step runs and after every step. Losing it loses nothing.
"""

import json
import os
import platform
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hornbook.lab.files import plain

if TYPE_CHECKING:
    from hornbook.lab.step import StepContext

LIVE_FILE = "live.json"
BEAT_SECONDS = 1.0


class Live:
    """Keeps `live.json` of one run; never in the way of the work (a file that cannot be written is let go).

    Args:
        folder: the run's folder.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / LIVE_FILE
        self._lock = threading.Lock()
        self._data: dict[str, Any] = {
            "pid": os.getpid(),
            "process_started": process_start(os.getpid()),
            "host": platform.node(),
            "started": time.time(),
            "state": "running",
            "done": [],
            "step": None,
        }
        self._write()

    @contextmanager
    def making(self, context: "StepContext") -> Iterator[None]:
        """Writes the progress of the step behind `context` every second until the block ends."""
        begun, end = time.time(), threading.Event()

        def note() -> None:
            self._data["step"] = {
                "name": context.name,
                "key": context.key,
                "began": begun,
                "folder": context.folder.name,
                "progress": context.progress_now(),
            }
            self._write()

        def beat() -> None:
            while not end.wait(BEAT_SECONDS):
                note()

        note()
        thread = threading.Thread(target=beat, name="hornbook-live", daemon=True)
        thread.start()
        try:
            yield
        finally:
            end.set()
            thread.join()
            self._data["step"] = None

    def done(self, *, name: str, key: str, seconds: float, cached: bool) -> None:
        """A step is finished, or was there already."""
        self._data["done"].append({"name": name, "key": key, "seconds": seconds, "cached": cached})
        self._data["step"] = None
        self._write()

    def finish(self) -> None:
        """The run has written its report."""
        self._data["state"] = "finished"
        self._write()

    def _write(self) -> None:
        with self._lock, suppress(OSError, ValueError, TypeError):
            self._data["updated"] = time.time()
            temporary = self._path.with_name(f".{LIVE_FILE}.{os.getpid()}")
            temporary.write_text(json.dumps(plain(self._data)))
            os.replace(temporary, self._path)


@dataclass(frozen=True, kw_only=True)
class LiveRun:
    """What `live.json` says of one run.

    Attributes:
        folder: the run's folder.
        state: "running"; "finished"; "stopped" when the process ended before the run did.
        started, updated: seconds since 1970.
        done: finished steps: name, key, seconds, cached.
        step: the step being made: name, key, began, folder, progress (label, done, total, unit, rate,
            eta_seconds, numbers); None between steps.
    """

    folder: Path
    state: str
    started: float
    updated: float
    pid: int
    done: list[dict[str, Any]]
    step: Mapping[str, Any] | None


def read_live(folder: Path) -> LiveRun | None:
    """What the run in `folder` is doing, or did last; None when it never said."""
    try:
        data = json.loads((folder / LIVE_FILE).read_text())
        state = data["state"]
        if state == "running" and not _alive(data):
            state = "stopped"
        return LiveRun(
            folder=folder,
            state=state,
            started=data["started"],
            updated=data["updated"],
            pid=data["pid"],
            done=data["done"],
            step=data["step"],
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _alive(data: Mapping[str, Any]) -> bool:
    if data["host"] != platform.node():  # another machine of the same disk: believe its clock for a minute
        return bool(time.time() - data["updated"] < 60)
    return process_lives(data["pid"], data["process_started"])


def process_lives(pid: int, started: str) -> bool:
    """Whether the process that had number `pid` and began at `started` still runs."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return process_start(pid) == started


def process_start(pid: int) -> str:
    """When a process began, in the system's own ticks; "" where that cannot be told, "ended" of a zombie."""
    try:
        after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "ended" if after_name[0] == "Z" else after_name[19]
