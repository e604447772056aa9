"""A run: steps that are never computed twice, metrics, claims and one report."""

import datetime
import json
import os
import platform
import shutil
import subprocess
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hornbook
from hornbook.errors import HornbookError
from hornbook.lab import files
from hornbook.lab.claim import Claim
from hornbook.lab.execute import DamagedArtifact, execute, locked, partial_folder, read_record, set_aside
from hornbook.lab.history import CLAIMS_FILE, RUN_FILE
from hornbook.lab.live import Live
from hornbook.lab.plan import Plan, PlannedStep, make_plan
from hornbook.lab.progress import say
from hornbook.lab.ranks import rank, wait_for_rank_0
from hornbook.lab.step import METRICS_FILE, Artifact, Estimate, PlanEnds, Step

if TYPE_CHECKING:
    from hornbook.lab.report import Report

UNJUDGED_SCALES = ("smoke",)


@dataclass(frozen=True, kw_only=True)
class DoneStep:
    """A step of this run and whether it was there already."""

    artifact: Artifact
    cached: bool
    makes: str


class Run:
    """One execution of a recipe at one scale.

    Args:
        home: the folder of all runs; steps are shared below `home/steps`.
        recipe: the recipe's name.
        scale: "smoke", "quick", "gpu" or "paper"; claims are never judged at "smoke".
        settings: the resolved settings (a dataclass), kept in `run.json`.
        planning: execute nothing, write nothing; see `plan`.
        quiet: no progress and no sentences.

    Attributes:
        report: the `Report` that the recipe fills and `finish` writes.
        folder: `home/<recipe>-<scale>`.
        unfinished: what steps said is missing in what they made; empty for a run that is whole.
    """

    def __init__(
        self,
        home: Path,
        *,
        recipe: str,
        scale: str,
        settings: object,
        planning: bool = False,
        quiet: bool = False,
    ) -> None:
        for what, name in (("recipe", recipe), ("scale", scale)):
            if not name or name != Path(name).name or name.startswith("."):
                raise HornbookError(f"The {what} name {name!r} cannot be a folder's name.")
        self.home = Path(home).absolute()
        self.recipe, self.scale, self.settings = recipe, scale, settings
        self.planning, self.quiet = planning, quiet or rank() > 0
        self.folder = self.home / f"{recipe}-{scale}"
        self.steps_folder = self.home / "steps"
        self.steps: list[DoneStep] = []
        self.claims: list[Claim] = []
        self.unfinished: list[str] = []
        self._outputs: dict[str, Path] = {}
        self._planned: list[PlannedStep] = []
        self._origins: dict[str, str] = {}
        self._report: Report | None = None
        self._started = datetime.datetime.now(datetime.UTC)
        self._live: Live | None = None
        if not planning and rank() == 0:
            self._make_folders()
            self._live = Live(self.folder)

    def _make_folders(self) -> None:
        try:
            with files.disk_guard(self.home):
                self.folder.mkdir(parents=True, exist_ok=True)
                self.steps_folder.mkdir(parents=True, exist_ok=True)
                (self.folder / METRICS_FILE).write_text("")
        except OSError as error:
            raise HornbookError(
                f"The folder of runs {self.home} cannot be written ({error.strerror or error}). "
                "Choose another folder or change its permissions."
            ) from error

    @property
    def report(self) -> "Report":
        """The report this run's recipe fills."""
        if self._report is None:
            from hornbook.lab.report import Report

            self._report = Report(self.recipe)
        return self._report

    def say(self, sentence: str) -> None:
        """Tells the user one thing (nothing while planning or quiet)."""
        if not self.quiet and not self.planning:
            say(sentence)

    def step(self, step: Step, /, **inputs: Any) -> Artifact:
        """The artifact of `step` on `inputs`: kept from before, or made now.

        Raises:
            StepFailed: the step raised; the message names it and the folder that is kept.
            ValueError: an input is unfinished. What is made of a part would be taken for made of the whole.
        """
        if not isinstance(step, Step):
            raise TypeError(f"run.step takes a function decorated with @step, not {step!r}")
        if self._origins.setdefault(step.name, step.origin) != step.origin:
            raise ValueError(
                f"two steps are named {step.name!r}: {self._origins[step.name]} and {step.origin}; "
                "give one of them another name (@step(name=...))"
            )
        bound = step.bind(inputs)
        for name, value in bound.items():
            if isinstance(value, Artifact) and value.unfinished:
                raise ValueError(
                    f"step {step.name!r}: its input {name!r} is unfinished: {value.unfinished[0]}"
                )
        forms = step.input_forms(bound, self.steps_folder)
        key = step.key(forms)
        final = self.steps_folder / f"{step.name}-{key[:16]}"
        if self.planning:
            return self._plan_step(step, key, bound, forms, final)
        if rank() > 0:
            return self._follow(step, key, bound, forms, final)
        record = _sound_record(final, key)
        cached = record is not None
        if record is None:
            with locked(self.steps_folder / ".locks" / final.name, self.say, step.name):
                record = self._finished(final, key)  # another process may have made it meanwhile
                cached = record is not None
                if record is None:
                    record = self._make(step, key, bound, forms, final)
        if cached:
            self.say(f"{step.name}: done before (saves {files.human_seconds(record.get('seconds', 0))})")
        where = partial_folder(final) if record.get("unfinished") else final
        artifact = Artifact(path=where, key=key, step=step.name, inputs=forms, record=record)
        self.unfinished += [f"{step.name}: {sentence}" for sentence in artifact.unfinished]
        self.steps.append(DoneStep(artifact=artifact, cached=cached, makes=step.makes))
        if self._live is not None:
            self._live.done(name=step.name, key=key, seconds=artifact.seconds, cached=cached)
        return artifact

    def _make(
        self, step: Step, key: str, bound: Mapping[str, Any], forms: Mapping[str, Any], final: Path
    ) -> dict[str, Any]:
        record = execute(
            step,
            key=key,
            inputs=bound,
            forms=forms,
            final=final,
            run_metrics=self.folder / METRICS_FILE,
            say=self.say,
            quiet=self.quiet,
            live=self._live,
        )
        ended = "ended unfinished" if record.get("unfinished") else "finished"
        self.say(
            f"{step.name}: {ended} in {files.human_seconds(record['seconds'])}, peak memory "
            f"{files.human_bytes(record['peak_memory_bytes'])}, on disk "
            f"{files.human_bytes(record['disk_bytes'])}"
        )
        return record

    def _finished(self, final: Path, key: str) -> dict[str, Any] | None:
        """The record of a finished step; a damaged one is named, set aside and counts as not there.

        The caller holds the step's lock: nobody else sets it aside, or makes it anew, meanwhile.
        """
        try:
            return read_record(final, key)
        except DamagedArtifact as error:
            aside = set_aside(final)
            self.say(f"A finished step is damaged: {error}. It is kept as {aside.name} and made again.")
            return None

    def _follow(
        self, step: Step, key: str, bound: Mapping[str, Any], forms: Mapping[str, Any], final: Path
    ) -> Artifact:
        """What ranks above 0 do: take part if the step asks for every rank, then wait for rank 0."""
        record = wait_for_rank_0(step, key, bound, final)
        artifact = Artifact(path=final, key=key, step=step.name, inputs=forms, record=record)
        self.steps.append(DoneStep(artifact=artifact, cached=True, makes=step.makes))
        return artifact

    def claim(self, claim: Claim) -> None:
        """Adds a claim; at scale "smoke" it is never judged.

        Raises:
            ValueError: a claim of that id is there already.
        """
        if any(other.id == claim.id for other in self.claims):
            raise ValueError(f"two claims have the id {claim.id!r}")
        if self.scale in UNJUDGED_SCALES and claim.judged:
            why = f"Scale {self.scale!r} checks the plumbing only. {claim.why}".strip()
            claim = replace(claim, holds=None, noise=False, why=why)
        self.claims.append(claim)

    def output(self, **paths: Artifact | Path) -> None:
        """Names what this run offers to other commands, such as `model=artifact / "student"`."""
        for name, path in paths.items():
            self._outputs[name] = path.path if isinstance(path, Artifact) else Path(path).absolute()

    @property
    def outputs(self) -> Mapping[str, Path]:
        """What `output` has named so far."""
        return dict(self._outputs)

    def plan(self, recipe: Callable[["Run", Any], object], settings: object = None) -> Plan:
        """What `recipe` would do; the run must have been made with `planning=True`.

        The plan ends where the recipe needs a fact, or a file, of a step that is not finished.
        """
        if not self.planning:
            raise ValueError("plan() needs Run(..., planning=True)")
        ended_at: str | None = None
        try:
            recipe(self, self.settings if settings is None else settings)
        except PlanEnds as end:
            ended_at = end.step
        except Exception as error:
            ended_at = self._unfinished_in(error)
            if ended_at is None:
                raise
        return make_plan(self._planned, ended_at, self.home)

    def _unfinished_in(self, error: Exception) -> str | None:
        """The planned step whose missing folder `error` is about, if it is about one."""
        for planned in self._planned:
            if not planned.cached and f"{planned.name}-{planned.key[:16]}" in str(error):
                return planned.name
        return None

    def _plan_step(
        self, step: Step, key: str, bound: Mapping[str, Any], forms: Mapping[str, Any], final: Path
    ) -> Artifact:
        record = _sound_record(final, key)
        estimate: Estimate | None = None
        if record is None and step.estimate is not None:
            try:
                estimate = step.estimate(**bound)
            except (PlanEnds, FileNotFoundError):  # it may need facts or files that are not there yet
                estimate = None
            except HornbookError as error:
                if self._unfinished_in(error) is None:
                    raise
        self._planned.append(
            PlannedStep(
                name=step.name,
                key=key,
                cached=record is not None,
                begun=partial_folder(final).is_dir(),
                estimate=estimate,
                inputs={name: _in_short(name, value) for name, value in bound.items()},
            )
        )
        return Artifact(path=final, key=key, step=step.name, inputs=forms, record=record)

    def finish(self) -> Path | None:
        """Writes `claims.json`, `report.json`, `report.html` and `run.json`; returns the report's path.

        While planning, and on ranks above 0, nothing is written and None is returned.
        """
        if self.planning or rank() > 0:
            return None
        from hornbook.lab.appendix import complete_report

        finished = datetime.datetime.now(datetime.UTC)
        data = self._record(finished)
        self._write_metrics()
        stamp = {"recipe": self.recipe, "scale": self.scale, "finished": data["finished"]}
        files.write_json(
            self.folder / CLAIMS_FILE, {**stamp, "claims": [claim.to_json() for claim in self.claims]}
        )
        path = complete_report(self.report, self.claims, data).write(self.folder)
        files.write_json(self.folder / RUN_FILE, data)  # last: a run with this file is whole
        if self._live is not None:
            self._live.finish()
        self.say(f"Report: {path}")
        return path

    def _record(self, finished: datetime.datetime) -> dict[str, Any]:
        from hornbook.lab.machine import machine_facts

        return {
            "recipe": self.recipe,
            "scale": self.scale,
            "settings": files.plain(self.settings),
            "started": self._started.isoformat(timespec="seconds"),
            "finished": finished.isoformat(timespec="milliseconds"),
            "seconds": round((finished - self._started).total_seconds(), 3),
            "unfinished": list(self.unfinished),
            "steps": [_step_entry(done) for done in self.steps],
            "outputs": {
                name: os.path.relpath(path, self.folder) for name, path in sorted(self._outputs.items())
            },
            "machine": machine_facts(self.home).to_json(),
            "host": platform.node(),
            "versions": _versions(),
            "commit": _commit(),
        }

    def _write_metrics(self) -> None:
        """All lines of all steps, in order, those of steps finished before included."""
        lines = [
            json.dumps({"made_by": done.artifact.step, **line}, ensure_ascii=False)
            for done in self.steps
            for line in done.artifact.metrics()
        ]
        files.write_atomic(self.folder / METRICS_FILE, "".join(line + "\n" for line in lines))


