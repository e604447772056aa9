"""Requests in, results out in whatever order they come: how to keep a model busy while its answers are read.

`complete` is a wave: it ends with its slowest answer, and nothing new is asked meanwhile. Whoever reads an
answer and asks on (a script of several calls, a grader) opens a line instead and keeps some `at_once`
requests on it. An endpoint works through what is on its line without a pause; a model on this machine, which
is fastest in batches, takes all that has gathered when the next answers are waited for.
"""

from collections.abc import Sequence
from types import TracebackType
from typing import Protocol, Self, runtime_checkable

from hornbook.lm.base import Advances, Completion, Failure, LanguageModel, Request

AT_ONCE = 256
"""Requests that are best on the line of a model which does not say so itself (`at_once`)."""


class Line(Protocol):
    """A context manager. Leaving it waits for what is under way; leaving it by an error does so for a moment
    only: what has been paid for shall land in the call store."""

    @property
    def at_once(self) -> int:
        """How many requests are best under way together: enough that the model never waits for us."""
        ...

    def ask(self, request: Request) -> int:
        """Puts a request on the line and returns its number: 0, 1, 2, ..."""
        ...

    def answers(self) -> Sequence[tuple[int, Completion | Failure]]:
        """Waits for results and returns all that are there, with their numbers; empty: nothing is under way.

        Raises what `complete` raises, once the results that came before it have been returned.
        """
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


@runtime_checkable
class Streaming(Protocol):
    """A model whose answers come one by one, in any order: an endpoint, or several."""

    def line(self, *, progress: Advances | None = None) -> Line: ...


def open_line(model: LanguageModel, *, progress: Advances | None = None) -> Line:
    """A line to any model; `progress` counts its answers."""
    return model.line(progress=progress) if isinstance(model, Streaming) else Waves(model, progress=progress)


class Waves:
    """The line of a model that takes lists: each look at the answers asks for all that has gathered."""

    def __init__(self, model: LanguageModel, *, progress: Advances | None = None) -> None:
        self._model, self._progress = model, progress
        self._gathered: list[Request] = []
        self._asked = 0

    @property
    def at_once(self) -> int:
        return int(getattr(self._model, "at_once", AT_ONCE))

    def ask(self, request: Request) -> int:
        self._gathered.append(request)
        self._asked += 1
        return self._asked - 1

    def answers(self) -> Sequence[tuple[int, Completion | Failure]]:
        if not self._gathered:
            return []
        wave, self._gathered = self._gathered, []
        return list(enumerate(self._model.complete(wave, progress=self._progress), self._asked - len(wave)))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._gathered = []
