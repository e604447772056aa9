"""How many calls an endpoint takes at once, found by asking.

One limit for each (endpoint, model), shared by everything in the process that
calls it. A round is as many calls as the limit. Each 429 takes one slot away:
as many as were refused are too many, but in one round no more than a fifth
(after a doubling, no more than it added). A single refusal (up to a fiftieth of
a round) is an accident: that call waits as it was told to, and its slot comes
back with the round's end. More, or as many over two rounds, are a full server:
all calls wait, the limit holds for an episode, and doubling is over. Clean
rounds double it until then and let it grow by a twentieth later. Server errors
and timeouts stop growth without a cut: they say that something is broken, not
that we are too many. One in a round, or up to a tenth of it, is any service's
weather and stops nothing. Before the first full server, the limit goes at once
to what an answer's headers say is left of the user's allowance.
"""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Literal, TypeAlias, TypeVar

Signal: TypeAlias = Literal["ok", "rate_limited", "fault", "neutral"]

_T = TypeVar("_T")

EPISODE_SECONDS = 5.0
"""How long a full server is left in peace; longer where one slot more is a large part of the limit."""
CUT = 0.8
DOUBLING_CUT = 0.5
GROWTH = 0.05
USED_SHARE = 0.8
ACCIDENTS = 0.02
WEATHER = 0.1
START = 8
MOST = 256


class AdaptiveLimit:
    """The limit of one endpoint. `acquire` before a call, `release` with what it said after.

    Thread-safe; waiters of different event loops may share it. `history` holds
    (seconds, limit, why) of each change, for the log.
    """

    def __init__(
        self,
        *,
        start: int = 8,
        least: int = 1,
        most: int = 256,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not 1 <= least <= start <= most:
            raise ValueError(f"need 1 <= least <= start <= most, got {least}, {start}, {most}")
        self.value = float(start)
        self.least, self.most = least, most
        self.in_use = 0
        self.doubling = True
        self.blocked_until = 0.0
        self._clock = clock
        self._episode_until = -1.0
        self._lock = threading.Lock()
        self._waiters: deque[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = deque()
        self.history: list[tuple[float, float, str]] = [(clock(), self.value, "start")]
        self._before = 0
        self._new_round()

    @property
    def slots(self) -> int:
        """The limit as a count."""
        return int(self.value)

    def _new_round(self) -> None:
        self._done, self._peak, self._faults = 0, self.in_use, 0
        self._refused, self._lost, self._begun = 0, 0.0, self.value

    async def acquire(self) -> None:
        """Wait for a free slot and for the end of a pause the server asked for."""
        while True:
            with self._lock:
                pause = self.blocked_until - self._clock()
                if pause <= 0 and self.in_use < self.slots:
                    self.in_use += 1
                    self._peak = max(self._peak, self.in_use)
                    return
                future: asyncio.Future[None] | None = None
                if pause <= 0:
                    loop = asyncio.get_running_loop()
                    future = loop.create_future()
                    self._waiters.append((loop, future))
            if future is None:
                await asyncio.sleep(pause)
            else:
                try:
                    await future
                except asyncio.CancelledError:
                    # A wake-up that came with the cancellation belongs to the next in line.
                    with self._lock:
                        self._wake()
                    raise

    def release(self, signal: Signal, *, retry_after: float = 0.0, allowed: int | None = None) -> None:
        """Give the slot back and say how the call went.

        allowed: how many calls more the server says it takes now.
        """
        with self._lock:
            self.in_use -= 1
            now = self._clock()
            if signal == "rate_limited":
                self._done += 1
                self._refused += 1
                if self._refused > ACCIDENTS * self._begun:  # else it asks only this call to wait
                    self.blocked_until = max(self.blocked_until, now + retry_after)
                most = DOUBLING_CUT if self.doubling else CUT
                less = max(float(self.least), self._begun * most, self.value - 1)
                self._lost += self.value - less
                self.value = less
            elif signal == "fault":
                self._faults += 1
                self._done += 1
            elif signal == "ok":
                self._done += 1
                if self.doubling and allowed is not None and allowed > self.value:
                    self.value = min(float(self.most), float(allowed))
                    self.history.append((now, self.value, "allowed"))
            if self._done >= int(self._begun):
                self._end_round(now)
            self._wake()

    def _end_round(self, now: float) -> None:
        both, self._before = self._before + self._refused, self._refused
        again = both > self._refused > 0 and both > max(1, 2 * ACCIDENTS * self._begun)
        if again or self._refused > max(1, ACCIDENTS * self._begun):
            self.doubling = False
            peace = EPISODE_SECONDS * max(1.0, 1 / (GROWTH * self.value))
            self._episode_until = max(self._episode_until, now + peace)
            self.history.append((now, self.value, "rate limited"))
        else:
            self.value += self._lost
        weather = self._faults <= max(1, WEATHER * self._begun)
        calm = weather and not self._refused and now >= self._episode_until
        if calm and self._peak >= USED_SHARE * self.slots and self.value < self.most:
            grown = self.value * 2 if self.doubling else self.value + max(1.0, GROWTH * self.value)
            self.value = min(float(self.most), grown)
            self.history.append((now, self.value, "doubled" if self.doubling else "grown"))
        self._new_round()

    def _wake(self) -> None:
        free = self.slots - self.in_use
        while free > 0 and self._waiters:
            loop, future = self._waiters.popleft()
            if loop.is_closed():
                continue
            try:
                running = asyncio.get_running_loop()
            except RuntimeError:
                running = None
            if running is loop:
                if future.done():
                    continue
                future.set_result(None)
            else:
                loop.call_soon_threadsafe(_set, future)
            free -= 1


def _set(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)


_limits: dict[tuple[str, str], AdaptiveLimit] = {}
_limits_lock = threading.Lock()


def limit_for(url: str, model: str, *, most: int | None) -> AdaptiveLimit:
    """The limit that every caller of this endpoint and model shares. A smaller `most` wins.

    most: the user knows how many calls the endpoint takes: start there. None: find out.
    """
    with _limits_lock:
        limit = _limits.get((url, model))
        if limit is None:
            start, most = (START, MOST) if most is None else (most, most)
            limit = _limits[url, model] = AdaptiveLimit(start=start, most=most)
        elif most is not None and most < limit.most:
            limit.most = most
            limit.value = float(most) if limit.doubling else min(limit.value, float(most))
        return limit


def run_blocking(work: Coroutine[Any, Any, _T]) -> _T:
    """Run to the end from synchronous code, also from inside a running loop (a notebook)."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    result: list[_T] = []
    failed: list[BaseException] = []

    def target() -> None:
        try:
            result.append(asyncio.run(work))
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=target, name="hornbook-endpoint")
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return result[0]
