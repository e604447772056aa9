"""Plans of which more are drawn than written: by number, when they are looked at, and as often as one likes.

A writer says what its task number n is; how many are drawn, which of them are written and what is never hit
is the same for every writer, and stands in `teaching`.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, repeat
from pathlib import Path
from typing import Generic, TypeVar, overload

from hornbook.lab.files import sha256_of
from hornbook.synth.clusters import cluster_names

T = TypeVar("T")
ENDLESS = 1 << 62
"""The length of a sequence of plans that never ends."""
POOL = 20_000
"""Most passages that are looked at for clusters and offered to the sampler."""


@dataclass(frozen=True)
class Drawn(Sequence[T], Generic[T]):
    """A sequence whose member n is `draw(n)`, made anew each time."""

    draw: Callable[[int], T]
    size: int = ENDLESS

    def __len__(self) -> int:
        return self.size

    @overload
    def __getitem__(self, at: int) -> T: ...
    @overload
    def __getitem__(self, at: slice) -> list[T]: ...
    def __getitem__(self, at: int | slice) -> T | list[T]:
        if isinstance(at, slice):
            return [self.draw(number) for number in range(*at.indices(self.size))]
        if not 0 <= at < self.size:
            raise IndexError(at)
        return self.draw(at)


def clustered(texts: Sequence[tuple[str, str]]) -> list[tuple[str, str, str]]:
    """(id, text, name of its cluster) of passages, for the facet `about` of what is written from them."""
    names = cluster_names([text for _, text in texts])
    return [(id, text, name) for (id, text), name in zip(texts, names, strict=True)]


def batches(first: int) -> Iterator[int]:
    """Sizes of a steered session's batches: the rows of the preview, then ever larger ones, so that waiting
    for the last answers of a batch costs ever less of the time."""
    return chain((first, 64 - first, 64, 128, 256, 512), repeat(1024))


class Choices:
    """The plans that were chosen so far, in a file that outlives the process: one line a choice of a batch.

    `key` says which plans of which teacher they are numbers of.
    """

    def __init__(self, folder: Path, key: object) -> None:
        self.path = folder / f"{sha256_of(key)[:16]}.jsonl"

    def read(self) -> list[int]:
        """Every number that was chosen, in order; a line that was cut off was never acted on."""
        if not self.path.is_file():
            return []
        found: list[int] = []
        for line in self.path.read_text(encoding="utf-8").splitlines():
            try:
                numbers = json.loads(line)
            except ValueError:
                continue
            found += [number for number in numbers if isinstance(number, int)]
        return found

    def add(self, numbers: Sequence[int]) -> None:
        """One more line, written before the calls are made."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a+", encoding="utf-8") as file:
            file.write(f"\n{json.dumps(list(numbers))}\n")
