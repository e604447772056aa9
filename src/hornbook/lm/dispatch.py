"""Keeps an endpoint's calls under way: as many as its limit allows, each paid for once, until nobody asks.

A request is looked up in the call store, leased there (another process that wants the same answer waits for
ours), called within the ledger's budget, and delivered. What one call takes, with its retries and its
correction, is the model's matter (`endpoint.py`).
"""

import asyncio
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self, TypeAlias

from hornbook.errors import HornbookError
from hornbook.lm.base import Advances, Completion, Failure, Request
from hornbook.lm.concurrency import AdaptiveLimit
from hornbook.lm.endpoint_settings import EndpointSettings
from hornbook.lm.ledger import Ledger
from hornbook.lm.pools import Pools
from hornbook.lm.store import CallStore
from hornbook.lm.wire import as_cached

Result: TypeAlias = Completion | Failure

_LOOKED_AT_TOGETHER = 64
_BEYOND_LIMIT = 16
"""Calls that stand ready for a free slot: their keys and leases are made while others are answered."""
_LEASE_POLL_SECONDS = 0.05
_DRAIN_SECONDS = 3.0


@dataclass(slots=True)
class Job:
    """What the calls of one dispatch share. `stop`: why nothing more is asked."""

    pools: Pools
    stop: BaseException | None = None
    answered: bool = False


class Caller(Protocol):
    """What a dispatch needs of its model."""

    model: str
    settings: EndpointSettings
    store: CallStore | None
    ledger: Ledger

    @property
    def limit(self) -> AdaptiveLimit: ...

    def open_pools(self) -> Pools: ...

    def call_key(self, request: Request) -> str: ...

    def known(self, request: Request) -> Result | None:
        """The result from the call store, counted; None: it must be asked for."""
        ...

    async def answer(self, job: Job, request: Request) -> Result:
        """The result of calls; raises what no other request would survive either."""
        ...


class Dispatch:
    """The calls of one `complete` or one line. `deliver(number, result)` is called in the thread of `run`."""

    def __init__(self, caller: Caller, deliver: Callable[[int, Result], None]) -> None:
        self._caller, self._deliver = caller, deliver
        self._asked: deque[tuple[int, Request]] = deque()
        self._ready: deque[tuple[str, Request]] = deque()  # leased, and waiting for a slot
        self._elsewhere: deque[tuple[str, Request]] = deque()  # leased by others, who may answer for us
        self._numbers: dict[str, list[int]] = {}  # who waits for a call
        self._answered: dict[str, Result] = {}  # without a store: the same call is paid once all the same
        self._tasks: set[asyncio.Task[None]] = set()
        self._owner = caller.store.new_owner() if caller.store is not None else ""
        self._next_look = 0.0
        self._closed = False
        self._running: tuple[asyncio.AbstractEventLoop, asyncio.Event] | None = None
        self._woken = False

    def ask(self, number: int, request: Request) -> None:
        """From any thread."""
        self._asked.append((number, request))
        self._wake_from_outside()

    def close(self) -> None:
        """Nothing more will be asked: `run` ends when all is answered. From any thread."""
        self._closed = True
        self._wake_from_outside()

    def _wake_from_outside(self) -> None:
        if self._running is not None and not self._woken:
            self._woken = True  # one wake-up for all that is asked until it is heard
            loop, event = self._running
            with suppress(RuntimeError):  # the loop has ended: with an error that `run` raises
                loop.call_soon_threadsafe(event.set)

    async def run(self) -> None:
        """Until everything asked is delivered and `close` was called.

        Raises what stops all calls (a wrong key, the budget), after those under way have landed.
        """
        event = asyncio.Event()
        job = Job(self._caller.open_pools())
        self._running = asyncio.get_running_loop(), event
        try:
            while job.stop is None:
                event.clear()
                self._woken = False
                looked = self._start(job, event)
                if job.stop is not None or (self._closed and self._idle()):
                    break
                if looked:  # there is more to look at: let the calls under way have their turn
                    await asyncio.sleep(0)
                    continue
                with suppress(TimeoutError):
                    async with asyncio.timeout(_LEASE_POLL_SECONDS if self._elsewhere else None):
                        await event.wait()
            if self._tasks:
                await asyncio.wait(self._tasks)
        except asyncio.CancelledError:
            # Ctrl-C: what is in flight is being paid for; give it a moment to land.
            job.stop = HornbookError("interrupted")
            if self._tasks:
                await asyncio.wait(self._tasks, timeout=_DRAIN_SECONDS)
            raise
        finally:
            if self._caller.store is not None:
                self._caller.store.release([key for key, _ in self._ready], owner=self._owner)
            await job.pools.close()
        if job.stop is not None:
            raise job.stop

    def _idle(self) -> bool:
        return not (self._tasks or self._asked or self._ready or self._elsewhere)

    def _start(self, job: Job, event: asyncio.Event) -> bool:
        """Starts what the limit and the budget allow; whether it stopped only to let others have a turn."""
        looked = False
        while job.stop is None and len(self._tasks) < self._caller.limit.slots + _BEYOND_LIMIT:
            if not self._ready:
                if looked:
                    return True
                looked = self._look()
                if not self._ready:
                    return looked
            if not self._caller.ledger.room_for(self._caller.model, len(self._tasks)):
                if not self._tasks:
                    job.stop = self._caller.ledger.exceeded()
                return False
            key, request = self._ready.popleft()
            task = asyncio.create_task(self._call(job, key, request))
            self._tasks.add(task)

            def ended(task: "asyncio.Task[None]") -> None:
                self._tasks.discard(task)
                event.set()

            task.add_done_callback(ended)
        return False

    async def _call(self, job: Job, key: str, request: Request) -> None:
        try:
            self._settle(key, await self._caller.answer(job, request))
        except Exception as error:  # raised by `run`, once the others have landed
            job.stop = job.stop or error
        finally:
            if self._caller.store is not None:
                self._caller.store.release_soon(key, owner=self._owner)

    def _settle(self, key: str, result: Result) -> None:
        first, *twins = self._numbers.pop(key)
        if self._caller.store is None:
            self._answered[key] = result
        self._deliver(first, result)
        for number in twins:
            self._deliver(number, self._again(result))

    def _again(self, result: Result) -> Result:
        """The result of a call that somebody else asked for, too."""
        own = as_cached(result)
        self._caller.ledger.add(self._caller.model, own.usage)
        return own

    def _look(self) -> bool:
        """Looks at the next of what is asked: known ones are delivered, the others leased. Whether it did."""
        fresh: list[tuple[str, Request]] = []
        if self._elsewhere and time.monotonic() >= self._next_look:
            self._next_look = time.monotonic() + _LEASE_POLL_SECONDS
            for _ in range(len(self._elsewhere)):
                key, request = self._elsewhere.popleft()
                result = self._caller.known(request)
                if result is None:
                    fresh.append((key, request))  # perhaps they died: up for a new lease
                else:
                    self._settle(key, result)
        count = min(_LOOKED_AT_TOGETHER, len(self._asked))
        for _ in range(count):
            number, request = self._asked.popleft()
            key = self._caller.call_key(request)
            if key in self._numbers:
                self._numbers[key].append(number)
            elif key in self._answered:
                self._deliver(number, self._again(self._answered[key]))
            elif (result := self._caller.known(request)) is not None:
                self._deliver(number, result)
            else:
                self._numbers[key] = [number]
                fresh.append((key, request))
        self._lease(fresh)
        return count > 0

    def _lease(self, fresh: Sequence[tuple[str, Request]]) -> None:
        store = self._caller.store
        if store is None or not fresh:
            self._ready.extend(fresh)
            return
        seconds = self._caller.settings.deadline_seconds * 2 + 60
        ours = store.claim([key for key, _ in fresh], owner=self._owner, seconds=seconds)
        for item, mine in zip(fresh, ours, strict=True):
            (self._ready if mine else self._elsewhere).append(item)


