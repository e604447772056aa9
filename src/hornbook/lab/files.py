"""Files that are whole or not there, and hashes of values and of what lies on disk."""

import dataclasses
import enum
import errno
import hashlib
import json
import math
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from hornbook.errors import HornbookError

_FULL = (errno.ENOSPC, errno.EDQUOT)
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def human_bytes(count: float) -> str:
    """`1536` -> "1.5 KiB": binary units, three significant digits at most."""
    size, unit = float(count), 0
    while abs(size) >= 1023.5 and unit < len(_UNITS) - 1:
        size, unit = size / 1024, unit + 1
    return f"{size:.0f} {_UNITS[unit]}" if unit == 0 or abs(size) >= 99.5 else f"{size:.1f} {_UNITS[unit]}"


def human_seconds(seconds: float) -> str:
    """`75` -> "1 min 15 s"; below ten seconds with one decimal."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    total = round(seconds)
    if total < 60:
        return f"{total} s"
    if total < 3600:
        return f"{total // 60} min {total % 60:02d} s"
    hours, minutes = divmod(round(total / 60), 60)
    return f"{hours} h {minutes:02d} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


def existing_parent(path: Path) -> Path:
    """The nearest folder at or above `path` that exists: where its bytes would land."""
    path = path.absolute()
    while not path.exists() and path != path.parent:
        path = path.parent
    return path


def free_bytes(path: Path) -> int:
    """Bytes an ordinary user may still write where `path` is or would be."""
    return shutil.disk_usage(existing_parent(path)).free


@contextmanager
def disk_guard(folder: Path) -> Iterator[None]:
    """Turns "no space left on device" inside the block into a sentence a user can act on.

    Raises:
        HornbookError: naming the folder, the free space and what to do.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise HornbookError(disk_full_sentence(folder, error)) from error


def disk_full_sentence(folder: Path, error: OSError) -> str:
    """What to tell the user when a write under `folder` met a full disk or a spent quota."""
    reason = "The disk quota is spent" if error.errno == errno.EDQUOT else "The disk is full"
    try:
        free = human_bytes(free_bytes(folder))
    except OSError:
        free = "an unknown amount"
    return (
        f"{reason}: could not write below {folder} ({free} free there). Free some space, or choose another "
        "folder, and give the same command again; nothing finished is lost."
    )


def is_disk_full(error: BaseException) -> bool:
    """Whether `error` says that the disk is full or the quota spent."""
    return isinstance(error, OSError) and error.errno in _FULL


def sync_folder(folder: Path) -> None:
    """Makes renames and new names inside `folder` survive a power cut (where the system allows it)."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def write_atomic(path: Path, data: bytes | str) -> None:
    """Writes `data` (text as UTF-8) to `path`: a reader sees the old file or the whole new one.

    A temporary name in the same folder, fsync, rename, fsync of the folder. Missing folders are made.

    Raises:
        HornbookError: when the disk is full; the old file is still there.
    """
    path = Path(path)
    content = data.encode() if isinstance(data, str) else data
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    with disk_guard(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(temporary, "xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise
    sync_folder(path.parent)


def write_json(path: Path, value: object, *, indent: int | None = 2) -> None:
    """`write_atomic` of `plain(value)` as JSON."""
    write_atomic(path, json.dumps(plain(value), indent=indent, ensure_ascii=False, allow_nan=False) + "\n")


def sync_tree(folder: Path) -> None:
    """Flushes every file below `folder`, then the folders, to the disk."""
    for directory, _, names in os.walk(folder):
        for name in names:
            path = Path(directory, name)
            if path.is_symlink() or not path.is_file():
                continue
            with open(path, "rb") as file:
                os.fsync(file.fileno())
        sync_folder(Path(directory))


def tree_sizes(folder: Path) -> dict[str, int]:
    """Bytes of every file below `folder`, by its path relative to it, in sorted order."""
    sizes = {}
    for directory, _, names in os.walk(folder):
        for name in names:
            path = Path(directory, name)
            sizes[path.relative_to(folder).as_posix()] = path.lstat().st_size
    return dict(sorted(sizes.items()))


def sha256_file(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_path(path: Path) -> str:
    """SHA-256 of a file's bytes, or of a folder: its files' relative names and bytes, in sorted order."""
    if not path.is_dir():
        return sha256_file(path)
    names = sorted(
        Path(directory, name).relative_to(path).as_posix()
        for directory, _, names in os.walk(path)
        for name in names
    )
    return sha256_of([[name, sha256_file(path / name)] for name in names])


def sha256_of(value: object) -> str:
    """SHA-256 of `canonical_json(value)`: equal for equal values whatever the process or key order."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def canonical_json(value: object, special: Callable[[Any], object] | None = None) -> str:
    """One text for one value: keys sorted, no spaces, ASCII; NaN and infinities keep their names.

    `special` may replace a value before it is looked at (return it unchanged to leave it).
    """
    tree = plain(value, special=special, finite=False)
    return json.dumps(tree, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def plain(value: Any, *, special: Callable[[Any], object] | None = None, finite: bool = True) -> Any:
    """`value` as JSON can hold it.

    Dataclasses and mappings become objects (integer keys become strings), sequences and numpy arrays
    lists, sets sorted lists, numpy scalars numbers, enums their values, paths strings. With `finite`,
    NaN and infinities become null, since JSON has no word for them.

    Raises:
        TypeError: for anything else, naming its type and place.
    """
    return _plain(value, special, finite, "value")


def _plain(value: Any, special: Callable[[Any], object] | None, finite: bool, where: str) -> Any:
    if special is not None:
        value = special(value)
    if value is None or isinstance(value, bool | str):
        return value.value if isinstance(value, enum.Enum) else value
    if isinstance(value, enum.Enum):
        return _plain(value.value, special, finite, where)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return None if finite and not math.isfinite(value) else float(value)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        tree: dict[str, Any] = {}
        for key, item in value.items():
            name = key.value if isinstance(key, enum.Enum) else key
            if isinstance(name, bool) or not isinstance(name, str | int):
                raise TypeError(f"{where}: a key must be text or an integer, not {key!r}")
            if str(name) in tree:
                raise TypeError(f"{where}: the keys {name!r} and {str(name)!r} would become one in JSON")
            tree[str(name)] = _plain(item, special, finite, f"{where}[{name!r}]")
        return tree
    if isinstance(value, Set):
        return sorted(
            (_plain(item, special, finite, f"{where}{{}}") for item in value),
            key=lambda item: json.dumps(item, sort_keys=True),
        )
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray | memoryview):
        return [_plain(item, special, finite, f"{where}[{i}]") for i, item in enumerate(value)]
    if hasattr(value, "tolist") and hasattr(value, "dtype"):  # numpy arrays and scalars, CPU tensors
        return _plain(value.tolist(), special, finite, where)
    raise TypeError(f"{where}: a {type(value).__module__}.{type(value).__qualname__} has no JSON form")
