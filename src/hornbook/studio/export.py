"""The room Export: a finished model as a Hugging Face folder or GGUF files, by a button."""

import re
from pathlib import Path
from typing import Annotated

from fastapi import Form, Request
from fastapi.responses import FileResponse, RedirectResponse, Response

from hornbook.errors import HornbookError
from hornbook.serve.export import KINDS, size_bytes
from hornbook.studio import pages
from hornbook.studio.models import EXPORTS
from hornbook.studio.pages import studio_of

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def export(request: Request, model: str = "") -> Response:
    """The form, and what was exported."""
    studio = studio_of(request)
    offers = [offer for offer in studio.models.offers() if not offer.spec.startswith("http")]
    folder = studio.home / EXPORTS
    made = [
        {
            "name": entry.name,
            "files": [(path.name, size_bytes(path), path.is_dir()) for path in sorted(entry.iterdir())],
        }
        for entry in (sorted(folder.iterdir()) if folder.is_dir() else [])
        if entry.is_dir()
    ]
    jobs = [job for job in studio.jobs.all() if job.kind == "export"][:10]
    return pages.render(
        request, "export.html", offers=offers, model=model, kinds=KINDS, made=made, jobs=jobs,
        folder=str(folder),
    )  # fmt: skip


def start(
    request: Request,
    model: Annotated[str, Form(max_length=2000)],
    name: Annotated[str, Form(max_length=64)],
    kinds: Annotated[list[str], Form()],
) -> Response:
    """Starts `hornbook export`."""
    studio = studio_of(request)
    if not _NAME.fullmatch(name):
        raise HornbookError(f"The name is {name!r}; write letters, digits, dots, - and _, a letter first.")
    if wrong := [kind for kind in kinds if kind not in KINDS]:
        raise HornbookError(f"A model cannot be exported to {wrong[0]!r}; accepted are {', '.join(KINDS)}.")
    if model not in {offer.spec for offer in studio.models.offers()}:
        raise pages.NotHere(f"There is no model {model!r} here.")
    out = studio.home.absolute() / EXPORTS / name
    words = ["export", model, "--to", ",".join(kinds), "--out", str(out), "--name", name]
    studio.jobs.start("export", name, words)
    return RedirectResponse("/export", status_code=303)


def download(request: Request, name: str, file: str) -> Response:
    """One exported file."""
    path: Path = pages.below(studio_of(request).home / EXPORTS, f"{name}/{file}")
    if not path.is_file():
        raise pages.NotHere(f"{name}/{file} is a folder; copy it from the disk.")
    return FileResponse(path, media_type="application/octet-stream", filename=path.name)


ROUTES = (
    ("GET", "/export", export),
    ("POST", "/export", start),
    ("GET", "/export/{name}/{file}", download),
)
