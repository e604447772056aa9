"""The room Runs: what is being made, how fast, how long still; curves, samples, costs; two compared."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import Request
from fastapi.responses import FileResponse, JSONResponse, RedirectResponse, Response

from hornbook.lab.claim import Claim
from hornbook.lab.history import RunRecord, finished_runs
from hornbook.lab.live import LiveRun, read_live
from hornbook.lab.report_html import render_blocks
from hornbook.studio import curves, pages
from hornbook.studio.jobs import Job
from hornbook.studio.pages import NotHere, studio_of

_SHOWN_BLOCKS = ("figures", "samples", "transcript", "tokens")
_REPORT_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox; frame-ancestors 'none'"
)


@dataclass(frozen=True, kw_only=True)
class View:
    """One run as a page shows it: finished before, being made, or only just started."""

    name: str
    folder: Path
    record: RunRecord | None
    live: LiveRun | None
    job: Job | None

    @property
    def state(self) -> str:
        """running, finished, stopped, failed, or starting."""
        if self.job is not None and self.job.state == "running":
            newer = self.live is not None and self.live.started >= self.job.began - 1
            return "running" if newer else "starting"
        if self.live is not None and self.live.state == "running":
            return "running"
        if self.job is not None and self.job.state == "failed" and not self._finished_since(self.job.began):
            return "failed"
        if self.live is not None and self.live.state == "stopped":
            return "stopped"
        return "finished" if self.record is not None else "stopped"

    def _finished_since(self, moment: float) -> bool:
        return self.live is not None and self.live.state == "finished" and self.live.started >= moment - 1

    @property
    def is_going(self) -> bool:
        """Whether the page should keep looking."""
        return self.state in ("running", "starting")

    @property
    def begun(self) -> float:
        """When it was last begun, seconds since 1970."""
        if self.live is not None:
            return self.live.started
        return self.job.began if self.job is not None else 0.0


def all_views(request: Request) -> list[View]:
    """Every run that is finished, going, or was stopped on the way; newest first."""
    studio = studio_of(request)
    records = {record.folder.name: record for record in finished_runs(studio.home)}
    names = dict.fromkeys(records)
    if studio.home.is_dir():
        names |= dict.fromkeys(path.parent.name for path in studio.home.glob("*/live.json"))
    jobs = {job.about: job for job in reversed(studio.jobs.all()) if job.kind == "run"}
    names |= dict.fromkeys(name for name, job in jobs.items() if job.state in ("running", "failed"))
    views = [
        View(
            name=name,
            folder=studio.home / name,
            record=records.get(name),
            live=read_live(studio.home / name),
            job=jobs.get(name),
        )
        for name in names
    ]
    return sorted(views, key=lambda view: (view.is_going, view.begun or _finished(view)), reverse=True)


def _finished(view: View) -> float:
    return view.folder.stat().st_mtime if view.folder.is_dir() else 0.0


def view_of(request: Request, name: str) -> View:
    """The run `name`.

    Raises:
        NotHere: no such run.
    """
    for view in all_views(request):
        if view.name == name:
            return view
    raise NotHere(f"There is no run {name!r} below {studio_of(request).home}.")


def runs(request: Request) -> Response:
    """The list."""
    return pages.render(request, "runs.html", views=all_views(request))


def run(request: Request, name: str) -> Response:
    """One run."""
    view = view_of(request, name)
    report = pages.read_json(view.folder / "report.json") if view.record is not None else None
    blocks: list[Mapping[str, Any]] = list(report["blocks"]) if report is not None else []
    return pages.render(
        request,
        "run.html",
        view=view,
        claims=claims_table(view.record.claims) if view.record is not None else "",
        steps=steps_of(view),
        sections=pages.trusted(render_blocks(_worth_showing(blocks))),
        costs=pages.trusted(render_blocks([block for block in blocks if block["kind"] == "costs"])),
        has_costs=any(block["kind"] == "costs" for block in blocks),
    )


def claims_table(claims: Sequence[Claim]) -> str:
    """The claims as a report shows them; empty for none."""
    if not claims:
        return ""
    block = {"kind": "claims", "claims": [claim.to_json() for claim in claims]}
    return pages.trusted(render_blocks([block]))


def _worth_showing(blocks: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """What the page does not show in another way, without the titles of sections that are then empty."""
    kept: list[Mapping[str, Any]] = []
    for block in blocks:
        if block["kind"] == "section":
            if kept and kept[-1]["kind"] == "section":
                kept.pop()
            kept.append(block)
        elif block["kind"] in _SHOWN_BLOCKS:
            kept.append(block)
    if kept and kept[-1]["kind"] == "section":
        kept.pop()
    return kept


def steps_of(view: View) -> list[dict[str, Any]]:
    """Steps in order, finished ones and the one being made: name, state, seconds, memory, disk, progress."""
    if view.is_going and view.live is not None and view.state == "running":
        return _live_steps(view.live)
    if view.record is not None and view.state == "finished":
        return [
            {
                "name": step["name"],
                "key": step["key"][:16],
                "makes": step["makes"],
                "state": "kept" if step["cached"] else "done",
                "seconds": step["seconds"],
                "cpu_seconds": step["cpu_seconds"],
                "memory": step["peak_memory_bytes"],
                "disk": step["disk_bytes"],
            }
            for step in view.record.data["steps"]
        ]
    return _live_steps(view.live) if view.live is not None else []


def _live_steps(live: LiveRun) -> list[dict[str, Any]]:
    steps: list[dict[str, Any]] = [
        {
            "name": step["name"],
            "key": step["key"][:16],
            "state": "kept" if step["cached"] else "done",
            "seconds": step["seconds"],
        }
        for step in live.done
    ]
    if live.step is not None:
        steps.append(
            {
                "name": live.step["name"],
                "key": live.step["key"][:16],
                "state": "running" if live.state == "running" else "stopped",
                "seconds": max(0.0, live.updated - live.step["began"]),
                "progress": live.step["progress"],
            }
        )
    return steps


def live(request: Request, name: str) -> Response:
    """What the page's script asks every second while the run goes on."""
    view = view_of(request, name)
    return JSONResponse(
        {
            "state": view.state,
            "begun": view.begun,
            "steps": steps_of(view),
            "log": view.job.log() if view.job is not None else "",
        }
    )


