"""Rows that a teacher writes, each by a script: a generator that asks, reads the answers, and asks again.

A script says what one row takes, in order (draft, critique, rewrite), as if it were alone; `perform` runs
many together and gives the teacher what all of them ask at once. Every answer is in the call store before it
is read, so that a session which stops for whatever reason asks only what is missing when it goes on.
"""

import json
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeAlias, TypeVar

from hornbook.errors import HornbookError
from hornbook.lm.base import Advances, Completion, Failure, Json, LanguageModel, Message, Request, Sampling
from hornbook.lm.parse import extract_json, schema_problems
from hornbook.synth.prompts import CORRECTION
from hornbook.synth.safety import unsafe_problem

Row = dict[str, Any]
T = TypeVar("T")
Asking: TypeAlias = Generator[Sequence[Request], list[str], T]
"""Asks some requests at once, is given the texts, and comes to a T."""
Reader: TypeAlias = Callable[[str], tuple[T | None, str]]
"""What a text says, and what is wrong with it (empty: nothing), as a sentence that can go back to its
writer."""

SAMPLING = Sampling(temperature=1.0, max_tokens=512)
UNAVAILABLE = frozenset({"timeout", "connection", "server", "rate_limit", "bad_request"})
"""Failures of the service rather than of the text: the same call may well succeed later."""
UNAVAILABLE_SHARE = 0.02
"""A session with a larger share of unavailable calls has failed; what came is kept."""
AT_ONCE = 256
"""Scripts that run together, and so the most calls that a teacher is given at once."""


class Rejected(Exception):
    """A script gives its row up: `reason`, and the `text` it stumbled over."""

    def __init__(self, reason: str, text: str = "") -> None:
        super().__init__(reason)
        self.reason, self.text = reason, text


@dataclass(kw_only=True)
class Work:
    """One row while it is being written: what its script asks with.

    id: labels its calls and tells them apart from those of other rows. calls: keys of the answers so far in
    the call store. corrected: whether a text went back once.
    """

    id: str
    sampling: Sampling = SAMPLING
    calls: list[str] = field(default_factory=list)
    corrected: bool = False

    def request(
        self, prompt: str | Sequence[Message], *, sample: int = 0, schema: Json = None, **sampling: Any
    ) -> Request:
        """A request of this row; `sampling` changes fields of the row's own."""
        return Request(
            messages=(Message("user", prompt),) if isinstance(prompt, str) else tuple(prompt),
            sampling=replace(self.sampling, **sampling) if sampling else self.sampling,
            sample_index=sample,
            schema=schema,
            tag=self.id,
            salt=self.id,
        )

    def ask(self, prompt: str | Sequence[Message], **how: Any) -> Asking[str]:
        """One text (`how` as in `request`)."""
        (text,) = yield [self.request(prompt, **how)]
        return text

    def ask_often(self, prompt: str | Sequence[Message], count: int, **how: Any) -> Asking[list[str]]:
        """`count` independent texts for one prompt."""
        return (yield [self.request(prompt, sample=number, **how) for number in range(count)])

    def write(self, prompt: str | Sequence[Message], read: Reader[T], **how: Any) -> Asking[T]:
        """A text that `read` accepts, with one correction turn that carries its sentence.

        Raises:
            Rejected: the corrected text, too, has a fault.
        """
        asked = self.request(prompt, **how)
        (text,) = yield [asked]
        value, problem = _read_safely(text, read)
        if value is None:
            assert asked.messages is not None
            turns = (
                Message("assistant", text or "(nothing)"),
                Message("user", CORRECTION.format(problem=problem)),
            )
            (text,) = yield [replace(asked, messages=(*asked.messages, *turns))]
            value, problem = _read_safely(text, read)
            if value is None:
                raise Rejected(problem, text)
            self.corrected = True
        return value


def _read_safely(text: str, read: Reader[T]) -> tuple[T | None, str]:
    """As `read` says, unless the text holds what no row may hold (see `safety`)."""
    problem = unsafe_problem(text)
    return (None, problem) if problem else read(text)


Script: TypeAlias = Asking[Row | list[Row]]
"""Comes to a row, or to several from the same calls."""


class Task(Protocol):
    """One row to be written. facets: what it is to be about, by kind, for those who steer (see
    `coverage`)."""

    @property
    def id(self) -> str: ...

    @property
    def facets(self) -> Mapping[str, str]: ...

    def script(self, work: Work) -> Script:
        """How it is written; returns the row or raises `Rejected`."""
        ...


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """A task of one prompt: `check(text)` gives (row or None, what is wrong or empty)."""

    id: str
    prompt: str
    check: Reader[Row]
    facets: Mapping[str, str] = field(default_factory=dict)

    def script(self, work: Work) -> Script:
        return (yield from work.write(self.prompt, self.check))


@dataclass(frozen=True, kw_only=True)
class Scripted:
    """A task of several calls: `steps(work)` is its script."""

    id: str
    steps: Callable[[Work], Script]
    facets: Mapping[str, str] = field(default_factory=dict)

    def script(self, work: Work) -> Script:
        return self.steps(work)


@dataclass(frozen=True, kw_only=True)
class Written:
    """What came of a task: `rows`, or the `problem` and the last `text` (empty: no answer)."""

    task: Task
    rows: tuple[Row, ...] = ()
    problem: str = ""
    text: str = ""
    corrected: bool = False

    @property
    def row(self) -> Row | None:
        """The only row, or the first."""
        return self.rows[0] if self.rows else None


