"""Batches as tensors: what objectives receive, moved to the device and cut between rows."""

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor


class TensorBatch(SimpleNamespace):
    """The arrays of a loader's batch under the same names, as tensors with rows first.

    A batch of `hornbook.data.packing` has `inputs`, `targets`, `document` and `position`, each (rows, time).
    """

    def __len__(self) -> int:
        first: Tensor = next(iter(vars(self).values()))
        return len(first)

    def rows(self, first: int, last: int) -> "TensorBatch":
        """Rows `first` to `last` (not included), without copying."""
        return TensorBatch(**{name: value[first:last] for name, value in vars(self).items()})

    def split(self, rows: int | None) -> Iterator["TensorBatch"]:
        """Pieces of at most `rows` rows; the batch itself for None."""
        size = len(self) if rows is None else rows
        return (self.rows(first, min(first + size, len(self))) for first in range(0, len(self), size))


def to_tensors(batch: Any, device: torch.device | str = "cpu") -> TensorBatch:
    """The arrays of a dataclass, named tuple or mapping (others, such as None, are left out) on `device`."""
    if isinstance(batch, TensorBatch):
        named = vars(batch)
    elif is_dataclass(batch):
        named = {field.name: getattr(batch, field.name) for field in fields(batch)}
    elif hasattr(batch, "_asdict"):
        named = batch._asdict()
    else:
        named = dict(batch)
    tensors: dict[str, Tensor] = {}
    for name, value in named.items():
        if isinstance(value, np.ndarray):
            value = torch.from_numpy(value)
        if isinstance(value, Tensor):
            tensors[name] = value.to(device, non_blocking=True)
    sizes = {len(value) for value in tensors.values()}
    if len(sizes) != 1:
        raise ValueError(f"the arrays of a batch must have the same number of rows, not {sorted(sizes)}")
    return TensorBatch(**tensors)