@dataclass(frozen=True, slots=True)
class _End:
    """The last thing that a line delivers. `error`: why it broke."""

    error: BaseException | None


class EndpointLine:
    """The line of an endpoint, or of several of which `choose` says who is asked (see `line.Line`).

    A dispatch each, in one thread of their own. When one breaks, the others answer what they were asked.
    """

    def __init__(
        self,
        callers: Sequence[Caller],
        choose: Callable[[Request], Caller] | None = None,
        *,
        progress: Advances | None = None,
    ) -> None:
        self._callers, self._choose, self._progress = callers, choose, progress
        self._results: queue.SimpleQueue[tuple[int, Result] | _End] = queue.SimpleQueue()
        self._dispatches = [Dispatch(caller, self._deliver) for caller in callers]
        self._asked = self._under_way = 0
        self._broken: BaseException | None = None
        self._work: tuple[asyncio.AbstractEventLoop, asyncio.Task[None]] | None = None
        self._begun = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="hornbook-line", daemon=True)

    @property
    def at_once(self) -> int:
        """Four times the most calls at once: while the reader thinks, the next stand ready."""
        return 4 * sum(caller.limit.most for caller in self._callers)

    def ask(self, request: Request) -> int:
        number = self._asked
        self._asked += 1
        self._under_way += 1
        chosen = self._callers[0] if self._choose is None else self._choose(request)
        self._dispatches[self._callers.index(chosen)].ask(number, request)
        return number

    def answers(self) -> Sequence[tuple[int, Result]]:
        if self._broken is not None:
            raise self._broken
        found: list[tuple[int, Result]] = []
        while self._under_way:
            try:
                item = self._results.get_nowait() if found else self._results.get()
            except queue.Empty:
                break
            if isinstance(item, _End):
                self._broken = item.error or HornbookError("The line was closed.")
                if not found:
                    raise self._broken
                break
            found.append(item)
            self._under_way -= 1
        if self._progress is not None and found:
            self._progress.advance(len(found))
        return found

    def __enter__(self) -> Self:
        self._thread.start()
        self._begun.wait()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()
        if error is not None and self._work is not None:
            loop, work = self._work
            with suppress(RuntimeError):  # it has ended by itself
                loop.call_soon_threadsafe(work.cancel)
        self._thread.join()

    def _deliver(self, number: int, result: Result) -> None:
        self._results.put((number, result))

    def _close(self) -> None:
        for dispatch in self._dispatches:
            dispatch.close()

    def _serve(self) -> None:
        ended: BaseException | None = None
        try:
            asyncio.run(self._run())
        except BaseException as error:
            ended = error
        self._begun.set()
        for caller in self._callers:
            if caller.store is not None:
                caller.store.leave()
        self._results.put(_End(ended))

    async def _run(self) -> None:
        async def one(dispatch: Dispatch) -> None:
            try:
                await dispatch.run()
            except Exception:
                self._close()
                raise

        runs = asyncio.gather(*map(one, self._dispatches), return_exceptions=True)
        task = asyncio.current_task()
        assert task is not None
        self._work = asyncio.get_running_loop(), task
        self._begun.set()
        for error in await runs:
            if error is not None:
                raise error
