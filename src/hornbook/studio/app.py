"""The application: every room's addresses behind one guarded door."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, RedirectResponse, Response
from fastapi.staticfiles import StaticFiles
from jinja2 import Environment
from starlette.exceptions import HTTPException

from hornbook import __version__
from hornbook.errors import HornbookError
from hornbook.studio import (
    annotate,
    chat,
    data,
    evaluations,
    export,
    machine,
    pages,
    papers,
    pivotal,
    redteam,
    runs,
)
from hornbook.studio.documents import Documents
from hornbook.studio.guard import Guard
from hornbook.studio.jobs import Jobs
from hornbook.studio.models import Models
from hornbook.studio.places import Places
from hornbook.studio.settings import StudioSettings
from hornbook.studio.v1 import V1

_HERE = Path(__file__).parent
_ROOMS = (papers, runs, chat, data, evaluations, redteam, pivotal, annotate, export, machine)


@dataclass(frozen=True, kw_only=True)
class Studio:
    """What every page may use: settings, jobs, open models, places in the chat, documents, templates."""

    settings: StudioSettings
    jobs: Jobs
    models: Models
    places: Places
    documents: Documents
    templates: Environment = field(default_factory=pages.make_environment)

    @property
    def home(self) -> Path:
        """The folder of runs."""
        return self.settings.home


def create_app(settings: StudioSettings) -> FastAPI:
    """The studio as an ASGI application."""
    studio = Studio(
        settings=settings,
        jobs=Jobs(settings.home),
        models=Models(settings),
        places=Places(settings.streams, settings.queue),
        documents=Documents(settings.home),
    )

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        threading.Thread(target=papers.warm_up, name="hornbook-warm-up", daemon=True).start()
        yield
        await asyncio.to_thread(studio.models.close)

    app = FastAPI(
        lifespan=lifespan,
        title="Hornbook studio",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
    )
    app.state.studio = studio

    def add(method: str, path: str, handler: Callable[..., Any]) -> None:
        app.add_api_route(path, handler, methods=[method], response_model=None, include_in_schema=False)

    add("GET", "/", _front)
    add("GET", "/static/plotly.min.js", _plotly)
    add("GET", "/static/report.css", _report_css)
    for room in _ROOMS:
        for method, path, handler in room.ROUTES:
            add(method, path, handler)
    app.mount("/v1", V1(studio.models))
    app.mount("/static", StaticFiles(directory=_HERE / "static"), name="static")
    app.add_exception_handler(HornbookError, _told)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _bad_request)
    app.add_middleware(Guard, settings=settings)
    return app


def _front() -> Response:
    return RedirectResponse("/papers", status_code=303)


def _plotly() -> Response:
    """Plotly's script as its wheel carries it."""
    import importlib.util

    spec = importlib.util.find_spec("plotly")
    places = [] if spec is None else list(spec.submodule_search_locations or ())
    for place in places:
        path = Path(place) / "package_data" / "plotly.min.js"
        if path.is_file():
            return FileResponse(
                path, media_type="text/javascript", headers={"cache-control": "private, max-age=86400"}
            )
    return JSONResponse({"error": "plotly is not installed"}, status_code=404)


def _report_css() -> Response:
    import hornbook.lab

    return FileResponse(Path(hornbook.lab.__file__).parent / "report.css", media_type="text/css")


def _told(request: Request, error: Exception) -> Response:
    """An error that was said in words: on a page, or as JSON where a script asked."""
    status = 404 if isinstance(error, pages.NotHere) else 400
    return _complaint(request, status, str(error))


def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    sentence = "There is no such page." if error.status_code == 404 else str(error.detail)
    return _complaint(request, error.status_code, sentence)


def _bad_request(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"][1:])
    return _complaint(request, 400, f"{where}: {first['msg']}")


def _complaint(request: Request, status: int, sentence: str) -> Response:
    if "text/html" in request.headers.get("accept", ""):
        return pages.render(request, "error.html", status=status, sentence=sentence)
    return JSONResponse({"error": sentence}, status_code=status)
