"""The room Evaluations: scores with intervals, item by item, one model against another."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Form, Request
from fastapi.responses import RedirectResponse, Response

from hornbook.errors import HornbookError
from hornbook.evals.comparison import difference
from hornbook.evals.result import Result
from hornbook.lab.history import finished_runs
from hornbook.lab.statistics import PairedDifference
from hornbook.studio import pages
from hornbook.studio.pages import NotHere, studio_of

_SAMPLES = 50
_KEYS = {"task", "items", "scores", "outcomes", "samples"}


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What one evaluation found out about one model: a step of a run, or `hornbook eval`.

    results: by task, as `evals.result.Result` is written.
    """

    name: str
    model: str
    when: str
    seed: object
    results: Mapping[str, Mapping[str, Any]]


def measured(request: Request) -> list[Measured]:
    """Every evaluation of this home, newest first."""
    studio = studio_of(request)
    found: dict[str, Measured] = {}
    for job in studio.jobs.all():
        if job.kind == "eval" and job.state in ("done", "failed"):
            results = _results(job.out)
            if results:
                found[job.id] = Measured(
                    name=job.id, model=job.about, when=pages.shown_time(job.began), seed="", results=results
                )
    for run in finished_runs(studio.home):
        names = {path.resolve(): name for name, path in run.outputs.items()}
        for entry in run.data.get("steps", []):
            folder = studio.home / "steps" / f"{entry['name']}-{entry['key'][:16]}"
            if folder.name in found:
                continue
            record = pages.read_json(folder / "step.json") if entry["makes"] == "table" else None
            facts = record["facts"] if record is not None else {}
            results = {key: value for key, value in facts.items() if _is_result(value)}
            if results and record is not None:
                spec = entry["inputs"].get("model")
                below = spec.get("$below", "") if isinstance(spec, dict) else ""
                path = (studio.home / "steps" / below).resolve() if below else None
                model = names.get(path, below or str(spec)) if path is not None else str(spec)
                found[folder.name] = Measured(
                    name=folder.name,
                    model=f"{run.folder.name}: {model}",
                    when=pages.shown_time(record.get("finished", "")),
                    seed=entry["inputs"].get("seed"),
                    results=results,
                )
    return list(found.values())


def _results(text: str) -> dict[str, Mapping[str, Any]]:
    try:
        data = json.loads(text)
    except ValueError:
        return {}
    rows = data if isinstance(data, list) else []
    return {str(row["task"]): row for row in rows if _is_result(row)}


def _is_result(value: object) -> bool:
    return isinstance(value, Mapping) and set(value) >= _KEYS


def evaluations(request: Request, a: str = "", b: str = "") -> Response:
    """Scores of every evaluation, or of two side by side with their paired differences."""
    every = measured(request)
    by_name = {one.name: one for one in every}
    for name in (a, b):
        if name and name not in by_name:
            raise NotHere(f"There is no evaluation {name!r}.")
    both = [by_name[a], by_name[b]] if a and b else []
    studio = studio_of(request)
    return pages.render(
        request,
        "evaluations.html",
        every=every,
        a=a,
        b=b,
        both=both,
        differences=_differences(*both) if both else [],
        offers=studio.models.offers(),
        jobs=[job for job in studio.jobs.all() if job.kind == "eval"][:5],
    )


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One score of two models on the same items; `difference` is None where the items are not the same."""

    task: str
    score: str
    first: Mapping[str, Any] | None
    second: Mapping[str, Any] | None
    difference: PairedDifference | None
    items: int


def _differences(first: Measured, second: Measured) -> list[Difference]:
    found = []
    for task in dict.fromkeys([*first.results, *second.results]):
        left, right = first.results.get(task), second.results.get(task)
        for score in dict.fromkeys([*_scores(left), *_scores(right)]):
            paired, items = None, 0
            if left is not None and right is not None and (first.seed == second.seed or left.get("ids")):
                paired, items = difference(score, Result.from_json(left), Result.from_json(right))
            found.append(
                Difference(
                    task=task,
                    score=score,
                    first=_scores(left).get(score),
                    second=_scores(right).get(score),
                    difference=paired,
                    items=items,
                )
            )
    return found


def _scores(result: Mapping[str, Any] | None) -> dict[str, Mapping[str, Any]]:
    return {score["name"]: score for score in (result or {}).get("scores", [])}


def task(request: Request, name: str, task: str, b: str = "") -> Response:
    """One task of one evaluation, item by item; beside another's outcomes if `b` names one."""
    by_name = {one.name: one for one in measured(request)}
    if name not in by_name or task not in by_name[name].results or (b and b not in by_name):
        raise NotHere(f"There is no task {task!r} in the evaluation {name!r}.")
    result = by_name[name].results[task]
    other = by_name[b].results.get(task) if b else None
    outcomes = result.get("outcomes", {})
    score = next(iter(outcomes), "")
    return pages.render(
        request,
        "task.html",
        measured=by_name[name],
        result=result,
        outcomes=outcomes,
        strip=_strip(outcomes.get(score, []), (other or {}).get("outcomes", {}).get(score)),
        score=score,
        other=by_name[b] if other else None,
        samples=result["samples"][:_SAMPLES],
        others=[one for one in by_name.values() if one.name != name and task in one.results],
    )


def _strip(own: Sequence[float | None], other: Sequence[float | None] | None) -> list[tuple[str, str]]:
    """(class, words) of each item: right or wrong, and where another model differs."""
    cells = []
    for i, value in enumerate(own):
        words = f"item {i}: " + ("not scored" if value is None else f"{value:.3g}")
        kind = "open" if value is None else "good" if value >= 0.5 else "bad"
        if other is not None and i < len(other) and other[i] is not None and value is not None:
            words += f", the other {other[i]:.3g}"
            if (other[i] or 0.0) != value:
                kind += " gained" if value > (other[i] or 0.0) else " lost"
        cells.append((kind, words))
    return cells


def start(
    request: Request,
    model: Annotated[str, Form(max_length=2000)],
    tasks: Annotated[str, Form(max_length=500)] = "all",
    items: Annotated[int, Form(ge=1, le=100_000)] = 100,
) -> Response:
    """Starts `hornbook eval`."""
    if not model.strip() or model.startswith("-") or tasks.startswith("-"):
        raise HornbookError("Name a model and tasks.")
    studio = studio_of(request)
    words = ["eval", model, "--tasks", tasks or "all", "--items", str(items), "--json"]
    studio.jobs.start("eval", model, [*words, "--home", str(studio.home.absolute())])
    return RedirectResponse("/evaluations", status_code=303)


ROUTES = (
    ("GET", "/evaluations", evaluations),
    ("GET", "/evaluations/task", task),
    ("POST", "/evaluations", start),
)
