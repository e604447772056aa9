"""The room Annotate: queues of items to judge, by keys; each stroke is kept before the next item comes."""

import json
import random
from collections.abc import Iterator
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import Form, Request
from fastapi.responses import JSONResponse, RedirectResponse, Response, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from hornbook.data import browse
from hornbook.data.corpus import Corpus
from hornbook.errors import HornbookError
from hornbook.evals.annotation import AnnotationStore, Item, Task
from hornbook.lab.files import sha256_of
from hornbook.studio import data, pages
from hornbook.studio.pages import studio_of

FILE = ".studio/annotations.sqlite"
PRESETS = (
    ("Problems (MATH²)", "Is the problem sound, and the answer right?", "right, wrong, unclear"),
    ("Skill-Mix spot check", "Does the text show every skill that was asked for?", "all, some, none"),
    ("Is it good?", "Would you teach with this text?", "good, fair, poor"),
    ("Blind pairs", "Which answer is better?", ""),
)
"""Name, question, labels (none: pairs) of what is usually judged."""

_MOST_ITEMS = 2000
_LONGEST_TEXT = 20_000


class Stroke(BaseModel):
    """One key."""

    model_config = ConfigDict(extra="forbid")

    queue: str = Field(max_length=200)
    number: int
    annotator: str = Field(max_length=200)
    label: str | None = Field(max_length=200)
    note: str = Field(default="", max_length=10_000)
    seconds: float | None = Field(default=None, ge=0, le=1e6)


def annotate(request: Request) -> Response:
    """Every queue, and the form that makes one."""
    studio = studio_of(request)
    queues = _store(request).queues() if (studio.home / FILE).is_file() else []
    return pages.render(
        request, "annotate.html", queues=queues, corpora=data.corpora(request), presets=PRESETS
    )


def create(
    request: Request,
    name: Annotated[str, Form(max_length=200)],
    corpus: Annotated[str, Form(max_length=2000)],
    question: Annotated[str, Form(max_length=2000)],
    labels: Annotated[str, Form(max_length=1000)] = "",
    items: Annotated[int, Form(ge=1, le=_MOST_ITEMS)] = 50,
    seed: Annotated[int, Form()] = 0,
) -> Response:
    """A queue of rows drawn from a corpus; preferences become blind pairs."""
    place = data.place_of(request, corpus)
    pairs = place.corpus.schema == "preferences"
    if not pairs and not labels.strip():
        raise HornbookError("Name the labels to choose from, with commas: right, wrong, unclear")
    _store(request).create_queue(
        name,
        list(_drawn(place.corpus, place.name, items, seed)),
        question=question,
        labels=[] if pairs else [label for label in labels.split(",") if label.strip()],
        kind="pairs" if pairs else "labels",
        seed=seed,
    )
    return RedirectResponse(f"/annotate/work?queue={quote(name.strip())}", status_code=303)


def _drawn(corpus: Corpus, name: str, items: int, seed: int) -> Iterator[Item]:
    """Rows drawn without replacement, each with its corpus, number, id and hash."""
    numbers = sorted(random.Random(f"rows {seed}").sample(range(corpus.rows), min(items, corpus.rows)))
    for number, row in zip(numbers, browse.rows_at(corpus, numbers), strict=True):
        provenance = {
            "corpus": name,
            "corpus_sha256": corpus.sha256,
            "row": number,
            "id": row["id"],
            "source": row["source"],
            "row_sha256": sha256_of(row),
        }
        yield Item(content=_content(row), provenance=provenance)


def _content(row: dict[str, Any]) -> dict[str, str]:
    if "text" in row:
        return {"text": row["text"][:_LONGEST_TEXT]}
    turns = {
        f"{i}. {message['role']}": message["content"][:_LONGEST_TEXT]
        for i, message in enumerate(row["messages"], 1)
    }
    if "chosen" in row:
        return {**turns, "first": row["chosen"][:_LONGEST_TEXT], "second": row["rejected"][:_LONGEST_TEXT]}
    return turns


def work(request: Request, queue: str, annotator: str = "") -> Response:
    """The page on which one person judges."""
    store = _store(request)
    return pages.render(
        request,
        "work.html",
        queue=_queue(request, queue),
        annotator=annotator.strip(),
        agreement=store.agreement(queue),
        counts=store.counts(queue),
    )


def task(request: Request, queue: str, annotator: str, number: int | None = None) -> Response:
    """The next item of this person, or the one asked for."""
    _queue(request, queue)
    found = _store(request).task(queue, annotator, number=number)
    return JSONResponse(_task_json(request, queue, annotator, found))


def stroke(request: Request, given: Stroke) -> Response:
    """Keeps one stroke, then gives the next item."""
    store = _store(request)
    _queue(request, given.queue)
    store.record(
        given.queue, given.number, given.annotator, given.label, note=given.note, seconds=given.seconds
    )
    following = store.task(given.queue, given.annotator)
    return JSONResponse(_task_json(request, given.queue, given.annotator, following))


def export(request: Request, queue: str) -> Response:
    """Judgements with texts and provenance, as JSON lines."""
    _queue(request, queue)
    lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in _store(request).export(queue))
    name = "".join(c if c.isalnum() or c in "-_" else "_" for c in queue)
    headers = {"content-disposition": f"attachment; filename*=utf-8''{quote(name)}.jsonl"}
    return StreamingResponse(lines, media_type="application/jsonl", headers=headers)


def _task_json(request: Request, queue: str, annotator: str, found: Task | None) -> dict[str, Any]:
    store = _store(request)
    about = store.queue(queue)
    return {
        "done": about.done.get(annotator, 0),
        "items": about.items,
        "order": store.order(queue),
        "task": None
        if found is None
        else {
            "number": found.number,
            "place": found.place,
            "content": list(found.content.items()),
            "label": found.label,
            "note": found.note,
        },
    }


def _queue(request: Request, name: str) -> Any:
    store = _store(request)
    if name not in {queue.name for queue in store.queues()}:
        raise pages.NotHere(f"There is no queue {name!r}.")
    return store.queue(name)


def _store(request: Request) -> AnnotationStore:
    return AnnotationStore(studio_of(request).home / FILE)


ROUTES = (
    ("GET", "/annotate", annotate),
    ("POST", "/annotate", create),
    ("GET", "/annotate/work", work),
    ("GET", "/annotate/task.json", task),
    ("POST", "/annotate/stroke", stroke),
    ("GET", "/annotate/export.jsonl", export),
)
