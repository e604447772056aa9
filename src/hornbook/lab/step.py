"""A step: a function from inputs to one artifact, with a key that says what went in."""

import functools
import inspect
import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from hornbook.errors import HornbookError
from hornbook.lab.files import canonical_json, disk_guard, plain, sha256_of, sha256_path
from hornbook.lab.progress import NullProgress, Progress, say

STEP_FILE = "step.json"
METRICS_FILE = "metrics.jsonl"
_NAME = re.compile(r"[a-z0-9][a-z0-9-]*")


class PlanEnds(BaseException):
    """A plan met a fact that only running the step can tell. Recipes do not catch it: no `Exception`."""

    def __init__(self, step: str) -> None:
        super().__init__(step)
        self.step = step


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What a step will probably take, before it runs."""

    seconds: float
    memory_bytes: float = 0
    disk_bytes: float = 0


class Artifact:
    """What a finished step made: a folder, its key, and the facts the step returned.

    Attributes:
        path: the folder. `artifact / "file"` is a path below it.
        key: SHA-256 (hexadecimal) of step name, version and inputs.
        step: the step's name.
        inputs: the step's inputs as they went into the key.
        finished: False only while planning, for what is not made yet.
        record: the whole of `step.json` (seconds, peak memory, host, time, files, ...).
    """

    def __init__(
        self, *, path: Path, key: str, step: str, inputs: Mapping[str, Any], record: Mapping[str, Any] | None
    ) -> None:
        self.path, self.key, self.step, self.inputs = path, key, step, inputs
        self.finished = record is not None
        self.record: Mapping[str, Any] = record or {}

    @property
    def facts(self) -> Mapping[str, Any]:
        """The mapping the step returned, as JSON gives it back. Ends the plan of an unfinished step."""
        if not self.finished:
            raise PlanEnds(self.step)
        facts: Mapping[str, Any] = self.record["facts"]
        return facts

    @property
    def unfinished(self) -> tuple[str, ...]:
        """What the step said is missing; such an artifact is made anew, from where it stands, next time."""
        return tuple(self.record.get("unfinished", ()))

    @property
    def seconds(self) -> float:
        """Wall-clock seconds it took to make, all attempts together."""
        return float(self.record.get("seconds", 0.0))

    def metrics(self, over: str = "step") -> list[dict[str, Any]]:
        """The lines that `ctx.log` wrote, oldest first.

        After an interruption a step may log the same stretch again; of lines with the same value of
        `over` the last one counts. Lines without that field are all kept.
        """
        if not self.finished:
            raise PlanEnds(self.step)
        return read_metrics(self.path / METRICS_FILE, over)

    def __truediv__(self, name: str | Path) -> Path:
        return self.path / name

    def __repr__(self) -> str:
        return f"Artifact({self.step} {self.key[:16]}{'' if self.finished else ', not made yet'})"


def read_metrics(path: Path, over: str = "step") -> list[dict[str, Any]]:
    """Lines of a `metrics.jsonl`; a line torn by a crash is left out (see `Artifact.metrics`)."""
    lines: dict[object, dict[str, Any]] = {}
    try:
        text = path.read_text()
    except FileNotFoundError:
        return []
    for number, line in enumerate(text.splitlines()):
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        place = entry.get(over)
        name = (number,) if place is None else (place, tuple(sorted(entry)))
        lines.pop(name, None)
        lines[name] = entry
    return list(lines.values())


class StepContext:
    """What a running step is given.

    Attributes:
        folder: the only place the step writes to; the same folder after an interruption.
        name: the step's name.
        key: the key of the artifact being made.
        resuming: whether an earlier attempt left something in `folder`.
        missing: what `unfinished` was told.
    """

    def __init__(
        self, *, folder: Path, name: str, key: str, resuming: bool, run_metrics: Path | None, quiet: bool
    ) -> None:
        self.folder, self.name, self.key, self.resuming = folder, name, key, resuming
        self.missing: list[str] = []
        self._run_metrics, self._quiet = run_metrics, quiet
        self._open: list[Progress] = []

    def progress(
        self, total: float | None = None, unit: str = "", label: str = "", *, done: float = 0
    ) -> Progress:
        """A line that shows `done` of `total` units, rate and time left; the step's end closes it."""
        label = f"{self.name}: {label}" if label else self.name
        kind = NullProgress if self._quiet else Progress
        progress = kind(total, unit, label, done=done)
        self._open.append(progress)
        return progress

    def log(self, **numbers: object) -> None:
        """One line of `metrics.jsonl`, in the artifact and in the run: `ctx.log(step=10, loss=2.3)`."""
        entry = {"time": round(time.time(), 3), **plain(numbers)}
        if self._run_metrics is None:  # a rank above 0: rank 0 keeps the lines
            return
        with disk_guard(self.folder):
            _append(self.folder / METRICS_FILE, entry)
            _append(self._run_metrics, {"made_by": self.name, **entry})

    def say(self, sentence: str) -> None:
        """Tells the user one thing, with the step's name before it."""
        if not self._quiet:
            say(f"{self.name}: {sentence}")

    def progress_now(self) -> list[dict[str, Any]]:
        """Every progress of this step as plain data: label, done, total, unit, rate, eta_seconds, numbers."""
        return [
            {
                "label": progress.label,
                "done": progress.done,
                "total": progress.total,
                "unit": progress.unit,
                "rate": progress.rate,
                "eta_seconds": progress.eta_seconds,
                "numbers": dict(progress.numbers),
            }
            for progress in tuple(self._open)
        ]

    def unfinished(self, sentence: str) -> None:
        """Says that something is missing in what the step returns (an endpoint that failed for some items).

        The run goes on with the rest and ends with status 1; the folder stays where it is being made, so that
        the same command goes on from what is there instead of taking it for done.
        """
        self.missing.append(sentence)

    def close(self) -> None:
        """Ends every progress line still open."""
        while self._open:
            self._open.pop().close()


