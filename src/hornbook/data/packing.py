"""Rows of whole documents for training, as a pure function of the step. Needs numpy and the standard
library alone.

**Packing.** A document of n tokens gives n - 1 (input, target) pairs: its last token (the end of text) is
learned as a target and is never an input, and its first token is never the target of the document before
it. Documents are packed whole by best-fit decreasing; one longer than a row is cut into pieces that overlap
by one token, so that every pair occurs exactly once an epoch. The packing works on the histogram of lengths
(a row is a pattern of lengths), which makes its cost depend on the row length and hardly on the number of
documents. Every epoch uses the same patterns, filled with other documents of the same lengths, in another
order: the number of rows in an epoch is constant, so row k of a source is found without walking through the
rows before it.

**Mixtures.** Weights are shares of rows. The rows of all sources are merged by the Webster (Sainte-Lague)
sequence: row k of source s stands at time (k + 1/2) / weight_s. Any window of that sequence is computed
directly, and after n rows every source is within a few rows of its share.

Randomness comes from the raw Philox stream, which numpy keeps stable between versions.
"""

import hashlib
import json
import math
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hornbook.data.tokens import TokenFile
from hornbook.errors import HornbookError

IGNORE = -100
"""Target that carries no loss."""

_FORMAT = 1
_PLANS_KEPT = 2

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Batch:
    """Rows of packed documents; every array is int64 of shape (rows, time).

    Attributes:
        inputs: token ids; 0 in the padding.
        targets: the next token of the same document, or -100 where there is no loss (masked or padding).
        document: 0, 1, 2, ... in each row; padding is one more document at the end of its row.
        position: 0, 1, 2, ... restarting at each document (and piece of a document that was cut).
    """

    inputs: Ints
    targets: Ints
    document: Ints
    position: Ints

    @property
    def target_count(self) -> int:
        """How many targets carry loss."""
        return int(np.count_nonzero(self.targets != IGNORE))


class PackedLoader:
    """Batches of a weighted mixture of token files.

    Args:
        sources: pairs (token file, weight); weights are shares of rows and need not sum to 1.
        rows: rows of the *global* batch, over all ranks.
        time: input tokens a row.
        seed: another seed gives another order.
        rank, world: this process takes rows [rank * rows / world, (rank + 1) * rows / world) of the global
        batch.

    Raises:
        HornbookError: a setting that cannot be used, named with its value.
    """

    def __init__(
        self,
        sources: Sequence[tuple[TokenFile, float]],
        rows: int,
        time: int,
        seed: int,
        rank: int = 0,
        world: int = 1,
    ):
        _check_shape(rows, time, rank, world)
        if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**64:
            raise HornbookError(f"seed is {seed!r}; it must be a whole number from 0 to 2**64 - 1.")
        self.rows, self.time, self.seed, self.rank, self.world = rows, time, seed, rank, world
        self.sources = [file for file, _ in sources]
        self.weights = _shares(sources)
        self.vocab_size = self.sources[0].vocab_size
        self._plans = [
            _Plan(file, time) if weight > 0 else None
            for file, weight in zip(self.sources, self.weights, strict=True)
        ]
        for file, plan in zip(self.sources, self._plans, strict=True):
            if plan is not None and plan.rows == 0:
                raise HornbookError(
                    f"The token file {file.folder} has nothing to learn (no document of two or more tokens)."
                    " Remove it from the mixture or give it weight 0."
                )
        self._epochs: OrderedDict[tuple[int, int], _Epoch] = OrderedDict()

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the data and settings that decide the batches (not of rank and world, which do not)."""
        described = {
            "format": _FORMAT,
            "sources": [[file.sha256, float(w)] for file, w in zip(self.sources, self.weights, strict=True)],
            "rows": self.rows,
            "time": self.time,
            "seed": self.seed,
        }
        return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()

    def batch(self, step: int) -> Batch:
        """This rank's rows of step `step` (from 0): arrays of shape (rows / world, time)."""
        if step < 0:
            raise ValueError(f"step is {step}; steps count from 0")
        share = self.rows // self.world
        first = step * self.rows + self.rank * share
        source, index = merged(self.weights, first, share)
        inputs, targets, document, position = _empty(share, self.time)
        for s in np.unique(source):
            plan = self._plans[s]
            assert plan is not None  # rows are drawn from sources of positive weight only
            here = np.flatnonzero(source == s)
            epoch, row = np.divmod(index[here], plan.rows)
            for e in np.unique(epoch):
                in_epoch = epoch == e
                pieces, which = self._epoch(int(s), int(e)).pieces(row[in_epoch])
                plan.fill(pieces, here[in_epoch][which], inputs, targets, document, position)
        return Batch(inputs, targets, document, position)

    def epochs(self, step: int) -> list[float]:
        """How many times each source has been read after `step` steps (0 for a source of weight 0)."""
        total = step * self.rows
        source, index = merged(self.weights, total, 0, state=True)
        del source
        return [
            0.0 if plan is None else float(count) / plan.rows
            for plan, count in zip(self._plans, index, strict=True)
        ]

    @property
    def fill(self) -> float:
        """Share of a batch that is documents, not padding, on average over the mixture."""
        return float(
            sum(w * p.fill_share for w, p in zip(self.weights, self._plans, strict=True) if p is not None)
        )

    @property
    def rows_per_epoch(self) -> list[int]:
        """Rows that hold each source once (0 for a source of weight 0)."""
        return [0 if plan is None else plan.rows for plan in self._plans]

    def _epoch(self, source: int, epoch: int) -> "_Epoch":
        key = (source, epoch)
        found = self._epochs.pop(key, None)
        if found is None:
            plan = self._plans[source]
            assert plan is not None
            found = plan.shuffled(self.seed, source, epoch)
            kept = [k for k in self._epochs if k[0] == source]
            for old in kept[: max(0, len(kept) - _PLANS_KEPT + 1)]:
                del self._epochs[old]
        self._epochs[key] = found
        return found


