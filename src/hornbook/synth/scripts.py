"""Rows that a teacher writes, each by a script: a generator that asks, reads the answers, and asks again.

A script says what one row takes, in order (draft, critique, rewrite), as if it were alone; `perform` runs
many together, each asking on as soon as it is answered. Every answer is in the call store before it
is read, so that a session which stops for whatever reason asks only what is missing when it goes on.
"""

import json
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol, TypeAlias, TypeVar

from hornbook.errors import HornbookError
from hornbook.lm.base import (
    Advances,
    Completion,
    Failure,
    Json,
    LanguageModel,
    Message,
    Request,
    Sampling,
    Usage,
)
from hornbook.lm.line import open_line
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
DOWN_AFTER = 128
"""Unavailable calls in a row after which a session has failed."""


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
    """What came of a task: `rows`, or the `problem` and the last `text` (empty: no answer).

    spent: tokens and seconds of each of its answers.
    """

    task: Task
    rows: tuple[Row, ...] = ()
    problem: str = ""
    text: str = ""
    corrected: bool = False
    spent: tuple[tuple[Usage, float], ...] = ()

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
    tasks: Iterable[Task | None],
    *,
    sampling: Sampling = SAMPLING,
    progress: Advances | None = None,
) -> Iterator[Written]:
    """Has a teacher write the tasks; what came of them, in their order.

    As many scripts are on their way as keep the teacher busy (see `lm/line.py`): one that is answered asks
    on at once. A call that fails (refusal, timeout...) ends its script and is never read as a text.

    Args:
        tasks: taken as there is room for them; None where the next depends on what is yielded first.

    Raises:
        HornbookError: the teacher left `DOWN_AFTER` calls in a row unanswered, or more than
            `UNAVAILABLE_SHARE` of all calls: it is down, too slow or wrongly named. What it answered is in
            the call store, if it has one, and the same command asks only the rest.
    """
    service = _Service(teacher)
    waiting = iter(tasks)
    live: dict[int, _Live] = {}
    ready: dict[int, Written] = {}
    begun = next_out = 0
    more: Task | Literal["end"] | None = None
    with open_line(teacher) as line:
        asked: dict[int, tuple[int, int]] = {}  # number on the line -> script and place among its requests

        def go_on(number: int, one: _Live) -> None:
            """Until the script waits for an answer, or has come to its end."""
            while one.go_on():
                for place, request in enumerate(one.asked):
                    asked[line.ask(request)] = number, place
                if one.asked:
                    return
            ready[number] = live.pop(number).written()

        while True:
            while len(live) < line.at_once and more != "end":
                more = next(waiting, "end")
                if more is None or more == "end":
                    break
                live[begun] = one = _Live(more, Work(id=more.id, sampling=sampling))
                begun += 1
                go_on(begun - 1, one)
            while next_out in ready:
                if progress is not None:
                    progress.advance()
                yield ready.pop(next_out)
                next_out += 1
            if not live and more == "end":
                break
            for on_line, answer in line.answers():
                number, place = asked.pop(on_line)
                one = live[number]
                service.count(answer)
                if one.take(place, answer, service.call_of(one.asked[place])):
                    go_on(number, one)
    service.finish()


class _Live:
    """A script on its way: `asked` is what it waits for."""

    def __init__(self, task: Task, work: Work) -> None:
        self.task, self.work = task, work
        self.asked: Sequence[Request] = ()
        self._begun = False
        self._answers: dict[int, tuple[Completion | Failure, str | None]] = {}
        self._spent: list[tuple[Usage, float]] = []
        self._script = task.script(work)
        self._rows: Sequence[Row] = ()
        self._rejected = Rejected("nothing was written")

    def take(self, place: int, answer: Completion | Failure, call: str | None) -> bool:
        """One answer and the key of its stored call; whether all are there."""
        self._answers[place] = answer, call
        self._spent.append((answer.usage, getattr(answer, "latency_seconds", 0.0)))
        return len(self._answers) == len(self.asked)

    def go_on(self) -> bool:
        """Begins the script, or gives it its answers; whether it asks for more."""
        answers = [self._answers[place] for place in range(len(self.asked))]
        self._answers = {}
        try:
            if not self._begun:
                self._begun = True
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
            why = self._rejected
            return Written(task=self.task, problem=why.reason, text=why.text, spent=tuple(self._spent))
        calls = self.work.calls
        lineage = {"call": calls[-1], **({"calls": calls} if len(calls) > 1 else {})} if calls else {}
        rows = tuple(
            {**row, "meta": json.dumps({**json.loads(row["meta"]), **lineage}, ensure_ascii=False)}
            for row in self._rows
        )
        spent = tuple(self._spent)
        return Written(task=self.task, rows=rows, corrected=self.work.corrected, spent=spent)


class _Service:
    """Counts what the teacher left unanswered."""

    def __init__(self, teacher: LanguageModel) -> None:
        self.teacher = teacher
        self._unavailable: Counter[str] = Counter()
        self._answered = self._in_a_row = 0
        self._said = ""

    def count(self, answer: Completion | Failure) -> None:
        """Raises if it is one too many in a row that did not come."""
        if not (isinstance(answer, Failure) and answer.kind in UNAVAILABLE):
            self._answered += 1
            self._in_a_row = 0
            return
        self._in_a_row += 1
        self._unavailable[answer.kind] += 1
        self._said = self._said or answer.message
        if self._in_a_row >= DOWN_AFTER:
            raise self._down()

    def call_of(self, request: Request) -> str | None:
        """The key of the stored call that answered, so that a row leads back to it."""
        key_of: Callable[[Request], str | None] | None = getattr(self.teacher, "call_key", None)
        return None if key_of is None else key_of(request)

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
