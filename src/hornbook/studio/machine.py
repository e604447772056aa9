"""The room Machine: what this computer is, and `hornbook doctor` by a button."""

from fastapi import Request
from fastapi.responses import JSONResponse, RedirectResponse, Response

from hornbook.lab.machine import machine_facts
from hornbook.studio import pages
from hornbook.studio.jobs import Job
from hornbook.studio.pages import studio_of

_ABOUT = "this machine"


def machine(request: Request) -> Response:
    """Facts at once; measured speeds and the sandbox's test from the last examination."""
    studio = studio_of(request)
    job = studio.jobs.newest("doctor", _ABOUT)
    return pages.render(
        request,
        "machine.html",
        facts=machine_facts(studio.home),
        job=job,
        found=_found(job),
        jobs=studio.jobs.all()[:30],
    )


def examine(request: Request) -> Response:
    """Starts `hornbook doctor --json`."""
    studio = studio_of(request)
    studio.jobs.start("doctor", _ABOUT, ["doctor", "--json", "--home", str(studio.home.absolute())])
    return RedirectResponse("/machine", status_code=303)


def _found(job: Job | None) -> object:
    import json

    if job is None or job.state == "running":
        return None
    try:
        return json.loads(job.out)
    except ValueError:
        return None


def job_page(request: Request, name: str) -> Response:
    """One command the studio started: what it says."""
    return pages.render(request, "job.html", job=_job(request, name))


def job_state(request: Request, name: str) -> Response:
    """The same for the page's script."""
    job = _job(request, name)
    return JSONResponse({"state": job.state, "log": job.log(), "out": job.out[-100_000:]})


def stop_job(request: Request, name: str) -> Response:
    """Stops a command as Ctrl-C would."""
    job = _job(request, name)
    studio_of(request).jobs.stop(job)
    return RedirectResponse(f"/jobs/{job.id}", status_code=303)


def _job(request: Request, name: str) -> Job:
    job = studio_of(request).jobs.find(name)
    if job is None:
        raise pages.NotHere(f"There is no job {name!r}.")
    return job


ROUTES = (
    ("GET", "/machine", machine),
    ("POST", "/machine/examine", examine),
    ("GET", "/jobs/{name}", job_page),
    ("GET", "/jobs/{name}/state.json", job_state),
    ("POST", "/jobs/{name}/stop", stop_job),
)
