"""The room Annotate: queues of items to judge, by keys; each stroke is kept before the next item comes."""

import json
import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import Form, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, RedirectResponse, Response, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from hornbook.data import browse
from hornbook.data.corpus import Corpus
from hornbook.errors import HornbookError
from hornbook.evals.annotation import FILE, AnnotationStore, Item, Kind, Queue, Task
from hornbook.evals.math_answers import Comparer
from hornbook.evals.skill_mix.steps import PIECES, spot_checks
from hornbook.lab.files import sha256_of
from hornbook.studio import data, pages
from hornbook.studio.pages import studio_of

_GRADED = "pieces:"
"""What a name of graded texts begins with, in place of a corpus."""
PRESETS = (
    (
        "Questions (MATH²)",
        "Solve it alone, then accept it, mend it, or reject it: one exact answer, both skills needed, "
        "nothing missing, nothing idle, possible, and fit for pen and paper.",
        "",
        "questions",
    ),
    ("Skill-Mix spot check", "Does the text deserve full marks?", "", "pieces"),
    ("Is it good?", "Would you teach with this text?", "good, fair, poor", "texts"),
    ("Blind pairs", "Which answer is better?", "", "pairs"),
)
"""Name, question, labels and what kind of rows it takes, of what is usually judged."""

_MOST_ITEMS = 2000
_LONGEST_TEXT = 20_000
_SOLVED = {"question", "solution", "answer"}


class Stroke(BaseModel):
    """One key."""

    model_config = ConfigDict(extra="forbid")

    queue: str = Field(max_length=200)
    number: int
    annotator: str = Field(max_length=200)
    label: str | None = Field(max_length=200)
    note: str = Field(default="", max_length=10_000)
    seconds: float | None = Field(default=None, ge=0, le=1e6)


class Edit(BaseModel):
    """A text of a question, written anew."""

    model_config = ConfigDict(extra="forbid")

    queue: str = Field(max_length=200)
    number: int
    annotator: str = Field(max_length=200)
    field: str = Field(max_length=40)
    text: str = Field(max_length=_LONGEST_TEXT)


class Answers(BaseModel):
    """Two answers to be compared as mathematics."""

    model_config = ConfigDict(extra="forbid")

    first: str = Field(max_length=400)
    second: str = Field(max_length=400)


def annotate(request: Request) -> Response:
    """Every queue, and the form that makes one."""
    studio = studio_of(request)
    queues = _store(request).queues() if (studio.home / FILE).is_file() else []
    sources = [
        {**entry, "kind": _kind(request, entry)}
        for entry in data.corpora(request)
        if "error" not in entry and entry["rows"]
    ]
    graded = sorted(path.parent.name for path in (studio.home / "steps").glob(f"*/{PIECES}"))
    return pages.render(
        request, "annotate.html", queues=queues, corpora=sources, graded=graded, presets=PRESETS
    )


def _kind(request: Request, entry: Mapping[str, Any]) -> str:
    """What a corpus can be asked about: pairs, questions with solutions, or texts."""
    if entry["schema"] == "preferences":
        return "pairs"
    corpus = data.place_of(request, entry["name"]).corpus
    if entry["schema"] != "documents":
        return "texts"
    [first] = browse.rows_at(corpus, [0])
    return "questions" if _solved(first) else "texts"


def _solved(row: Mapping[str, Any]) -> dict[str, Any] | None:
    """The meta of a row that is a question with its solution and answer."""
    try:
        meta = json.loads(row["meta"])
    except ValueError:
        return None
    return meta if isinstance(meta, dict) and set(meta) >= _SOLVED else None


def create(
    request: Request,
    name: Annotated[str, Form(max_length=200)],
    corpus: Annotated[str, Form(max_length=2000)],
    question: Annotated[str, Form(max_length=2000)],
    labels: Annotated[str, Form(max_length=1000)] = "",
    items: Annotated[int, Form(ge=1, le=_MOST_ITEMS)] = 50,
    seed: Annotated[int, Form()] = 0,
    overlap: Annotated[float, Form(ge=0, le=100)] = 100,
) -> Response:
    """A queue of rows drawn from a corpus, or of graded texts of Skill-Mix.

    Preferences become blind pairs. Questions with solutions are accepted, mended or rejected, unless labels
    are named. Of graded texts the grader's own verdicts are kept as an annotator's, whose agreement with the
    others is then shown.
    """
    store = _store(request)
    about: dict[str, Any] = {"question": question, "seed": seed, "overlap": overlap / 100}
    if corpus.startswith(_GRADED):
        checks = spot_checks(_graded(request, corpus), items=items, seed=seed)
        store.create_queue(name, checks.items, labels=checks.labels, verdicts=checks.verdicts, **about)
    else:
        place = data.place_of(request, corpus)
        rows = list(_drawn(place.corpus, place.name, items, seed))
        named = [label for label in labels.split(",") if label.strip()]
        kind: Kind = "pairs" if place.corpus.schema == "preferences" else "labels"
        if kind == "labels" and not named:
            if not all(set(item.content) >= _SOLVED for item in rows):
                raise HornbookError("Name the labels to choose from, with commas: right, wrong, unclear")
            kind = "questions"
        store.create_queue(name, rows, labels=[] if kind != "labels" else named, kind=kind, **about)
    return RedirectResponse(f"/annotate/work?queue={quote(name.strip())}", status_code=303)


def _graded(request: Request, name: str) -> Path:
    """The step whose pieces are asked for; a name and nothing else, below the home's steps."""
    folder = name.removeprefix(_GRADED)
    found = studio_of(request).home / "steps" / folder
    if Path(folder).name != folder or not (found / PIECES).is_file():
        raise pages.NotHere(f"There are no graded texts {folder!r} here.")
    return found


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
    solved = _solved(row) if "text" in row else None
    if solved is not None:
        shown = {name: str(solved[name])[:_LONGEST_TEXT] for name in ("question", "solution", "answer")}
        shown["skills"] = ", ".join(map(str, solved.get("skills", [])))
        for skill, examples in dict(solved.get("exemplars", {})).items():
            shown[f"questions on {skill}"] = "\n\n".join(
                f"{example['question']}\n{example.get('solution', '')} [{example['answer']}]"
                for example in examples
            )
        return shown
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
        alpha=store.alpha(queue),
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


def edit(request: Request, given: Edit) -> Response:
    """Keeps a text of a question that was written anew, then gives the item as it now stands."""
    store = _store(request)
    _queue(request, given.queue)
    store.edit(given.queue, given.number, given.annotator, given.field, given.text)
    found = store.task(given.queue, given.annotator, number=given.number)
    return JSONResponse(_task_json(request, given.queue, given.annotator, found))


async def same(given: Answers) -> Response:
    """Whether two answers are equal as mathematics (in a process that is killed when it takes too long)."""

    def compare() -> bool:
        with Comparer() as comparer:
            return comparer.same(given.first, given.second)

    return JSONResponse({"same": await run_in_threadpool(compare)})


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
            "edits": found.edits,
        },
    }


def _queue(request: Request, name: str) -> Queue:
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
    ("POST", "/annotate/edit", edit),
    ("POST", "/annotate/same", same),
    ("GET", "/annotate/export.jsonl", export),
)