def _sound_record(final: Path, key: str) -> dict[str, Any] | None:
    """The record of a finished step; None when it is missing or damaged."""
    try:
        return read_record(final, key)
    except DamagedArtifact:
        return None


def _step_entry(done: DoneStep) -> dict[str, Any]:
    artifact = done.artifact
    kept = ("seconds", "cpu_seconds", "attempts", "peak_memory_bytes", "peak_gpu_memory_bytes", "disk_bytes")
    return {
        "name": artifact.step,
        "key": artifact.key,
        "makes": done.makes,
        "cached": done.cached,
        "inputs": artifact.inputs,
        "finished": artifact.record.get("finished"),
        "host": artifact.record.get("host"),
        **{name: artifact.record.get(name, 0) for name in kept},
    }


def _versions() -> dict[str, str]:
    import importlib.metadata

    versions = {"hornbook": hornbook.__version__, "python": platform.python_version()}
    for package in ("torch", "numpy", "tokenizers", "pyarrow"):
        with suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return versions


def _commit() -> str | None:
    """The commit of the checkout that Hornbook runs from ("+changes" when it is edited); None otherwise."""
    package = Path(hornbook.__file__).parent
    if shutil.which("git") is None:
        return None

    def git(*words: str) -> str:
        command = ["git", "-C", str(package), *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", "__init__.py")  # not merely some repository around it
        changed = git("status", "--porcelain", "--untracked-files=no", "--", ".")
        return git("rev-parse", "HEAD") + ("+changes" if changed else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _in_short(name: str, value: object) -> str:
    """An input of a step in about 40 characters, for the plan: where it comes from, or its name and value."""
    if isinstance(value, Artifact):
        return value.step
    if isinstance(value, Path):
        step, _, part = value.name.rpartition("-") if "-" in value.name else (value.name, "", "")
        return step or part
    text = " ".join(str(value).split())
    return f"{name} {text}" if len(text) <= 30 else f"{name} {text[:29]}…"
