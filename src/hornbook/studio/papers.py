"""The room Papers: what each recipe claims, what was measured here, and a button that starts it."""

import dataclasses
import functools
import shlex
from typing import Annotated, Any

from fastapi import Form, Request
from fastapi.responses import RedirectResponse, Response

from hornbook.errors import HornbookError
from hornbook.lab.history import finished_runs, latest_claims
from hornbook.papers import registry
from hornbook.studio import pages
from hornbook.studio.pages import studio_of

_NOT_YOURS = ("--home", "--scale", "--show")


@functools.cache
def _recipe(name: str) -> registry.Recipe:
    return registry.find(name)


def warm_up() -> None:
    """Loads every recipe, so that the first visitor does not wait for it."""
    for name in registry.names():
        _recipe(name)


def papers(request: Request) -> Response:
    """Every recipe with its claims."""
    studio = studio_of(request)
    measured = latest_claims(studio.home)
    newest = {run.recipe: run for run in reversed(finished_runs(studio.home))}
    recipes = [
        {
            "recipe": _recipe(name),
            "claims": measured.get(name, []),
            "run": newest.get(name),
            "running": [
                scale
                for scale in _recipe(name).scales
                if studio.jobs.running("run", f"{name}-{scale}") is not None
            ],
        }
        for name in sorted(registry.names(), key=lambda name: (name not in newest, name != "phi", name))
    ]
    return pages.render(request, "papers.html", recipes=recipes)


def paper(request: Request, name: str, scale: str = "quick") -> Response:
    """One recipe: its claims, its settings at a scale, and the form that starts it."""
    recipe = _known(name)
    if scale not in recipe.scales:
        scale = next(iter(recipe.scales))
    claims = latest_claims(studio_of(request).home).get(name, [])
    return pages.render(
        request,
        "paper.html",
        recipe=recipe,
        scale=scale,
        claims=claims,
        settings=list(_flags(recipe.settings(scale))),
    )


def plan(request: Request, name: str, scale: str = "quick") -> Response:
    """What a run would take, as the command line tells it."""
    recipe, studio = _known(name), studio_of(request)
    recipe.settings(scale)
    about = f"{name}-{scale}"
    job = studio.jobs.start(
        "plan", about, ["run", name, "--scale", scale, "--show", "--home", str(studio.home)], alone=False
    )
    return RedirectResponse(f"/jobs/{job.id}", status_code=303)


def start(
    request: Request,
    recipe: Annotated[str, Form(max_length=100)],
    scale: Annotated[str, Form(max_length=20)],
    flags: Annotated[str, Form(max_length=4000)] = "",
) -> Response:
    """Starts a recipe and goes to its run."""
    studio = studio_of(request)
    _known(recipe).settings(scale)
    words = ["run", recipe, "--scale", scale, "--home", str(studio.home.absolute()), *extra_flags(flags)]
    about = f"{recipe}-{scale}"
    studio.jobs.start("run", about, words)
    return RedirectResponse(f"/runs/{about}", status_code=303)


def extra_flags(text: str) -> list[str]:
    """Settings as a user typed them, `--layers 6 --seed 3`, as arguments.

    Raises:
        HornbookError: they do not begin with a flag, are not closed, or change where the run goes.
    """
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise HornbookError(f"The settings cannot be read: {error}.") from None
    if words and not words[0].startswith("--"):
        raise HornbookError(f"The settings begin with {words[0]!r}; write them as flags: --layers 6")
    for word in words:
        if word.partition("=")[0] in _NOT_YOURS or word in ("-h", "--help"):
            raise HornbookError(f"{word} is chosen by the page; leave it out of the settings.")
    return words


def _known(name: str) -> registry.Recipe:
    if name not in registry.names():
        raise pages.NotHere(f"There is no recipe {name!r}.")
    return _recipe(name)


def _flags(settings: Any, prefix: str = "") -> Any:
    """Every setting as the flag that changes it, and its value."""
    for item in dataclasses.fields(settings):
        name, value = prefix + item.name.replace("_", "-"), getattr(settings, item.name)
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            yield from _flags(value, name + ".")
        else:
            yield name, value


ROUTES = (
    ("GET", "/papers", papers),
    ("GET", "/papers/{name}", paper),
    ("POST", "/papers/{name}/plan", plan),
    ("POST", "/papers/start", start),
)
