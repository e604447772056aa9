"""The room Data: corpora page by page, what was removed and why, where a row comes from, what is covered."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import Request
from fastapi.responses import Response

from hornbook.data import browse
from hornbook.data.corpus import Corpus
from hornbook.data.inspect import list_corpora, row_text
from hornbook.errors import HornbookError
from hornbook.lab.history import finished_runs, load_artifact
from hornbook.lab.step import Artifact, artifact_references
from hornbook.studio import pages
from hornbook.studio.pages import NotHere, studio_of
from hornbook.synth.variety import Variety, facets_of

ROWS = 20
_SHOWN_CHARACTERS = 600
_SEARCH_SECONDS = 0.6
CALLS_FILE = "calls.sqlite"


@dataclass(frozen=True, kw_only=True)
class Place:
    """A corpus as the pages name it: `name` is its path below the home, or the whole path elsewhere."""

    name: str
    corpus: Corpus

    @property
    def removed(self) -> str | None:
        """The name of the corpus of what was taken out of this one; None when nothing lies there."""
        return f"{self.name}/removed" if (self.corpus.folder / "removed" / "corpus.json").is_file() else None

    @property
    def kept(self) -> str | None:
        """Of a corpus of removed rows: the one they were removed from."""
        parent = self.corpus.folder.parent
        if self.corpus.folder.name == "removed" and (parent / "corpus.json").is_file():
            return self.name.removesuffix("/removed")
        return None


def data(request: Request, run: str = "") -> Response:
    """Every corpus below the home and the other folders."""
    found = [entry for entry in corpora(request) if not run or run in entry["runs"]]
    runs = [record.folder.name for record in finished_runs(studio_of(request).home)]
    return pages.render(request, "data.html", corpora=found, run=run, runs=runs)


def corpora(request: Request) -> list[dict[str, Any]]:
    """What `list_corpora` tells of each corpus, with its `name` here and the `runs` it was made for."""
    studio = studio_of(request)
    made_for: dict[str, list[str]] = {}
    for record in finished_runs(studio.home):
        for step in record.data.get("steps", []):
            made_for.setdefault(f"{step['name']}-{step['key'][:16]}", []).append(record.folder.name)
    found = []
    for root in (root for root in _roots(request) if root.is_dir()):
        for entry in list_corpora(root):
            path = Path(entry["path"])
            if any(part.endswith((".partial", ".damaged")) for part in path.parts):
                continue
            name = _name_of(path, studio.home)
            step = name.split("/")[1] if name.startswith("steps/") else ""
            found.append({**entry, "name": name, "runs": made_for.get(step, [])})
    return sorted(found, key=lambda entry: (not entry["runs"], entry["name"]))


def view(
    request: Request, corpus: str, offset: int = 0, q: str = "", source: str = "", start: int = 0
) -> Response:
    """A page of rows, or of what a search found."""
    place = place_of(request, corpus)
    if q or source:
        found = browse.search(
            place.corpus, q, source=source, start=max(0, start), rows=ROWS, seconds=_SEARCH_SECONDS
        )
        numbered, onward = found.rows, found.next
    else:
        offset = max(0, min(offset, place.corpus.rows - 1))
        numbered = list(enumerate(browse.page(place.corpus, offset=offset, rows=ROWS), offset))
        onward = None
    return pages.render(
        request,
        "corpus.html",
        place=place,
        rows=_shown(place.corpus, numbered),
        offset=offset,
        per_page=ROWS,
        q=q,
        source=source,
        onward=onward,
        searching=bool(q or source),
        funnel=pages.read_json(place.corpus.folder / "funnel.json"),
        lineage=_lineage(request, place),
        sources=_sources(place.corpus),
    )


def row(request: Request, corpus: str, number: int) -> Response:
    """One row whole, with its scores and the way back to what wrote it."""
    place = place_of(request, corpus)
    if not 0 <= number < place.corpus.rows:
        raise NotHere(f"{corpus} has rows 0 to {place.corpus.rows - 1}, not {number}.")
    [found] = browse.page(place.corpus, offset=number, rows=1)
    meta = _meta(found)
    return pages.render(
        request,
        "row.html",
        place=place,
        number=number,
        row=found,
        meta=meta,
        attributes=_attributes(place.corpus, [number])[0],
        lineage=_lineage(request, place),
        call=_call(studio_of(request).home / CALLS_FILE, meta.get("call")),
    )


def coverage(request: Request, corpus: str, first: str = "", second: str = "") -> Response:
    """A map of two fields: what was written often, seldom, never."""
    place = place_of(request, corpus)
    known = browse.fields(place.corpus)
    names = list(known)
    first = first if first in known else (names[0] if names else "")
    second = second if second in known else next((name for name in names if name != first), "")
    found = browse.coverage(place.corpus, first, second) if first and second else None
    largest = max((count for line in found.counts for count in line), default=0) if found else 0
    return pages.render(
        request,
        "coverage.html",
        place=place,
        fields=known,
        first=first,
        second=second,
        found=found,
        largest=max(1, largest),
        missing=sum(count == 0 for line in found.counts for count in line) if found else 0,
        variety=_variety(request, place),
    )


def _variety(request: Request, place: Place) -> Variety | None:
    """How coverage grew, and what was hit or never hit, where the step that wrote the corpus says so."""
    steps = (studio_of(request).home / "steps").resolve()
    if not place.corpus.folder.resolve().is_relative_to(steps):
        return None
    made = load_artifact(steps / place.corpus.folder.resolve().relative_to(steps).parts[0])
    grown = made.facts.get("growth") if made is not None else None
    if made is None or not grown:
        return None
    return Variety(growth=grown, facets=facets_of(made.facts, grown))


def _roots(request: Request) -> list[Path]:
    studio = studio_of(request)
    return [studio.home / "steps", *studio.settings.data]


def _name_of(path: Path, home: Path) -> str:
    whole, root = path.resolve(), home.resolve()
    return whole.relative_to(root).as_posix() if whole.is_relative_to(root) else whole.as_posix()


def place_of(request: Request, name: str) -> Place:
    """The corpus `name`, which must lie below the home or a folder given at the start."""
    studio = studio_of(request)
    allowed = [root.resolve() for root in (studio.home, *studio.settings.data)]
    try:
        path = (studio.home / name).resolve()
        inside = any(path.is_relative_to(root) for root in allowed)
    except (OSError, ValueError):
        inside = False
    if not inside or not (path / "corpus.json").is_file():
        raise NotHere(f"There is no corpus {name!r} here.")
    return Place(name=name, corpus=Corpus.open(path, allow_empty=True))


def _shown(corpus: Corpus, numbered: Sequence[tuple[int, Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """Rows as a list shows them: the beginning of the text, and every attribute that has a value."""
    attributes = _attributes(corpus, [number for number, _ in numbered])
    shown = []
    for (number, row), own in zip(numbered, attributes):
        text = row_text(row)
        shown.append(
            {
                "number": number,
                "id": row["id"],
                "source": row["source"],
                "text": text[:_SHOWN_CHARACTERS],
                "cut": len(text) > _SHOWN_CHARACTERS,
                "attributes": own,
            }
        )
    return shown


def _attributes(corpus: Corpus, numbers: Sequence[int]) -> list[dict[str, object]]:
    """The attributes of some rows (in ascending order), without those that have no value."""
    found: list[dict[str, object]] = [{} for _ in numbers]
    for name in corpus.attributes if numbers else ():
        if numbers[-1] - numbers[0] < 8 * ROWS:  # near one another: read together
            near = browse.attributes_page(corpus, name, offset=numbers[0], rows=numbers[-1] - numbers[0] + 1)
            rows = [near[number - numbers[0]] for number in numbers]
        else:
            rows = [browse.attributes_page(corpus, name, offset=number, rows=1)[0] for number in numbers]
        for own, row in zip(found, rows):
            own |= {key: value for key, value in row.items() if value not in (None, "", [])}
    return found


def _meta(row: Mapping[str, Any]) -> dict[str, Any]:
    try:
        meta = json.loads(row.get("meta") or "{}")
    except ValueError:
        return {}
    return meta if isinstance(meta, dict) else {}


def _sources(corpus: Corpus) -> list[str]:
    """Sources of the first rows, for the filter's list."""
    head = browse.page(corpus, rows=2000) if corpus.rows else []
    return sorted({str(row["source"]) for row in head})


