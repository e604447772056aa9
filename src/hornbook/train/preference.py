"""Preference pairs as batches: both answers of a pair in one row, packed from left to right.

Document 2p of a row is the chosen and 2p + 1 the rejected text of its pair p, so attention isolates them as
it isolates any packed documents and `hornbook.train.objectives.Preference` finds them by number.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from hornbook.errors import HornbookError
from hornbook.train.batches import to_tensors
from hornbook.train.loss import IGNORE, head_of, token_log_probabilities
from hornbook.train.objectives import hidden_states, response_sums
from hornbook.train.precision import autocast


@dataclass(frozen=True)
class Pair:
    """Two texts of which the first is preferred, as token ids with a mask of their response tokens.

    A mask holds 1 at every token whose probability counts (the response and its stop token), 0 elsewhere.
    """

    chosen: Sequence[int]
    chosen_mask: Sequence[int]
    rejected: Sequence[int]
    rejected_mask: Sequence[int]

    def __post_init__(self) -> None:
        for name, ids, mask in (
            ("chosen", self.chosen, self.chosen_mask),
            ("rejected", self.rejected, self.rejected_mask),
        ):
            if len(ids) != len(mask):
                raise ValueError(f"the {name} text has {len(ids)} tokens but a mask of {len(mask)}")
            if not any(mask[1:]):
                raise HornbookError(
                    f"a {name} text has no response token (its mask is 0 after the first token)."
                )

    @classmethod
    def of(cls, prompt: Sequence[int], chosen: Sequence[int], rejected: Sequence[int]) -> "Pair":
        """A pair that shares a prompt; `chosen` and `rejected` are the responses with their stop tokens."""
        sides = []
        for response in (chosen, rejected):
            sides += [[*prompt, *response], [0] * len(prompt) + [1] * len(response)]
        return cls(*sides)

    @property
    def length(self) -> int:
        """Input positions the pair takes: one less than its tokens for each text."""
        return len(self.chosen) + len(self.rejected) - 2


@dataclass(frozen=True)
class PairBatch:
    """Rows of packed pairs. inputs, targets, document, position: int64 (rows, time), as in
    `hornbook.data.packing.Batch`, targets -100 outside responses. reference: float32 (rows, pairs, 2),
    log-probabilities of (chosen, rejected) under the reference model, NaN where a row has fewer pairs.
    index: int64 (rows, pairs), the number of each pair among all, -1 where there is none."""

    inputs: NDArray[np.int64]
    targets: NDArray[np.int64]
    document: NDArray[np.int64]
    position: NDArray[np.int64]
    reference: NDArray[np.float32]
    index: NDArray[np.int64]


class PreferenceLoader:
    """Batches of preference pairs as a pure function of the step.

    Every epoch shuffles the pairs and packs them first-fit into rows; rows are handed out in order, the
    last batch of an epoch being filled with empty rows.

    Args:
        pairs: what to learn from.
        rows: rows of the global batch; time: input tokens a row.
        reference: (pairs, 2) log-probabilities of the responses from `reference_log_probabilities`; zeros
            without it (preference without a reference model).

    Raises:
        HornbookError: no pairs, or pairs longer than a row (how many, and how long the longest is).
    """

    def __init__(
        self,
        pairs: Sequence[Pair],
        rows: int,
        time: int,
        seed: int,
        rank: int = 0,
        world: int = 1,
        reference: NDArray[np.float32] | None = None,
    ) -> None:
        if not pairs:
            raise HornbookError("there are no preference pairs to learn from.")
        lengths = np.array([pair.length for pair in pairs])
        if (lengths > time).any():
            raise HornbookError(
                f"{(lengths > time).sum()} of {len(pairs)} preference pairs do not fit into rows of {time} "
                f"tokens (the longest takes {lengths.max()}). Make the rows longer or leave those pairs out."
            )
        if rows < 1 or rows % world:
            raise HornbookError(f"rows is {rows}; it must be a positive multiple of {world} processes.")
        self.pairs, self.rows, self.time, self.seed = pairs, rows, time, seed
        self.rank, self.world = rank, world
        self.reference = reference if reference is not None else np.zeros((len(pairs), 2), np.float32)
        if self.reference.shape != (len(pairs), 2):
            raise ValueError(f"reference has shape {self.reference.shape}, not {(len(pairs), 2)}")
        self._lengths = lengths
        self._epochs: dict[int, list[list[int]]] = {}
        self.rows_per_epoch = len(self._epoch(0))
        content = [
            [list(p.chosen), list(p.chosen_mask), list(p.rejected), list(p.rejected_mask)] for p in pairs
        ]
        described = json.dumps([content, self.reference.tolist(), rows, time, seed])
        self.fingerprint = hashlib.sha256(described.encode()).hexdigest()

    @property
    def steps_per_epoch(self) -> int:
        """Batches that show every pair once."""
        return -(-self.rows_per_epoch // self.rows)

    def batch(self, step: int) -> PairBatch:
        """This rank's rows of batch `step`."""
        epoch, place = divmod(step, self.steps_per_epoch)
        share = self.rows // self.world
        first = place * self.rows + self.rank * share
        return self._pack(self._epoch(epoch)[first : first + share], share)

    def _epoch(self, epoch: int) -> list[list[int]]:
        """The pairs of each row of an epoch. The same lengths in the same order make the same rows, and
        pairs of equal length change places between epochs, so the number of rows is constant."""
        if epoch not in self._epochs:
            random = np.random.default_rng([self.seed, epoch])
            shuffled = random.permutation(len(self.pairs))
            order = shuffled[np.argsort(-self._lengths[shuffled], kind="stable")]
            rows: list[list[int]] = []
            room: list[int] = []
            for pair in order.tolist():
                need = int(self._lengths[pair])
                place = next((i for i, left in enumerate(room) if left >= need), None)
                if place is None:
                    rows.append([])
                    room.append(self.time)
                    place = len(rows) - 1
                rows[place].append(pair)
                room[place] -= need
            self._epochs = {epoch: [rows[i] for i in random.permutation(len(rows))]}
        return self._epochs[epoch]

    def _pack(self, rows: Sequence[Sequence[int]], count: int) -> PairBatch:
        shape = (count, self.time)
        slots = max((len(row) for row in rows), default=1) or 1
        inputs, position = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        targets = np.full(shape, IGNORE, np.int64)
        document = np.full(shape, 2 * slots, np.int64)  # padding
        reference = np.full((count, slots, 2), np.nan, np.float32)
        index = np.full((count, slots), -1, np.int64)
        for r, row in enumerate(rows):
            at = 0
            for p, number in enumerate(row):
                pair = self.pairs[number]
                reference[r, p], index[r, p] = self.reference[number], number
                sides = ((pair.chosen, pair.chosen_mask), (pair.rejected, pair.rejected_mask))
                for side, (ids, mask) in enumerate(sides):
                    size = len(ids) - 1
                    here = slice(at, at + size)
                    inputs[r, here] = ids[:-1]
                    targets[r, here] = np.where(np.asarray(mask[1:]) != 0, ids[1:], IGNORE)
                    document[r, here] = 2 * p + side
                    position[r, here] = np.arange(size)
                    at += size
        return PairBatch(inputs, targets, document, position, reference, index)