def _append(path: Path, entry: Mapping[str, Any]) -> None:
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(entry, ensure_ascii=False) + "\n")


StepFunction = Callable[..., Mapping[str, Any]]
Function = TypeVar("Function", bound=StepFunction)


class Step:
    """A function with a name, a version and maybe an estimate; made by `@step`, called like the function."""

    def __init__(
        self,
        function: StepFunction,
        *,
        version: str,
        makes: str,
        estimate: Callable[..., Estimate] | None,
        name: str | None,
        every_rank: bool,
    ) -> None:
        functools.update_wrapper(self, function)
        self.function, self.version, self.makes, self.estimate = function, version, makes, estimate
        self.every_rank = every_rank
        self.name = name or function.__name__.strip("_").replace("_", "-").lower()
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"a step's name is small letters, digits and hyphens, not {self.name!r}")
        parameters = list(inspect.signature(function).parameters.values())
        if not parameters or any(
            parameter.kind is not inspect.Parameter.KEYWORD_ONLY for parameter in parameters[1:]
        ):
            raise TypeError(
                f"step {self.name!r}: write it as def {function.__name__}(ctx, *, ...named inputs)"
            )
        self._signature = inspect.Signature(parameters[1:])

    def __call__(self, ctx: StepContext, **inputs: Any) -> Mapping[str, Any]:
        return self.function(ctx, **inputs)

    @property
    def origin(self) -> str:
        """Module and name of the function."""
        return f"{self.function.__module__}.{self.function.__qualname__}"

    def bind(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """All inputs by name, defaults filled in.

        Raises:
            TypeError: an input is missing or unknown.
        """
        try:
            bound = self._signature.bind(**inputs)
        except TypeError as error:
            raise TypeError(f"step {self.name!r}: {error}") from None
        bound.apply_defaults()
        return dict(bound.arguments)

    def input_forms(self, inputs: Mapping[str, Any], steps_folder: Path | None = None) -> dict[str, Any]:
        """Bound inputs as they go into the key.

        An `Artifact` counts by its key; a `Path` below an artifact by the artifact and its place there;
        another `Path` by its content (and a file's suffix, which says how to read it); an object with an
        `identity` text (a language model) by that; everything else by its canonical JSON.

        Raises:
            HornbookError: a path that does not exist, naming the step and the input.
            TypeError: a value that has no JSON form, naming the step and the input.
        """
        forms = {}
        for name, value in inputs.items():
            special = functools.partial(_special, steps_folder, f"step {self.name!r}, input {name!r}")
            try:
                forms[name] = json.loads(canonical_json(value, special))
            except TypeError as error:
                raise TypeError(f"step {self.name!r}, input {name!r}: {error}") from None
        return forms

    def key(self, forms: Mapping[str, Any]) -> str:
        """SHA-256 of {step name, version, inputs}."""
        return sha256_of({"step": self.name, "version": self.version, "inputs": forms})


def _special(steps_folder: Path | None, where: str, value: Any) -> object:
    if isinstance(value, Artifact):
        return {"$artifact": f"{value.step}-{value.key}"}
    if isinstance(value, Path):
        path = value.absolute()
        if steps_folder is not None and path.is_relative_to(steps_folder):
            return {"$below": path.relative_to(steps_folder).as_posix()}
        if not path.exists():
            raise HornbookError(f"{where}: there is no file or folder {value}. Check the path.")
        return {"$content": sha256_path(path), "suffix": "" if path.is_dir() else path.suffix}
    if not isinstance(value, str | int | float | Mapping | type) and isinstance(
        identity := getattr(value, "identity", None), str
    ):
        return {"$identity": identity}
    return value


def artifact_references(forms: object) -> Iterator[str]:
    """Folder names (`<step>-<key16>`) of the artifacts that a step's input forms mention."""
    if isinstance(forms, Mapping):
        if isinstance(name := forms.get("$artifact"), str):
            step, _, key = name.rpartition("-")
            yield f"{step}-{key[:16]}"
        elif isinstance(name := forms.get("$below"), str):
            yield name.split("/", 1)[0]
        else:
            for item in forms.values():
                yield from artifact_references(item)
    elif isinstance(forms, list):
        for item in forms:
            yield from artifact_references(item)


def step(
    version: str = "1",
    makes: str = "table",
    estimate: Callable[..., Estimate] | None = None,
    *,
    name: str | None = None,
    every_rank: bool = False,
) -> Callable[[StepFunction], Step]:
    """Makes a step of a function `fn(ctx: StepContext, *, ...inputs) -> mapping of facts`.

    The function writes only below `ctx.folder`; what lies there after an interruption is still there
    when it is called again. Numbers in the facts that are not finite become null.

    Args:
        version: change it when the function's result changes; it is part of the key.
        makes: the kind of artifact: "corpus", "checkpoint", "tokens", "table", ...
        estimate: called with the same inputs; what the step will take.
        name: the function's name with hyphens, unless given.
        every_rank: under torchrun every rank calls the function (otherwise rank 0 alone does, and the
            others wait for the artifact).
    """

    def wrap(function: StepFunction) -> Step:
        return Step(
            function, version=version, makes=makes, estimate=estimate, name=name, every_rank=every_rank
        )

    return wrap
