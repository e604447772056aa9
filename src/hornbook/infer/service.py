"""Requests from many threads, answered by one: what stands between a server and the engine.

One thread owns the scheduler. Requests enter at any moment and join the batch at its next step; a
cancelled one leaves it at its next step. Free rows go to the request that has the fewest, oldest first,
so that one request for many samples does not hold up its neighbours.
"""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

import torch

from hornbook.errors import HornbookError
from hornbook.infer.engine import Engine
from hornbook.infer.scheduler import PREFILL_TOKENS, Answer, Layout, Scheduler, Work
from hornbook.lm.base import Sampling

Result = TypeVar("Result")

_LEAST_SLOTS = 512
"""Tokens of prompt and answer that every row has room for, whatever the first request was."""


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

    def __init__(self, works: list[Work], on_change: Callable[[], None], every_token: bool) -> None:
        self.works = works
        self.prompt, self.sampling = works[0].prompt, works[0].sampling
        self.answers: list[Answer] = [work.answers[0] for work in works]
        self.error: Exception | None = None
        self._on_change, self._every_token = on_change, every_token
        self._told = 0

    @property
    def done(self) -> bool:
        """Whether every answer has ended."""
        return self.error is not None or all(answer.reason is not None for answer in self.answers)

    def cancel(self) -> None:
        """Gives up what has not ended; the rows are free at the scheduler's next step."""
        for work in self.works:
            work.cancelled = True

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
        self._scheduler: Scheduler | None = None
        self._long_rope = False
        self._waiting: list[tuple[Ticket, Work]] = []
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
        on_change: Callable[[], None] = lambda: None,
        every_token: bool = False,
    ) -> Ticket:
        """Queues a request. `on_change` is called from the service's thread when all answers have ended;
        with `every_token` after every step that added to one of them.

        Raises:
            Busy: the queue is full.
            HornbookError: a prompt that is empty, of another vocabulary or too long for the context, or a
                request that would not fit the memory.
        """
        if samples < 1:
            raise HornbookError(f"samples is {samples}; it must be at least 1.")
        sampling = self.engine.check(prompt, sampling)
        ids = [int(token) for token in prompt]
        works = []
        for sample in range(samples):
            work = Work(
                index=0, prompt=ids, sampling=sampling, samples=1, stop_tokens=self.engine.stop_tokens
            )
            work.answers = [Answer(prompt=0, sample=sample)]
            works.append(work)
        self.engine.plan(works[:1], 1)  # refuses what can never fit
        ticket = Ticket(works, on_change, every_token)
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
            self._waiting += [(ticket, work) for work in works]
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
        return 0 if self._scheduler is None else self._scheduler.live

    @property
    def _busy(self) -> bool:
        return self._scheduler is not None and not self._scheduler.idle

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
                while not (self._open or self._jobs or self._busy or self._closed):
                    self._wake.wait()
                if self._closed and not self._open:
                    return
                _, job = self._jobs.pop(0) if self._jobs else (None, None)
            try:
                if job is not None:
                    job()
                if self._open or self._busy:
                    self._turn()
            except Exception as error:  # whatever it was, its clients must hear of it
                self._fail(error)

    def _turn(self) -> None:
        """One step: the cancelled leave, the waiting enter, every live row draws a token."""
        with self._wake:
            for _, work in self._waiting:
                if work.cancelled:
                    work.answers[0].reason = "cancelled"  # of those in rows the scheduler says so
            self._waiting = [entry for entry in self._waiting if entry[1].answers[0].reason is None]
        with self.engine.lock, torch.inference_mode():
            self._admit()
            if self._scheduler is not None:
                self._scheduler.step()
        for ticket in self._open:
            ticket.tell()
        with self._wake:
            self._open = [ticket for ticket in self._open if not ticket.done]

    def _admit(self) -> None:
        """Gives free rows to waiting works, at most `PREFILL_TOKENS` of prompts (or one prompt) a step."""
        tokens = 0
        while self._waiting:
            ticket, work = self._next()
            if tokens and tokens + len(work.prompt) > PREFILL_TOKENS:
                return
            if not self._fits(work):
                if self._busy:
                    return  # the batch ends first: nobody overtakes the one that waits for more room
                self._scheduler = None
                self._scheduler = self._made_for(work)
            assert self._scheduler is not None
            if self._scheduler.live + len(self._scheduler.waiting) >= self._scheduler.layout.prompts:
                return
            with self._wake:
                self._waiting.remove((ticket, work))
            self._scheduler.submit(work)
            tokens += len(work.prompt)

    def _next(self) -> tuple[Ticket, Work]:
        """The oldest work of the request with the fewest rows."""
        rows = {
            id(ticket): sum(a.reason is None for a in ticket.answers)
            - sum(waiting is ticket for waiting, _ in self._waiting)
            for ticket, _ in self._waiting
        }
        return min(self._waiting, key=lambda entry: rows[id(entry[0])])

    def _is_long(self, work: Work) -> bool:
        rope = self.engine.config.long_rope
        return rope is not None and work.longest > rope.original_max_position

    def _fits(self, work: Work) -> bool:
        if self._scheduler is None or self._is_long(work) != self._long_rope:
            return False
        return work.longest <= self._scheduler.layout.slots

    def _made_for(self, work: Work) -> Scheduler:
        """A scheduler whose rows have room for `work` and for the usual request."""
        engine = self.engine
        slots = min(engine.config.max_position, max(work.longest, _LEAST_SLOTS))
        fits = engine.tokens_that_fit()
        rows = min(engine.max_rows, (fits - PREFILL_TOKENS) // slots)
        if rows < 1:
            rows, slots = 1, work.longest
        self._long_rope = self._is_long(work)
        rope = engine.config.long_rope
        if rope is None or self._long_rope:
            rope_length = engine.config.max_position
        else:
            rope_length = rope.original_max_position
        return Scheduler(
            engine.model,
            Layout(prompts=rows, width=1, slots=slots, prompt_slots=0, shared=False, rope_length=rope_length),
            cache_dtype=engine.cache_dtype,
            device=engine.device,
            pieces=engine.pieces,
        )

    def _fail(self, error: Exception) -> None:
        with self._wake:
            failed, self._open, self._waiting, self._scheduler = self._open, [], [], None
        for ticket in failed:
            ticket.error = error
            ticket.tell()