def _lineage(request: Request, place: Place) -> list[dict[str, Any]]:
    """The steps this corpus comes from, nearest first, each with its seed, teacher, settings and sources."""
    steps = (studio_of(request).home / "steps").resolve()
    folder = place.corpus.folder
    if not folder.is_relative_to(steps):
        return []
    return [
        {
            "step": artifact.step,
            "folder": artifact.path.name,
            "seed": artifact.inputs.get("seed"),
            "teacher": artifact.inputs.get("teacher"),
            "inputs": {key: value for key, value in artifact.inputs.items() if value is not None},
            "from": [name for name in artifact_references(artifact.inputs) if (steps / name).is_dir()],
            "finished": artifact.record.get("finished"),
            "is_corpus": (artifact.path / "corpus.json").is_file(),
        }
        for artifact in _chain(steps, folder.relative_to(steps).parts[0])
    ]


def _chain(steps: Path, name: str) -> Iterator[Artifact]:
    waiting, seen = [name], {name}
    while waiting:
        artifact = load_artifact(steps / waiting.pop(0))
        if artifact is None:
            continue
        yield artifact
        for source in artifact_references(artifact.inputs):
            if source not in seen:
                seen.add(source)
                waiting.append(source)


def _call(path: Path, key: object) -> dict[str, Any] | None:
    """The stored call that wrote a row: who was asked what, when, and the answer as it came."""
    if not isinstance(key, str) or not path.is_file():
        return None
    from hornbook.lm.store import CallStore

    try:
        with CallStore(path) as store:
            call = store.get(key)
    except (HornbookError, ValueError):
        return None
    return None if call is None else dict(vars_of(call))


def vars_of(call: Any) -> Iterator[tuple[str, Any]]:
    """The fields of a stored call by name."""
    for name in ("key", "model", "created", "status", "latency_seconds", "request", "response"):
        yield name, getattr(call, name)


ROUTES = (
    ("GET", "/data", data),
    ("GET", "/data/view", view),
    ("GET", "/data/row", row),
    ("GET", "/data/coverage", coverage),
)
