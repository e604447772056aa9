"""Where a corpus is examined: in this process, in a pool of processes, or on a Daft-on-Ray cluster.

The work is the same function of a piece everywhere, so the results are the same bytes. A place gives results
in any order, and may lose workers: what it had begun is begun again, and what ends worker after worker is
named.
"""

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from typing import Protocol

from hornbook.curate.examined import pack
from hornbook.curate.pieces import Piece
from hornbook.curate.pipeline import Examiner
from hornbook.errors import HornbookError
from hornbook.lab.workers import follow_parent

Results = Iterator[tuple[int, bytes]]


class WorkerLost(Exception):
    """A worker died. `suspects`: the pieces that were being examined; empty where the place cannot tell."""

    def __init__(self, suspects: Sequence[int], reason: str) -> None:
        super().__init__(reason)
        self.suspects = tuple(suspects)


class Place(Protocol):
    """Examines pieces and yields (number, packed attributes) in any order."""

    def examine(self, examiner: Examiner, pieces: Sequence[Piece]) -> Results:
        """Raises WorkerLost when a worker dies; results given before stay good."""
        ...


def work(examiner: Examiner, piece: Piece) -> bytes:
    """The packed attributes of one piece: the one function that every place calls."""
    return pack(examiner.examine_piece(piece.read()))


@dataclass(frozen=True)
class Here:
    """This process, one piece after the other."""

    def examine(self, examiner: Examiner, pieces: Sequence[Piece]) -> Results:
        for piece in pieces:
            yield piece.number, work(examiner, piece)


@dataclass(frozen=True)
class Pool:
    """`workers` processes of this machine."""

    workers: int

    def examine(self, examiner: Examiner, pieces: Sequence[Piece]) -> Results:
        context = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(
            min(self.workers, len(pieces)),
            mp_context=context,
            initializer=_begin,
            initargs=(examiner, os.getpid()),
        )
        todo = iter(pieces)
        running: dict[Future[bytes], int] = {}
        try:
            while True:
                # A few more than there are workers: enough to keep them busy, few enough to hold in memory.
                while len(running) < 2 * self.workers and (piece := next(todo, None)) is not None:
                    running[pool.submit(_work_here, piece)] = piece.number
                if not running:
                    return
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                broken = [future for future in done if isinstance(future.exception(), BrokenExecutor)]
                for future in done - set(broken):
                    yield running.pop(future), future.result()
                if broken:
                    raise WorkerLost(sorted(running.values()), "a process of the pool ended")
        except BrokenExecutor:
            raise WorkerLost(sorted(running.values()), "a process of the pool ended") from None
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


_examiner: Examiner | None = None


def _begin(examiner: Examiner, parent: int) -> None:
    global _examiner
    _examiner = examiner
    follow_parent(parent)


def _work_here(piece: Piece) -> bytes:
    if _examiner is None:
        raise RuntimeError("the worker was not started with an examiner")
    return work(_examiner, piece)


def place_of(workers: int | None, cluster: str | None, size: int) -> Place:
    """The place that a user's two words mean; without either, by the size of the corpus in bytes.

    Raises:
        HornbookError: both given, or less than one worker.
    """
    if cluster is not None:
        if workers is not None:
            raise HornbookError("Give a number of workers or a cluster, not both.")
        from hornbook.curate.cluster import Cluster

        return Cluster(cluster)
    if workers is None:
        workers = min(os.cpu_count() or 1, 8) if size > SMALL else 1
    if workers < 1:
        raise HornbookError(f"workers is {workers}; it must be at least 1.")
    return Pool(workers) if workers > 1 else Here()


SMALL = 8 << 20  # a pool pays for its start from about here on
_TRIES = 3


def examine(
    examiner: Examiner,
    pieces: Sequence[Piece],
    place: Place,
    keep: Callable[[Piece, bytes], None],
    say: Callable[[str], None] = lambda sentence: None,
) -> None:
    """Has every piece examined, workers that die notwithstanding; `keep` is given each result once.

    Raises:
        HornbookError: a piece that ends its worker when it is examined alone, by its rows; or a place that
            lost workers again and again without a result.
    """
    left = {piece.number: piece for piece in pieces}
    fruitless = 0
    while left:
        before = len(left)
        try:
            for number, data in place.examine(examiner, list(left.values())):
                piece = left.pop(number, None)
                if piece is not None:  # a cluster may give what it began twice
                    keep(piece, data)
        except WorkerLost as lost:
            say(f"A worker was lost ({lost}). What it had in hand is done again; nothing else is.")
            for number in lost.suspects:
                if number in left:
                    _alone(examiner, left[number], keep)
                    del left[number]
            fruitless = fruitless + 1 if len(left) == before else 0
            if fruitless >= _TRIES:
                raise HornbookError(
                    f"Workers were lost {_TRIES} times without a result ({lost}). {before} pieces are not "
                    "examined; what is examined is kept, and the same command goes on from there."
                ) from None


def _alone(examiner: Examiner, piece: Piece, keep: Callable[[Piece, bytes], None]) -> None:
    """A piece that was in hand when a worker died, in a process of its own."""
    try:
        for _, data in Pool(1).examine(examiner, [piece]):
            keep(piece, data)
    except WorkerLost:
        raise HornbookError(
            f"The documents in rows {piece.first} to {piece.first + piece.rows - 1} end every process that "
            f"examines them (shard {piece.path}); most likely they need more memory than there is. Shorten "
            "`longest_characters` or leave them out. All other work is kept: the same command goes on from "
            "there."
        ) from None