def with_reference(
    loader: PreferenceLoader, model: nn.Module, *, dtype: torch.dtype = torch.float32
) -> PreferenceLoader:
    """The same loader carrying the log-probabilities of `model` (before training: the reference), made once.

    dtype: bf16 or fp32 compute. The model is left as it was.
    """
    return PreferenceLoader(
        loader.pairs,
        loader.rows,
        loader.time,
        loader.seed,
        loader.rank,
        loader.world,
        reference_log_probabilities(loader, model, dtype=dtype),
    )


@torch.no_grad()
def reference_log_probabilities(
    loader: PreferenceLoader, model: nn.Module, *, dtype: torch.dtype = torch.float32
) -> NDArray[np.float32]:
    """log p(response) of the chosen and the rejected text of every pair: (pairs, 2)."""
    device = next(model.parameters()).device
    found = np.zeros((len(loader.pairs), 2), np.float32)
    was_training = model.training
    model.eval()
    try:
        for batch in _all_rows(loader):
            tensors = to_tensors(batch, device)
            with autocast(device, dtype):
                log_p = token_log_probabilities(
                    hidden_states(model, tensors), head_of(model), tensors.targets
                )
            sums, _ = response_sums(log_p, tensors)
            real = batch.index >= 0
            found[batch.index[real]] = sums.float().cpu().numpy()[real]
    finally:
        model.train(was_training)
    return found


def _all_rows(loader: PreferenceLoader) -> Iterator[PairBatch]:
    whole = PreferenceLoader(loader.pairs, loader.rows, loader.time, loader.seed, reference=loader.reference)
    for step in range(whole.steps_per_epoch):
        yield whole.batch(step)
