"""Requests from many threads, answered by one: what stands between a server and the engine.

One thread does the passes. Requests enter at any moment and join the batch at its next step; a
cancelled one leaves it at its next step. Free rows go to the request that has the fewest, oldest first,
so that one request for many samples does not hold up its neighbours.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

import torch

from hornbook.errors import HornbookError
from hornbook.infer.engine import Engine
from hornbook.infer.scheduler import Job
from hornbook.lm.base import Sampling

Result = TypeVar("Result")


class Busy(HornbookError):
    """The queue is full: nothing is wrong with the request; ask again later."""


class Ticket:
    """One request inside the service. Its `answers` grow while it is open.

    Attributes:
        prompt: the token ids read.
        sampling: as it is carried out (`max_tokens` is cut to the room in the context).
        answers: one for each sample; `reason` of an answer is None until it has ended.
        error: what made the engine fail, or None.
    """

    def __init__(self, answers: list[Job], on_change: Callable[[], None], every_token: bool) -> None:
        self.prompt, self.sampling = answers[0].prompt, answers[0].sampling
        self.answers = answers
        self.error: Exception | None = None
        self._on_change, self._every_token = on_change, every_token
        self._told = 0

    @property
    def done(self) -> bool:
        """Whether every answer has ended."""
        return self.error is not None or all(answer.reason is not None for answer in self.answers)

    def cancel(self) -> None:
        """Gives up what has not ended; what it held is free at the next pass."""
        for answer in self.answers:
            answer.cancelled = True

    def tell(self) -> None:
        """Calls `on_change` if there is news since the last call (the service's thread does)."""
        if self._every_token:
            size = sum(len(answer.tokens) + (answer.reason is not None) for answer in self.answers)
        else:
            size = int(self.done)
        if size != self._told or self.error is not None:
            self._told = size
            self._on_change()


class Service:
    """Keeps one engine busy with the requests of many clients.

    Args:
        engine: it may be used elsewhere too; steps of both take turns.
        max_waiting: samples that may wait for a row; beyond that a request is refused (`Busy`).

    `close` ends the thread; open tickets end as cancelled.
    """

    def __init__(self, engine: Engine, *, max_waiting: int = 256) -> None:
        if max_waiting < 1:
            raise HornbookError(f"Service max_waiting is {max_waiting}; it must be at least 1.")
        self.engine, self.max_waiting = engine, max_waiting
        self._waiting: list[tuple[Ticket, Job]] = []
        self._open: list[Ticket] = []
        self._jobs: list[tuple[Future[Any], Callable[[], None]]] = []
        self._closed = False
        self._wake = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="hornbook-engine", daemon=True)
        self._thread.start()

    # -- from any thread ------------------------------------------------------------------------

    def submit(
        self,
        prompt: Sequence[int],
        sampling: Sampling,
        *,
        samples: int = 1,
        schema: Mapping[str, Any] | None = None,
        on_change: Callable[[], None] = lambda: None,
        every_token: bool = False,
    ) -> Ticket:
        """Queues a request. `on_change` is called from the service's thread when all answers have ended;
        with `every_token` after every step that added to one of them. schema: a JSON Schema to answer by.

        Raises:
            Busy: the queue is full.
            HornbookError: a prompt that is empty, of another vocabulary or too long for the context, a
                request that would not fit the memory, or a schema that nothing satisfies.
        """
        if samples < 1:
            raise HornbookError(f"samples is {samples}; it must be at least 1.")
        jobs = self.engine.jobs([prompt], sampling, [range(samples)], schemas=[schema])
        ticket = Ticket(jobs, on_change, every_token)
        with self._wake:
            if self._closed:
                raise Busy("The server is stopping.")
            rows = self.engine.max_rows - self.running  # some of those that wait will not wait long
            if len(self._waiting) + samples > self.max_waiting + rows:
                raise Busy(
                    f"The queue is full: {len(self._waiting)} answers wait, at most {self.max_waiting} may. "
                    f"Try again in a moment."
                )
            self._open.append(ticket)
            self._waiting += [(ticket, job) for job in jobs]
            self._wake.notify()
        return ticket

    def call(self, function: Callable[[], Result]) -> "Future[Result]":
        """Runs `function` on the engine's thread between two steps (with the engine's lock held)."""
        future: Future[Result] = Future()

        def job() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                with self.engine.lock, torch.inference_mode():
                    result = function()
            except Exception as error:
                future.set_exception(error)
            else:
                future.set_result(result)

        with self._wake:
            if self._closed:
                raise Busy("The server is stopping.")
            if len(self._jobs) >= self.max_waiting:
                raise Busy(f"The queue is full: {len(self._jobs)} jobs wait. Try again in a moment.")
            self._jobs.append((future, job))
            self._wake.notify()
        return future

    @property
    def running(self) -> int:
        """Answers being drawn now."""
        return len(self.engine.scheduler.live)

    @property
    def waiting(self) -> int:
        """Answers that wait for a row."""
        return len(self._waiting)

    def close(self) -> None:
        """Cancels what is open and ends the thread."""
        with self._wake:
            self._closed = True
            for ticket in self._open:
                ticket.cancel()
            for future, _ in self._jobs:
                future.cancel()
            self._wake.notify()
        self._thread.join()

    # -- the engine's thread --------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            with self._wake:
                while not (self._open or self._jobs or self._closed):
                    self._wake.wait()
                if self._closed and not self._open:
                    return
                _, job = self._jobs.pop(0) if self._jobs else (None, None)
            try:
                if job is not None:
                    job()
                if self._open:
                    self._turn()
            except Exception as error:  # whatever it was, its clients must hear of it
                self._fail(error)

    def _turn(self) -> None:
        """One step: the cancelled leave, the waiting enter, every live row draws a token."""
        with self._wake:
            for _, job in self._waiting:
                if job.cancelled:
                    job.reason = "cancelled"  # of those in rows the scheduler says so
            self._waiting = [entry for entry in self._waiting if entry[1].reason is None]
        with self.engine.lock, torch.inference_mode():
            self._admit()
            self.engine.scheduler.step()
        for ticket in self._open:
            ticket.tell()
        with self._wake:
            self._open = [ticket for ticket in self._open if not ticket.done]

    def _admit(self) -> None:
        """Gives free rows to waiting answers."""
        scheduler = self.engine.scheduler
        while self._waiting and len(scheduler.live) + len(scheduler.waiting) < self.engine.max_rows:
            entry = self._next()
            with self._wake:
                self._waiting.remove(entry)
            scheduler.submit(entry[1])

    def _next(self) -> tuple[Ticket, Job]:
        """The oldest answer of the request with the fewest rows."""
        rows = {
            id(ticket): sum(a.reason is None for a in ticket.answers)
            - sum(waiting is ticket for waiting, _ in self._waiting)
            for ticket, _ in self._waiting
        }
        return min(self._waiting, key=lambda entry: rows[id(entry[0])])

    def _fail(self, error: Exception) -> None:
        with self._wake:
            failed, self._open, self._waiting = self._open, [], []
        for ticket in failed:
            ticket.error = error
            ticket.cancel()
            ticket.tell()
