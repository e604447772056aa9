"""Runs one step into its folder: locked, metered, resumable, and renamed into place when it is whole."""

import datetime
import errno
import json
import os
import platform
import shutil
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, NoReturn

from hornbook import __version__
from hornbook.errors import HornbookError
from hornbook.lab import files
from hornbook.lab.live import Live
from hornbook.lab.memory import Meter, is_out_of_memory
from hornbook.lab.ranks import alone
from hornbook.lab.step import STEP_FILE, Step, StepContext

ATTEMPT_FILE = ".attempt.json"  # what earlier, interrupted attempts took
ERROR_FILE = "error.txt"  # traceback of the last failed attempt
_POLL_SECONDS = 0.2
_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)


class StepFailed(HornbookError):
    """A step raised. The message names the step, the reason and the folder that is kept."""


class DamagedArtifact(HornbookError):
    """A finished step's folder is not as it was left; the message says how."""


def read_record(folder: Path, key: str | None = None) -> dict[str, Any] | None:
    """The `step.json` of a finished step; None when the folder is not there.

    Raises:
        DamagedArtifact: it cannot be read, is of another key, or files it lists are missing or cut short.
    """
    if not folder.is_dir():
        return None
    path = folder / STEP_FILE
    try:
        record = json.loads(path.read_text())
        missing = {"step", "version", "key", "inputs", "facts", "files"} - set(record)
    except FileNotFoundError:
        raise DamagedArtifact(f"{path} is missing") from None
    except (ValueError, OSError, TypeError) as error:
        raise DamagedArtifact(f"{path} cannot be read ({error})") from None
    if missing:
        raise DamagedArtifact(f"{path} lacks {', '.join(sorted(missing))}")
    if key is not None and record["key"] != key:
        raise DamagedArtifact(f"{path} belongs to another step (key {record['key'][:16]})")
    for name, size in record["files"].items():
        try:
            found = (folder / name).lstat().st_size
        except OSError:
            raise DamagedArtifact(f"{folder / name} is missing") from None
        if found != size:
            raise DamagedArtifact(f"{folder / name} has {found} bytes instead of {size}")
    return dict(record)


@contextmanager
def locked(path: Path, say: Callable[[str], None], step: str) -> Iterator[None]:
    """Holds the lock file `path`; while another process holds it, says which one and waits.

    The system lets go of the lock when its holder ends, however it ends.
    """
    import fcntl

    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+", encoding="utf-8") as file:
        told = False
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if error.errno in _NO_LOCKS:
                    say(
                        f"{path.parent} lies on a disk without locks: do not run step {step!r} twice at once."
                    )
                    break
                if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                    raise
            if not told:
                told = True
                file.seek(0)
                say(_waiting_sentence(step, file.read().strip()))
            time.sleep(_POLL_SECONDS)
        file.seek(0)
        file.truncate()
        file.write(f"{os.getpid()} {platform.node()}\n")
        file.flush()
        yield


def _waiting_sentence(step: str, holder: str) -> str:
    pid, _, host = holder.partition(" ")
    where = f" on {host}" if host and host != platform.node() else ""
    if pid.isdigit() and not where:
        try:
            os.kill(int(pid), 0)
        except ProcessLookupError:
            return (
                f"Step {step!r} was being made by process {pid}, which has ended, but a process it started "
                "still runs and holds the step; waiting for that to end."
            )
        except PermissionError:
            pass
    return f"Step {step!r} is being made by process {pid or 'unknown'}{where}; waiting for it."


def execute(
    step: Step,
    *,
    key: str,
    inputs: Mapping[str, Any],
    forms: Mapping[str, Any],
    final: Path,
    run_metrics: Path | None,
    say: Callable[[str], None],
    quiet: bool,
    live: Live | None = None,
) -> dict[str, Any]:
    """Calls `step` in `<final>.partial`, then renames that folder to `final`; returns its record.

    A step that said it is unfinished leaves its folder where it is; its record says what is missing.

    The caller holds the step's lock and has seen that `final` is not there.

    Raises:
        StepFailed: the function raised; the partial folder is kept and named.
        KeyboardInterrupt: as it came, after one sentence on how to go on.
    """
    partial = partial_folder(final)
    with files.disk_guard(final.parent):
        partial.mkdir(parents=True, exist_ok=True)
    with suppress(OSError):
        (partial / ERROR_FILE).unlink()
    resuming = any(name != ATTEMPT_FILE for name in os.listdir(partial))
    before = _earlier_attempts(partial)
    if resuming:
        say(f"{step.name}: going on where it was stopped ({partial.name})")
    context = StepContext(
        folder=partial, name=step.name, key=key, resuming=resuming, run_metrics=run_metrics, quiet=quiet
    )
    meter = Meter(beat=lambda meter: _note_attempt(partial, before, meter))
    try:
        others = nullcontext() if step.every_rank else alone()
        with meter, live.making(context) if live is not None else nullcontext(), others:
            try:
                facts = step.function(context, **inputs)
            finally:
                context.close()
        facts = _plain_facts(step, facts)
    except KeyboardInterrupt:
        _note_attempt(partial, before, meter)
        say(f"Stopped in step {step.name!r}. What is done is kept: give the same command again to go on.")
        raise
    except Exception as error:
        _note_attempt(partial, before, meter)
        _fail(step, partial, error)
    if not partial.is_dir():
        raise StepFailed(f"Step {step.name!r} removed its own folder {partial}; it must write below it.")
    if context.missing:
        _note_attempt(partial, before, meter)
        return _record(step, key, forms, facts, partial, meter, before) | {"unfinished": context.missing}
    with suppress(OSError):
        (partial / ATTEMPT_FILE).unlink()
    return _finish(step, key, forms, facts, partial, final, meter, before)


