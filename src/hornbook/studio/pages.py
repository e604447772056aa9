"""How pages are made: templates that escape everything, and the words for numbers and times."""

import datetime
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined

import hornbook
from hornbook.errors import HornbookError
from hornbook.lab.charts import number
from hornbook.lab.files import human_bytes, human_seconds
from hornbook.lab.markup import escape
from hornbook.lab.progress import human_count

if TYPE_CHECKING:
    from hornbook.studio.app import Studio

ROOMS = (
    ("papers", "Papers"),
    ("runs", "Runs"),
    ("chat", "Chat"),
    ("data", "Data"),
    ("evaluations", "Evaluations"),
    ("redteam", "Red team"),
    ("pivotal", "Pivotal tokens"),
    ("annotate", "Annotate"),
    ("export", "Export"),
    ("machine", "Machine"),
)
"""Address and name of every room, in the order of the menu."""


class NotHere(HornbookError):
    """What the address names does not exist; the message says what was looked for."""


class _ReportMarkup(str):
    """Markup of `lab/markup.py`, whose every text is escaped when it is built."""

    __slots__ = ()

    def __html__(self) -> str:
        return self


def trusted(markup: str) -> _ReportMarkup:
    """Marks what `lab/report_html.py` has rendered; never used on text from anywhere else."""
    return _ReportMarkup(markup)


def make_environment() -> Environment:
    """The templates of this package; every value is escaped and an unknown name is an error."""
    environment = Environment(
        loader=PackageLoader("hornbook.studio"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(rooms=ROOMS, version=hornbook.__version__)
    environment.filters.update(
        number=shown_number,
        count=lambda value: "–" if value is None else human_count(value),
        bytes=lambda value: "–" if value is None else human_bytes(value),
        seconds=lambda value: "–" if value is None else human_seconds(value),
        percent=lambda value: "–" if value is None else f"{100 * value:.1f} %",
        when=shown_time,
        ago=ago,
        json=lambda value: json.dumps(value, ensure_ascii=False, default=str),
        pretty=lambda value: json.dumps(value, ensure_ascii=False, indent=2, default=str),
        visible=visible,
    )
    return environment


def render(request: Request, template: str, *, status: int = 200, **context: Any) -> HTMLResponse:
    """The page `template` with `context`."""
    studio = studio_of(request)
    text = studio.templates.get_template(template).render(
        path=request.url.path, home=str(studio.settings.home), **context
    )
    return HTMLResponse(text.encode("utf-8", errors="replace"), status_code=status)


def studio_of(request: Request) -> "Studio":
    """The studio that answers `request`."""
    studio: Studio = request.app.state.studio
    return studio


def shown_number(value: object) -> str:
    """A number for people; words as they are; a dash for nothing."""
    if isinstance(value, bool | str):
        return str(value)
    return number(float(value)) if isinstance(value, int | float) else "–"


def shown_time(value: object) -> str:
    """A time (ISO 8601, or seconds since 1970) to the minute, in this machine's zone."""
    try:
        if isinstance(value, int | float):
            moment = datetime.datetime.fromtimestamp(value, datetime.UTC)
        else:
            moment = datetime.datetime.fromisoformat(str(value))
    except (ValueError, OverflowError, OSError):
        return str(value)
    return moment.astimezone().strftime("%Y-%m-%d %H:%M")


def ago(value: float) -> str:
    """How long since `value` (seconds since 1970)."""
    return f"{human_seconds(max(0.0, time.time() - value))} ago"


def visible(text: object) -> str:
    """Text with control characters shown as their pictures; the template escapes it like any other."""
    import html

    return html.unescape(str(escape(str(text))))


def below(root: Path, relative: str) -> Path:
    """`root / relative`, which must be an existing path inside `root`.

    Raises:
        NotHere: it leaves `root`, or nothing is there.
    """
    try:
        path = (root / relative).resolve()
        inside = path.is_relative_to(root.resolve()) and path.exists()
    except (OSError, ValueError):
        inside = False
    if not inside:
        raise NotHere(f"There is no {relative!r} below {root}.")
    return path


def read_json(path: Path) -> Mapping[str, Any] | None:
    """The object in a JSON file; None when it is missing or damaged."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return data if isinstance(data, dict) else None
