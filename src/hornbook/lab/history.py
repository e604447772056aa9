"""What earlier runs left: the newest run, and the claims last measured."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hornbook.lab.claim import Claim
from hornbook.lab.execute import DamagedArtifact, read_record
from hornbook.lab.step import Artifact

RUN_FILE = "run.json"
CLAIMS_FILE = "claims.json"


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """A finished run on disk.

    Attributes:
        folder: `<home>/<recipe>-<scale>`.
        recipe: its name.
        scale: "smoke", "quick", "gpu" or "paper".
        finished: when, as ISO 8601 in UTC (sorts as text).
        data: the whole of `run.json`.
    """

    folder: Path
    recipe: str
    scale: str
    finished: str
    data: Mapping[str, Any]

    @property
    def claims(self) -> list[Claim]:
        """As they were judged then."""
        data = _read(self.folder / CLAIMS_FILE)
        return [Claim.from_json(entry) for entry in data["claims"]] if data else []

    @property
    def outputs(self) -> dict[str, Path]:
        """What the run offers by name (`run.output(model=...)`)."""
        return {
            name: (self.folder / path).resolve() for name, path in dict(self.data.get("outputs", {})).items()
        }

    @property
    def report(self) -> Path:
        """The HTML report."""
        return self.folder / "report.html"

    def artifacts(self) -> dict[str, Artifact]:
        """The artifacts of the run's steps, by step name (the last one of a name); lost ones are left out."""
        found = {}
        for entry in self.data.get("steps", []):
            path = self.folder.parent / "steps" / f"{entry['name']}-{entry['key'][:16]}"
            if (artifact := load_artifact(path)) is not None:
                found[entry["name"]] = artifact
        return found


def load_artifact(folder: Path) -> Artifact | None:
    """The finished artifact in `folder`; None when it is missing or damaged."""
    try:
        record = read_record(folder)
    except DamagedArtifact:
        return None
    if record is None:
        return None
    return Artifact(
        path=folder, key=record["key"], step=record["step"], inputs=record["inputs"], record=record
    )


def finished_runs(home: Path) -> list[RunRecord]:
    """Every finished run below `home`, newest first; folders that cannot be read are left out."""
    runs = []
    for path in Path(home).glob(f"*/{RUN_FILE}"):
        data = _read(path)
        if data and {"recipe", "scale", "finished"} <= set(data):
            runs.append(
                RunRecord(
                    folder=path.parent,
                    recipe=data["recipe"],
                    scale=data["scale"],
                    finished=data["finished"],
                    data=data,
                )
            )
    return sorted(runs, key=lambda run: run.finished, reverse=True)


def latest_run(home: Path, recipe: str | None = None, scale: str | None = None) -> RunRecord | None:
    """The newest finished run (of `recipe` and `scale`, where given); None when there is none."""
    runs = finished_runs(home)
    return next((run for run in runs if recipe in (None, run.recipe) and scale in (None, run.scale)), None)


def latest_claims(home: Path) -> dict[str, list[Claim]]:
    """By recipe, the claims last measured: of its newest run that judged any, else of its newest run."""
    chosen: dict[str, list[Claim]] = {}
    for run in finished_runs(home):
        claims = run.claims
        kept = chosen.get(run.recipe)
        if kept is None or (_judged(claims) and not _judged(kept)):
            chosen[run.recipe] = claims
    return chosen


def _judged(claims: list[Claim]) -> bool:
    return any(claim.judged for claim in claims)


def _read(path: Path) -> dict[str, Any] | None:
    try:
        data = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return data if isinstance(data, dict) else None