def curves_json(request: Request, name: str) -> Response:
    """Metrics by step and name, thinned to what a screen can show."""
    view = view_of(request, name)
    return JSONResponse(curves.of_run(view.folder))


def report(request: Request, name: str) -> Response:
    """The run's own report, locked into a page that may load nothing and run nothing."""
    view = view_of(request, name)
    if view.record is None or not view.record.report.is_file():
        raise NotHere(f"The run {name} has no report yet.")
    headers = {"content-security-policy": _REPORT_POLICY}
    return FileResponse(view.record.report, media_type="text/html", headers=headers)


def stop(request: Request, name: str) -> Response:
    """Stops a run that the studio started; the same start goes on from there."""
    view = view_of(request, name)
    if view.job is not None:
        studio_of(request).jobs.stop(view.job)
    return RedirectResponse(f"/runs/{name}", status_code=303)


def compare(request: Request, a: str = "", b: str = "") -> Response:
    """Two finished runs side by side: settings that differ, claims, time, curves."""
    views = [view for view in all_views(request) if view.record is not None]
    by_name = {view.name: view for view in views}
    pair = [by_name.get(a), by_name.get(b)]
    if (a and pair[0] is None) or (b and pair[1] is None):
        raise NotHere(f"There is no finished run {a if pair[0] is None else b!r}.")
    chosen = [view for view in pair if view is not None]
    both = len(chosen) == 2
    return pages.render(
        request,
        "compare.html",
        views=views,
        a=a,
        b=b,
        pair=chosen if both else [],
        settings=_differences(*[_flat(view) for view in chosen]) if both else [],
        claims=_claims_beside(*chosen) if both else [],
    )


def _flat(view: View) -> dict[str, object]:
    assert view.record is not None
    found: dict[str, object] = {}

    def walk(value: object, name: str) -> None:
        if isinstance(value, Mapping) and value:
            for key, inner in value.items():
                walk(inner, f"{name}.{key}" if name else str(key))
        else:
            found[name] = value

    walk(view.record.data.get("settings", {}), "")
    return found


def _differences(a: Mapping[str, object], b: Mapping[str, object]) -> list[tuple[str, object, object]]:
    names = list(dict.fromkeys([*a, *b]))
    return [
        (name, a.get(name, "–"), b.get(name, "–")) for name in names if a.get(name, "–") != b.get(name, "–")
    ]


def _claims_beside(a: View, b: View) -> list[tuple[str, Claim | None, Claim | None]]:
    assert a.record is not None
    assert b.record is not None
    left = {claim.id: claim for claim in a.record.claims}
    right = {claim.id: claim for claim in b.record.claims}
    ids = list(dict.fromkeys([*left, *right]))
    return [((left.get(i) or right[i]).sentence, left.get(i), right.get(i)) for i in ids]


ROUTES = (
    ("GET", "/runs", runs),
    ("GET", "/compare", compare),
    ("GET", "/runs/{name}", run),
    ("GET", "/runs/{name}/live.json", live),
    ("GET", "/runs/{name}/curves.json", curves_json),
    ("GET", "/runs/{name}/report", report),
    ("POST", "/runs/{name}/stop", stop),
)
