"""Commands of `hornbook` that the studio starts: each its own process, with a folder that outlives us all.

A job goes on when the studio stops, and the next studio finds it again. `.studio/jobs/<id>/` below the home
holds `job.json` (command, process, begin, exit status), `out.txt` and `log.txt` (what it printed).
"""

import json
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from hornbook.errors import HornbookError
from hornbook.lab.files import write_json
from hornbook.lab.live import process_lives, process_start

JOBS_FOLDER = ".studio/jobs"
_STOP_FILE = "stop"
_TAIL_BYTES = 16_384

# A program that a script starts in the background is told to ignore Ctrl-C, and so are its children. One
# that was asked to stop before it could hear of it finds the file (the first argument) that the asker left.
_COMMAND = (
    "import os, signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "os.path.exists(sys.argv.pop(1)) and sys.exit(130); "
    "from hornbook.cli import main; main()"
)

State = Literal["running", "done", "failed", "stopped"]


@dataclass(frozen=True, kw_only=True)
class Job:
    """One command.

    Attributes:
        folder: where its files lie; the folder's name is its `id`.
        kind: "run", "eval", "export" or "doctor".
        about: what it works on: a run's folder name, a model.
        words: the arguments behind `hornbook`.
        code: exit status; None while it runs, or when nobody saw it end.
    """

    folder: Path
    kind: str
    about: str
    words: tuple[str, ...]
    pid: int
    process_started: str
    began: float
    ended: float | None = None
    code: int | None = None

    @property
    def id(self) -> str:
        """Names the job."""
        return self.folder.name

    @property
    def state(self) -> State:
        """What became of it."""
        if self.code is not None:
            if self.code != 0 and (self.folder / _STOP_FILE).exists():
                return "stopped"  # whatever it died of, it was asked to
            return "done" if self.code == 0 else "stopped" if self.code in (130, -2, -15, -9) else "failed"
        return "running" if process_lives(self.pid, self.process_started) else "stopped"

    @property
    def out(self) -> str:
        """What it printed to standard output."""
        with suppress(OSError):
            return (self.folder / "out.txt").read_text(encoding="utf-8", errors="replace")
        return ""

    def log(self) -> str:
        """The end of what it said on standard error."""
        try:
            with open(self.folder / "log.txt", "rb") as file:
                file.seek(0, os.SEEK_END)
                size = file.tell()
                file.seek(max(0, size - _TAIL_BYTES))
                text = file.read().decode("utf-8", errors="replace")
        except OSError:
            return ""
        return text if size <= _TAIL_BYTES else text.partition("\n")[2]


class Jobs:
    """Starts, lists and stops jobs of one home."""

    def __init__(self, home: Path) -> None:
        self.home = home.absolute()
        self._folder = self.home / JOBS_FOLDER
        self._lock = threading.Lock()

    def start(self, kind: str, about: str, words: Sequence[str], *, alone: bool = True) -> Job:
        """Starts `hornbook *words`.

        Args:
            alone: refuse when a job of this kind about the same thing runs already.

        Raises:
            HornbookError: it runs already, or the folder cannot be written.
        """
        with self._lock:
            if alone and (running := self.running(kind, about)) is not None:
                raise HornbookError(f"{kind} {about} is running already (since {_clock(running.began)}).")
            folder = self._folder / f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}"
            try:
                folder.mkdir(parents=True)
                with open(folder / "out.txt", "wb") as out, open(folder / "log.txt", "wb") as log:
                    process = subprocess.Popen(
                        [sys.executable, "-c", _COMMAND, str(folder / _STOP_FILE), *words],
                        stdin=subprocess.DEVNULL,
                        stdout=out,
                        stderr=log,
                        env={**os.environ, "PYTHONUNBUFFERED": "1", "NO_COLOR": "1"},
                        start_new_session=True,  # Ctrl-C in the studio's terminal ends the studio alone
                    )
            except OSError as error:
                raise HornbookError(f"{folder} cannot be used: {error.strerror or error}.") from error
            job = Job(
                folder=folder,
                kind=kind,
                about=about,
                words=tuple(words),
                pid=process.pid,
                process_started=process_start(process.pid),
                began=time.time(),
            )
            _write(job)
        threading.Thread(target=_see_end, args=(process, job), name="hornbook-job", daemon=True).start()
        return job

    def all(self) -> list[Job]:
        """Every job, newest first."""
        if not self._folder.is_dir():
            return []
        names = sorted((p.name for p in self._folder.iterdir()), reverse=True)
        return [job for name in names if (job := self.find(name)) is not None]

    def find(self, name: str) -> Job | None:
        """The job `name`; None when there is none."""
        if Path(name).name != name or name.startswith("."):
            return None
        try:
            data = json.loads((self._folder / name / "job.json").read_text())
            return Job(**{**data, "folder": self._folder / name, "words": tuple(data["words"])})
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def running(self, kind: str, about: str) -> Job | None:
        """The job of this kind about this that runs now."""
        return next((j for j in self.all() if (j.kind, j.about, j.state) == (kind, about, "running")), None)

    def newest(self, kind: str, about: str) -> Job | None:
        """The last one started of this kind about this."""
        return next((j for j in self.all() if (j.kind, j.about) == (kind, about)), None)

    def stop(self, job: Job) -> None:
        """Asks a job to stop, as Ctrl-C does: what is done is kept."""
        if job.state == "running":
            with suppress(OSError):
                (job.folder / _STOP_FILE).touch()
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(job.pid, signal.SIGINT)


def _see_end(process: subprocess.Popen[bytes], job: Job) -> None:
    code = process.wait()
    _write(Job(**{**vars(job), "code": code, "ended": time.time()}))


def _write(job: Job) -> None:
    data = asdict(job)
    del data["folder"]
    with suppress(OSError):  # the home may have been removed under us
        write_json(job.folder / "job.json", data)


def _clock(moment: float) -> str:
    return time.strftime("%H:%M", time.localtime(moment))
