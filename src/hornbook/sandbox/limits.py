"""What a program may use, and what came of it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from hornbook.errors import HornbookError

Status: TypeAlias = Literal["ok", "error", "cpu_limit", "wall_limit", "memory", "refused"]
_MET: Mapping[Status, str] = {
    "error": "it failed and did not say why",
    "cpu_limit": "it ran until its processor time was used up: does it ever end?",
    "wall_limit": "it did not end in its time: what does it wait for?",
    "memory": "it wanted more memory than it may have",
    "refused": "it was stopped for something that it may not do",
}

KIB = 1024
MIB = 1024 * KIB


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Limits of one program.

    `cpu_seconds` decides: a verdict must not depend on how busy the machine is.
    `wall_seconds` is only there for programs that sleep. `memory_bytes` bounds
    the address space, interpreter included. `output_bytes` bounds each of
    stdout, stderr and the value; what is printed beyond it is dropped and the
    program goes on. `disk_bytes` bounds the private folder. A program is one
    process (threads are allowed): it cannot fork or execute another.
    """

    cpu_seconds: float = 2.0
    wall_seconds: float = 20.0
    memory_bytes: int = 512 * MIB
    output_bytes: int = 64 * KIB
    disk_bytes: int = 16 * MIB

    def __post_init__(self) -> None:
        least = {
            "cpu_seconds": 0.01,
            "wall_seconds": 0.05,
            "memory_bytes": 64 * MIB,
            "output_bytes": 0,
            "disk_bytes": 0,
        }
        for name, minimum in least.items():
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= minimum):
                raise HornbookError(
                    f"Limits.{name} is {value!r}; accepted is a finite number of at least {minimum}."
                )

    def as_json(self) -> dict[str, float | int]:
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """A program, and with `entry` the function of it to call with `args` (JSON values)."""

    source: str
    entry: str | None = None
    args: tuple[Any, ...] = ()
    stdin: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What came of a program.

    `status`: "ok"; "error" (it raised, exited or crashed; `stderr` says how);
    "cpu_limit"; "wall_limit"; "memory"; "refused" (stopped for something not
    allowed, such as filling the disk or attacking its keeper).

    `value` is what `entry` returned. `value_kind` is "json" (a faithful JSON
    value; tuples become lists), "repr" (anything else, as its `repr`) or "none"
    (no entry, or no return). `cut`: output beyond `output_bytes` was dropped.
    """

    status: Status
    value: Any = None
    value_kind: Literal["json", "repr", "none"] = "none"
    stdout: str = ""
    stderr: str = ""
    cpu_seconds: float = 0.0
    cut: bool = False

    @property
    def ok(self) -> bool:
        return self.status == "ok"

    @property
    def sentence(self) -> str:
        """What went wrong, in one line: the program's own last word, or the limit it met."""
        said = self.stderr.strip().splitlines()[-1:]
        return "" if self.ok else said[0][:200] if said else _MET[self.status]
