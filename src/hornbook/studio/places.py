"""A limited number of places, taken in the order of arrival; who waits knows how many are before him."""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from hornbook.errors import HornbookError


class Full(HornbookError):
    """Nobody else may even wait."""


class Place:
    """One visitor, from the queue to the end."""

    def __init__(self, places: "Places") -> None:
        self._places = places
        self._free = asyncio.Event()

    @property
    def taken(self) -> bool:
        """Whether the visitor is in."""
        return self._free.is_set()

    @property
    def number(self) -> int:
        """How many are served before this one is, itself counted; 0 once it is in."""
        return 0 if self.taken else self._places.number_of(self)

    def call(self) -> None:
        """Lets the visitor in."""
        self._free.set()

    async def wait(self, seconds: float) -> bool:
        """Waits at most so long to be let in; whether it was."""
        try:
            await asyncio.wait_for(self._free.wait(), seconds)
        except TimeoutError:
            return False
        return True


class Places:
    """`limit` places and a queue of at most `queue`; used on one event loop."""

    def __init__(self, limit: int, queue: int) -> None:
        self.limit, self.queue = limit, queue
        self.taken = 0
        self._waiting: OrderedDict[Place, None] = OrderedDict()

    @property
    def waiting(self) -> int:
        """How many are in the queue."""
        return len(self._waiting)

    def number_of(self, place: Place) -> int:
        """The place in the queue, from 1."""
        return next((i for i, other in enumerate(self._waiting, 1) if other is place), 0)

    @asynccontextmanager
    async def enter(self) -> AsyncIterator[Place]:
        """A place, free or waited for inside the block; left, however the block ends.

        Raises:
            Full: the queue is full too.
        """
        place = Place(self)
        if self.taken < self.limit and not self._waiting:
            self.taken += 1
            place.call()
        elif len(self._waiting) >= self.queue:
            raise Full(
                f"All {self.limit} places are taken and {len(self._waiting)} wait already; ask again later."
            )
        else:
            self._waiting[place] = None
        try:
            yield place
        finally:
            if place.taken:
                self.taken -= 1
                self._call_next()
            else:
                self._waiting.pop(place, None)

    def _call_next(self) -> None:
        while self._waiting and self.taken < self.limit:
            place, _ = self._waiting.popitem(last=False)
            self.taken += 1
            place.call()
