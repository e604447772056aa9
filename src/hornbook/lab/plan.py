"""What a run would do, take and need, before it does anything."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hornbook.lab.files import free_bytes, human_bytes, human_seconds
from hornbook.lab.machine import memory_available
from hornbook.lab.step import Estimate


@dataclass(frozen=True, kw_only=True)
class PlannedStep:
    """One step of a plan.

    Attributes:
        name: the step's name.
        key: its key.
        cached: it is finished already and will not run.
        begun: an interrupted attempt is kept and will go on.
        estimate: what it will take; None when it gives no estimate.
        inputs: its inputs, each in a few characters, to tell steps of one name apart.
    """

    name: str
    key: str
    cached: bool
    begun: bool = False
    estimate: Estimate | None = None
    inputs: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The steps in order, with totals and a check against this machine.

    Attributes:
        steps: in the order the recipe calls them.
        ended_at: the unfinished step whose facts the recipe asks for next; later steps are not known
            yet. None when the plan is complete.
        memory_free: bytes available now.
        disk_free: bytes free where the run writes.
        home: the folder the run writes below.
    """

    steps: tuple[PlannedStep, ...]
    ended_at: str | None
    memory_free: int
    disk_free: int
    home: Path

    @property
    def todo(self) -> list[PlannedStep]:
        """The steps that will run."""
        return [step for step in self.steps if not step.cached]

    @property
    def seconds(self) -> float:
        """Of all steps that will run and give an estimate."""
        return sum(step.estimate.seconds for step in self.todo if step.estimate)

    @property
    def memory_bytes(self) -> float:
        """The largest of the steps that will run (they run one after another)."""
        return max((step.estimate.memory_bytes for step in self.todo if step.estimate), default=0.0)

    @property
    def disk_bytes(self) -> float:
        """Of all steps that will run and give an estimate."""
        return sum(step.estimate.disk_bytes for step in self.todo if step.estimate)

    def problems(self) -> list[str]:
        """One sentence for each thing that will not fit."""
        free = human_bytes(self.memory_free)
        found = [
            f"Step {step.name!r} will not fit in memory: it needs {human_bytes(step.estimate.memory_bytes)}, "
            f"this machine has {free} available. Choose a smaller scale or smaller settings."
            for step in self.todo
            if step.estimate and step.estimate.memory_bytes > self.memory_free
        ]
        if self.disk_bytes > self.disk_free:
            found.append(
                f"The run will not fit on disk: it needs {human_bytes(self.disk_bytes)}, {self.home} has "
                f"{human_bytes(self.disk_free)} free. Free some space or choose another folder."
            )
        return found

    def rows(self) -> list[list[str]]:
        """Cells of the table: step, state, time, memory, disk."""
        rows = []
        for step, name in zip(self.steps, self._names()):
            if step.cached:
                rows.append([name, "done", "0 s", "", ""])
                continue
            state = "begun" if step.begun else "to do"
            if step.estimate is None:
                rows.append([name, state, "?", "?", "?"])
            else:
                rows.append([name, state, *_cells(step.estimate)])
        return rows

    def _names(self) -> list[str]:
        """Names of the steps; where several are alike, with the input that tells most of them apart."""
        alike: dict[str, list[PlannedStep]] = {}
        for step in self.steps:
            alike.setdefault(step.name, []).append(step)
        telling = {}
        for name, steps in alike.items():
            kinds = {key: len({step.inputs.get(key) for step in steps}) for key in steps[0].inputs}
            if len(steps) > 1 and kinds and max(kinds.values()) > 1:
                telling[name] = max(kinds, key=lambda key: kinds[key])
        return [
            f"{step.name} ({step.inputs.get(telling[step.name], '')})" if step.name in telling else step.name
            for step in self.steps
        ]

    def render(self) -> str:
        """A plain text table with totals and the check against this machine."""
        head = ["step", "state", "time", "memory", "disk"]
        total = Estimate(seconds=self.seconds, memory_bytes=self.memory_bytes, disk_bytes=self.disk_bytes)
        unknown = sum(step.estimate is None for step in self.todo)
        foot = ["total", f"{len(self.todo)} of {len(self.steps)} to do", *_cells(total)]
        table = [head, *self.rows(), foot]
        widths = [max(len(row[i]) for row in table) for i in range(len(head))]
        lines = []
        for row in table:
            cells = [
                cell.ljust(width) if i < 2 else cell.rjust(width)
                for i, (cell, width) in enumerate(zip(row, widths))
            ]
            lines.append("  ".join(cells).rstrip())
        rule = "-" * max(map(len, lines))
        lines = [lines[0], rule, *lines[1:-1], rule, lines[-1]]
        if unknown:
            lines.append(f"{unknown} step{'s' * (unknown > 1)} without an estimate: not in the totals.")
        if self.ended_at is not None:
            lines.append(
                f"What comes after depends on what step {self.ended_at!r} finds; it is planned after it."
            )
        lines.append(
            f"This machine: {human_bytes(self.memory_free)} of memory available, "
            f"{human_bytes(self.disk_free)} free on disk."
        )
        return "\n".join(lines + self.problems())

    def to_json(self) -> dict[str, Any]:
        """Everything, for machines."""
        return {
            "steps": [asdict(step) for step in self.steps],
            "ended_at": self.ended_at,
            "seconds": self.seconds,
            "memory_bytes": self.memory_bytes,
            "disk_bytes": self.disk_bytes,
            "memory_free": self.memory_free,
            "disk_free": self.disk_free,
            "problems": self.problems(),
        }


def _cells(estimate: Estimate) -> list[str]:
    return [
        human_seconds(estimate.seconds),
        human_bytes(estimate.memory_bytes) if estimate.memory_bytes else "",
        human_bytes(estimate.disk_bytes) if estimate.disk_bytes else "",
    ]


def make_plan(
    steps: list[PlannedStep], ended_at: str | None, home: Path, memory: Callable[[], int] = memory_available
) -> Plan:
    """A plan held against the memory and disk of this machine as they are now."""
    return Plan(
        steps=tuple(steps), ended_at=ended_at, memory_free=memory(), disk_free=free_bytes(home), home=home
    )