def partial_folder(final: Path) -> Path:
    """Where a step is being made."""
    return final.with_name(final.name + ".partial")


def _plain_facts(step: Step, facts: object) -> dict[str, Any]:
    if not isinstance(facts, Mapping):
        raise TypeError(f"a step returns a mapping of facts, not {type(facts).__name__}")
    plain = files.plain(facts)
    return dict(json.loads(json.dumps(plain)))


def _finish(
    step: Step,
    key: str,
    forms: Mapping[str, Any],
    facts: Mapping[str, Any],
    partial: Path,
    final: Path,
    meter: Meter,
    before: Mapping[str, Any],
) -> dict[str, Any]:
    with suppress(OSError):
        (partial / STEP_FILE).unlink()
    record = _record(step, key, forms, facts, partial, meter, before)
    with files.disk_guard(partial):
        files.sync_tree(partial)
        files.write_json(partial / STEP_FILE, record)
        os.rename(partial, final)
    files.sync_folder(final.parent)
    return record


def _record(
    step: Step,
    key: str,
    forms: Mapping[str, Any],
    facts: Mapping[str, Any],
    partial: Path,
    meter: Meter,
    before: Mapping[str, Any],
) -> dict[str, Any]:
    """What `step.json` holds."""
    sizes = files.tree_sizes(partial)
    return {
        "step": step.name,
        "version": step.version,
        "makes": step.makes,
        "function": step.origin,
        "key": key,
        "inputs": forms,
        "facts": facts,
        "seconds": round(before["seconds"] + meter.seconds, 3),
        "cpu_seconds": round(before["cpu_seconds"] + meter.cpu_seconds, 3),
        "attempts": before["attempts"] + 1,
        "peak_memory_bytes": max(before["peak_memory_bytes"], meter.peak_bytes),
        "peak_gpu_memory_bytes": meter.peak_gpu_bytes,
        "disk_bytes": sum(sizes.values()),
        "files": sizes,
        "host": platform.node(),
        "hornbook": __version__,
        "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def set_aside(folder: Path) -> Path:
    """Renames a damaged artifact to `<name>.damaged`, in the place of an older one."""
    aside = folder.with_name(folder.name + ".damaged")
    if aside.exists():
        shutil.rmtree(aside)
    os.rename(folder, aside)
    return aside


def _earlier_attempts(partial: Path) -> dict[str, Any]:
    empty = {"seconds": 0.0, "cpu_seconds": 0.0, "attempts": 0, "peak_memory_bytes": 0}
    try:
        found = json.loads((partial / ATTEMPT_FILE).read_text())
        return {name: type(value)(found[name]) for name, value in empty.items()}
    except (OSError, ValueError, KeyError, TypeError):
        return empty


def _note_attempt(partial: Path, before: Mapping[str, Any], meter: Meter) -> None:
    """So that the time of an attempt that is killed is not lost; never in the way of the work."""
    note = {
        "seconds": before["seconds"] + meter.seconds,
        "cpu_seconds": before["cpu_seconds"] + meter.cpu_seconds,
        "attempts": before["attempts"] + 1,
        "peak_memory_bytes": max(before["peak_memory_bytes"], meter.peak_bytes),
    }
    temporary = partial / (ATTEMPT_FILE + ".tmp")
    with suppress(OSError):
        temporary.write_text(json.dumps(note))
        os.replace(temporary, partial / ATTEMPT_FILE)


def _fail(step: Step, partial: Path, error: Exception) -> NoReturn:
    kept = f"What it had made is kept in {partial}."
    if files.is_disk_full(error):
        assert isinstance(error, OSError)
        raise StepFailed(f"Step {step.name!r}: {files.disk_full_sentence(partial, error)}") from error
    with suppress(OSError):
        (partial / ERROR_FILE).write_text("".join(traceback.format_exception(error)))
    if isinstance(error, HornbookError):
        raise StepFailed(f"Step {step.name!r} failed: {_sentence(str(error))} {kept}") from error
    if is_out_of_memory(error):
        raise StepFailed(
            f"Step {step.name!r} ran out of memory. Choose smaller settings or a smaller scale. {kept}"
        ) from error
    reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    raise StepFailed(
        f"Step {step.name!r} failed: {_sentence(reason)} {kept} The traceback is in {ERROR_FILE} there."
    ) from error


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else text + "."