class SequentialLoader:
    """Every document once, in a fixed order, for validation: batches are the same whatever the seed of
    training.

    The rows are shuffled once with a fixed seed, so that the first batches alone are a fair sample. The
    last batch is filled up with rows that carry no loss. `len(loader)` is the number of batches.
    """

    def __init__(self, source: TokenFile, rows: int, time: int, rank: int = 0, world: int = 1):
        _check_shape(rows, time, rank, world)
        self.rows, self.time, self.rank, self.world = rows, time, rank, world
        self.source = source
        self._plan = _Plan(source, time)
        if self._plan.rows == 0:
            raise HornbookError(f"The token file {source.folder} has nothing to evaluate on.")
        self._order = self._plan.ordered()

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the data and the shape of the batches."""
        described = {"format": _FORMAT, "source": self.source.sha256, "rows": self.rows, "time": self.time}
        return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()

    def __len__(self) -> int:
        return math.ceil(self._plan.rows / self.rows)

    def __iter__(self) -> Iterator[Batch]:
        return (self.batch(index) for index in range(len(self)))

    def batch(self, index: int) -> Batch:
        """This rank's rows of batch `index`: arrays of shape (rows / world, time)."""
        inputs, targets, document, position = _empty(self.rows // self.world, self.time)
        pieces, which = self._pieces(index)
        self._plan.fill(pieces, which, inputs, targets, document, position)
        return Batch(inputs, targets, document, position)

    def document_ids(self, index: int) -> Ints:
        """Document of the token file at each place of batch `index`, -1 in padding: (rows, time)."""
        ids = np.full((self.rows // self.world, self.time), -1, np.int64)
        pieces, which = self._pieces(index)
        column = _starts_in_rows(self._plan.length[pieces], which)
        owner = np.searchsorted(self.source.documents, self._plan.start[pieces], side="right") - 1
        for row, at, size, number in zip(which, column, self._plan.length[pieces], owner, strict=True):
            ids[row, at : at + size] = number
        return ids

    def _pieces(self, index: int) -> tuple[Ints, Ints]:
        if not 0 <= index < len(self):
            raise IndexError(f"batch {index} of {len(self)}")
        share = self.rows // self.world
        first = index * self.rows + self.rank * share
        wanted = np.arange(first, min(first + share, self._plan.rows), dtype=np.int64)
        return self._order.pieces(wanted)


def merged(weights: Sequence[float], first: int, count: int, *, state: bool = False) -> tuple[Ints, Ints]:
    """Rows `first` to `first + count` of the Webster sequence of `weights` (which sum to 1).

    Returns:
        (source, index), each (count,): the row is number `index` of its source. With `state`, index is
        instead
        (sources,): how many rows of each source come before row `first`.
    """
    share = np.asarray(weights, np.float64)
    active = np.flatnonzero(share > 0)
    # Every row numbered below `base` stands before `first`, and by the margins below every row up to
    # `first + count` is among the candidates; only comparisons of (k + 1/2) / weight decide the order.
    margin = len(active) + 2
    base = np.maximum(np.floor((first - margin) * share[active]) - 1, 0).astype(np.int64)
    last = np.ceil((first + count + margin) * share[active]).astype(np.int64) + 2
    source = np.repeat(active, last - base)
    index = np.concatenate([np.arange(b, e, dtype=np.int64) for b, e in zip(base, last, strict=True)])
    order = np.lexsort((source, (index + 0.5) / share[source]))
    skipped = first - int(base.sum())
    if state:
        before = np.zeros(len(share), np.int64)
        before[active] = base
        return source[:0], before + np.bincount(source[order[:skipped]], minlength=len(share))
    taken = order[skipped : skipped + count]
    return source[taken].astype(np.int64), index[taken]


@dataclass(frozen=True)
class _Epoch:
    """One epoch of one source: which pieces make row r."""

    row_order: Ints  # (rows,) pattern row of each row
    row_start: Ints  # (rows + 1,) first slot of each pattern row
    slots: NDArray[Any]  # (pieces,) number of a piece among those of the epoch, by slot
    order: NDArray[Any]  # (pieces,) the pieces, longest first, shuffled among equals

    def pieces(self, rows: Ints) -> tuple[Ints, Ints]:
        """The pieces of `rows` end to end, and for each the place of its row in `rows`."""
        pattern = self.row_order[rows]
        start, size = self.row_start[pattern], self.row_start[pattern + 1] - self.row_start[pattern]
        which = np.repeat(np.arange(len(rows), dtype=np.int64), size)
        return self.order[self.slots[_ranges(start, size)]].astype(np.int64), which


class _Plan:
    """How the documents of one token file make rows of `time` pairs."""

    def __init__(self, file: TokenFile, time: int):
        self.file, self.time = file, time
        pairs = np.maximum(np.diff(file.documents) - 1, 0)
        count = -(-pairs // time)
        self.start: Ints = np.repeat(np.asarray(file.documents[:-1]), count)
        within = _ranges(np.zeros(len(count), np.int64), count) * time
        self.start += within
        self.length: NDArray[np.int32] = np.minimum(np.repeat(pairs, count) - within, time).astype(np.int32)
        self.row_start, self.slots = _patterns(np.bincount(self.length, minlength=time + 1), time)
        self.rows = len(self.row_start) - 1
        self.fill_share = float(pairs.sum()) / max(1, self.rows * time)

    def shuffled(self, seed: int, source: int, epoch: int) -> _Epoch:
        """Epoch `epoch`: equal lengths exchanged at random, rows in random order."""
        random = np.random.Philox(np.random.SeedSequence([seed, source, epoch]))
        shuffled = _permutation(random, len(self.length))
        order = shuffled[np.argsort(self._descending(shuffled), kind="stable")]
        return _Epoch(_permutation(random, self.rows), self.row_start, self.slots, order)

    def ordered(self) -> _Epoch:
        """Pieces of equal length in the order of the file; rows in an order that is always the same."""
        order = np.argsort(self._descending(slice(None)), kind="stable").astype(np.int64)
        return _Epoch(_permutation(np.random.Philox(0), self.rows), self.row_start, self.slots, order)

    def _descending(self, chosen: Any) -> NDArray[Any]:
        # 16-bit keys are sorted by radix: ten times faster.
        free: NDArray[Any] = self.time - self.length[chosen]
        return free.astype(np.uint16 if self.time < 2**16 else np.uint32)

    def fill(
        self, pieces: Ints, rows: Ints, inputs: Ints, targets: Ints, document: Ints, position: Ints
    ) -> None:
        """Write `pieces` into `rows` (for each piece the row it goes to; pieces of a row stand together)."""
        length = self.length[pieces].astype(np.int64)
        column = _starts_in_rows(length, rows)
        within = _ranges(np.zeros(len(length), np.int64), length)
        read = np.repeat(self.start[pieces], length) + within
        write = np.repeat(rows * self.time + column, length) + within
        tokens = self.file.tokens
        inputs.ravel()[write] = tokens[read]
        read += 1
        learned = tokens[read].astype(np.int64)
        if self.file.mask is not None:
            learned[self.file.mask[read] == 0] = IGNORE
        targets.ravel()[write] = learned
        position.ravel()[write] = within
        number = _ranges(np.zeros(1, np.int64), np.array([len(rows)]))
        first = np.flatnonzero(np.diff(rows, prepend=-1))
        number -= np.repeat(first, np.diff(first, append=len(rows)))
        document.ravel()[write] = np.repeat(number, length)
        # Padding: one more document, counted from 0 like the others.
        used = np.zeros(len(inputs), np.int64)
        np.maximum.at(used, rows, column + length)
        last = np.zeros(len(inputs), np.int64)
        np.maximum.at(last, rows, number)
        for row in np.unique(rows):
            if used[row] < self.time:
                document[row, used[row] :] = last[row] + 1
                position[row, used[row] :] = np.arange(self.time - used[row])


def _patterns(histogram: Ints, time: int) -> tuple[Ints, NDArray[Any]]:
    """Best-fit decreasing on a histogram of lengths.

    Returns:
        row_start (rows + 1,) and slots (pieces,): slot j of the rows holds the piece that comes slots[j]-th
        when the pieces are ordered from longest to shortest.
    """
    # free[f]: groups (pattern, how many rows) with f places free; a pattern is ((length, copies), ...).
    free: list[list[tuple[tuple[tuple[int, int], ...], int]]] = [[] for _ in range(time + 1)]
    for length in range(time, 0, -1):
        left = int(histogram[length])
        room = length
        while left and room <= time:
            if not free[room]:
                room += 1
                continue
            pattern, rows = free[room].pop()
            copies = min(room // length, -(-left // rows))
            full = min(rows, left // copies)  # rows that take all their copies
            if full < rows:
                free[room].append((pattern, rows - full))
            if full:
                free[room - copies * length].append(((*pattern, (length, copies)), full))
            left -= full * copies
        if left:
            copies = time // length
            full, rest = divmod(left, copies)
            if full:
                free[time - copies * length].append((((length, copies),), full))
            if rest:
                free[time - rest * length].append((((length, rest),), 1))
    groups = [group for groups_of in free for group in groups_of]
    sizes = [sum(copies for _, copies in pattern) for pattern, _ in groups]
    row_start = np.zeros(sum(rows for _, rows in groups) + 1, np.int64)
    np.cumsum(np.repeat(np.array(sizes, np.int64), [rows for _, rows in groups]), out=row_start[1:])
    pieces = int(histogram[1:].sum())
    slots = np.empty(pieces, np.int64 if pieces >= 2**31 else np.int32)
    longer = pieces - np.cumsum(histogram)  # pieces longer than each length: where its class begins
    taken = longer.copy()
    row = 0
    for (pattern, rows), _ in zip(groups, sizes, strict=True):
        begin = row_start[row : row + rows]
        offset = 0
        for length, copies in pattern:
            block = np.arange(taken[length], taken[length] + copies * rows).reshape(rows, copies)
            slots[begin[:, None] + (offset + np.arange(copies))] = block
            taken[length] += copies * rows
            offset += copies
        row += rows
    return row_start, slots


def _permutation(random: np.random.Philox, count: int) -> Ints:
    keys = np.asarray(random.random_raw(count), np.uint64)
    return np.argsort(keys, kind="stable").astype(np.int64)


def _ranges(start: Ints, size: Ints) -> Ints:
    """Concatenation of arange(start[i], start[i] + size[i])."""
    total = int(size.sum())
    ends = np.cumsum(size)
    found: Ints = np.arange(total, dtype=np.int64) + np.repeat(start - (ends - size), size)
    return found


def _starts_in_rows(length: NDArray[Any], rows: Ints) -> Ints:
    """Column at which each piece begins, pieces of a row standing together."""
    ends = np.cumsum(length, dtype=np.int64)
    begin: Ints = ends - length
    first = np.flatnonzero(np.diff(rows, prepend=-1))
    return begin - np.repeat(begin[first], np.diff(first, append=len(rows)))


def _empty(rows: int, time: int) -> tuple[Ints, Ints, Ints, Ints]:
    shape = (rows, time)
    position = np.broadcast_to(np.arange(time, dtype=np.int64), shape).copy()
    return np.zeros(shape, np.int64), np.full(shape, IGNORE, np.int64), np.zeros(shape, np.int64), position


def _check_shape(rows: int, time: int, rank: int, world: int) -> None:
    if rows < 1:
        raise HornbookError(f"rows is {rows}; a batch has at least 1 row.")
    if time < 2:
        raise HornbookError(f"time is {time}; a row has at least 2 tokens.")
    if world < 1 or not 0 <= rank < world:
        raise HornbookError(f"rank is {rank} of world {world}; rank counts from 0 to world - 1.")
    if rows % world:
        raise HornbookError(f"rows is {rows}, which does not divide among world = {world} processes.")


def _shares(sources: Sequence[tuple[TokenFile, float]]) -> list[float]:
    if not sources:
        raise HornbookError("The mixture has no source: give at least one token file.")
    for file, weight in sources:
        if not (math.isfinite(weight) and weight >= 0):
            raise HornbookError(
                f"The weight of {file.folder} is {weight}; a weight is a finite number, 0 or more."
            )
    total = sum(weight for _, weight in sources)
    if total <= 0:
        raise HornbookError("Every weight of the mixture is 0: give at least one source a positive weight.")
    sizes = {file.vocab_size for file, _ in sources}
    if len(sizes) > 1:
        raise HornbookError(
            f"The token files of the mixture have different vocabularies ({sorted(sizes)} ids):"
            " tokenise all of them with one tokeniser."
        )
    return [weight / total for _, weight in sources]