def read_json(text: str, schema: Mapping[str, Json]) -> tuple[Any, str]:
    """The JSON in a text, and what is wrong with it."""
    try:
        value = extract_json(text)
    except (ValueError, HornbookError) as error:
        return None, f"Answer with one JSON object and nothing else ({error})."
    problems = schema_problems(value, schema)
    return (None, f"The JSON is not as asked: {'; '.join(problems[:3])}.") if problems else (value, "")


def perform(
    teacher: LanguageModel,
    tasks: Sequence[Task],
    *,
    sampling: Sampling = SAMPLING,
    at_once: int | None = None,
    progress: Advances | None = None,
) -> Iterator[Written]:
    """Has a teacher write the tasks; what came of them, in their order.

    A call that fails (refusal, timeout...) ends its script and is never read as if it were a text.

    Raises:
        HornbookError: the teacher answered nothing of all that was asked at once, or left out more than
            `UNAVAILABLE_SHARE` of all calls: it is down, too slow or wrongly named. What it answered is in
            the call store, if it has one, and the same command asks only the rest.
    """
    calls = _Calls(teacher)
    at_once = at_once or int(getattr(teacher, "at_once", AT_ONCE))
    waiting = iter(enumerate(tasks))
    live: dict[int, _Live] = {}
    done: dict[int, Written] = {}
    next_out = 0
    while True:
        while len(live) < at_once and (more := next(waiting, None)) is not None:
            number, task = more
            begun = _Live(task, Work(id=task.id, sampling=sampling))
            live[number] = begun
        if not live:
            break
        # A new script is begun here; one that asks nothing is done at once.
        for number in [n for n, one in live.items() if one.asked is None and not one.go_on(None)]:
            done[number] = live.pop(number).written()
        answers = iter(calls.ask([request for one in live.values() for request in one.asked or ()]))
        for number, one in list(live.items()):
            if not one.go_on([next(answers) for _ in one.asked or ()]):
                done[number] = live.pop(number).written()
        while next_out in done:
            if progress is not None:
                progress.advance()
            yield done.pop(next_out)
            next_out += 1
    calls.finish()


class _Live:
    """A script on its way: `asked` is what it waits for (None: not begun)."""

    def __init__(self, task: Task, work: Work) -> None:
        self.task, self.work = task, work
        self.asked: Sequence[Request] | None = None
        self._script = task.script(work)
        self._rows: Sequence[Row] = ()
        self._rejected = Rejected("nothing was written")

    def go_on(self, answers: "list[tuple[Completion | Failure, str | None]] | None") -> bool:
        """Gives the script its answers; whether it asks for more."""
        try:
            if answers is None:
                self.asked = next(self._script)
                return True
            failed = next((answer for answer, _ in answers if isinstance(answer, Failure)), None)
            if failed is not None:
                raise Rejected(f"call failed: {failed.kind}")
            self.work.calls += [call for _, call in answers if call is not None]
            self.asked = self._script.send([a.text for a, _ in answers if isinstance(a, Completion)])
            return True
        except StopIteration as end:
            self._rows = end.value if isinstance(end.value, list) else [end.value]
        except Rejected as rejected:
            self._script.close()
            self._rejected = rejected
        return False

    def written(self) -> Written:
        """What came of it; each row leads back to the stored calls it took."""
        if not self._rows:
            return Written(task=self.task, problem=self._rejected.reason, text=self._rejected.text)
        calls = self.work.calls
        lineage = {"call": calls[-1], **({"calls": calls} if len(calls) > 1 else {})} if calls else {}
        rows = tuple(
            {**row, "meta": json.dumps({**json.loads(row["meta"]), **lineage}, ensure_ascii=False)}
            for row in self._rows
        )
        return Written(task=self.task, rows=rows, corrected=self.work.corrected)


class _Calls:
    """Asks, and counts what the teacher left unanswered."""

    def __init__(self, teacher: LanguageModel) -> None:
        self.teacher = teacher
        self._unavailable: Counter[str] = Counter()
        self._answered = 0
        self._said = ""

    def ask(self, requests: Sequence[Request]) -> list[tuple[Completion | Failure, str | None]]:
        """Each answer with the key of the stored call, so that a row leads back to it."""
        if not requests:
            return []
        answers = self.teacher.complete(requests)
        failed = [a for a in answers if isinstance(a, Failure) and a.kind in UNAVAILABLE]
        self._answered += len(answers) - len(failed)
        self._unavailable.update(failure.kind for failure in failed)
        self._said = failed[0].message if failed else self._said
        if len(failed) == len(requests):
            raise self._down()
        key_of: Callable[[Request], str] | None = getattr(self.teacher, "call_key", None)
        return [(a, None if key_of is None else key_of(r)) for a, r in zip(answers, requests, strict=True)]

    def finish(self) -> None:
        """Raises if too much was left unanswered."""
        missing = self._unavailable.total()
        if missing > UNAVAILABLE_SHARE * (self._answered + missing):
            raise self._down()

    def _down(self) -> HornbookError:
        kinds = self._unavailable
        counts = ", ".join(f"{kind}: {count}" for kind, count in sorted(kinds.items()))
        return HornbookError(
            f"The teacher {self.teacher.identity} failed on {kinds.total()} of "
            f"{self._answered + kinds.total()} calls ({counts}; the first said: {self._said.rstrip('.')}). "
            f"See that it runs, then give the same command: what it answered is kept, and only the rest is "
            f"asked."
        )
