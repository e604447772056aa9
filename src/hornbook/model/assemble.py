"""A decoder put together from named tensors of a file, whatever the file's format.

Every format here stores our parameters as they are or cut into blocks of rows, so a format is a
table: our parameter name, the pieces that make it up.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from hornbook.errors import HornbookError
from hornbook.model.config import ModelConfig
from hornbook.model.decoder import Decoder


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A tensor of a file that holds the rows `start` to `stop` of one of our parameters.

    `stacked` > 0: our parameter is that many equal matrices one below the other (experts), and the tensor
    holds the rows `start` to `stop` of each: (stacked, stop - start, ...).
    """

    name: str
    start: int
    stop: int
    stacked: int = 0

    def of(self, parameter: Tensor) -> Tensor:
        """The piece's part of our parameter, a view."""
        if not self.stacked:
            return parameter[self.start : self.stop]
        apart = parameter.view(self.stacked, -1, *parameter.shape[1:])
        return apart[:, self.start : self.stop]

    def shape(self, parameter: Sequence[int]) -> tuple[int, ...]:
        """The tensor's shape, from our parameter's."""
        stack = (self.stacked,) if self.stacked else ()
        return (*stack, self.stop - self.start, *parameter[1:])


Pieces = Mapping[str, Sequence[Piece]]


def in_rows(parts: Sequence[tuple[str, int]], leaf: str) -> list[Piece]:
    """Pieces called `<part>.<leaf>`, one below the other, each with its number of rows."""
    pieces, start = [], 0
    for name, rows in parts:
        pieces.append(Piece(name=f"{name}.{leaf}", start=start, stop=start + rows))
        start += rows
    return pieces


@lru_cache(maxsize=8)
def parameter_shapes(config: ModelConfig) -> Mapping[str, tuple[int, ...]]:
    """Names and shapes of the decoder's parameters, from the meta device."""
    with torch.device("meta"):
        decoder = Decoder(config)
    return {name: tuple(parameter.shape) for name, parameter in decoder.named_parameters()}


def assemble(
    where: object,
    config: ModelConfig,
    pieces: Pieces,
    *,
    read_into: Callable[[str, Tensor], None],
    dtype_of: Callable[[str], torch.dtype],
    device: torch.device | str,
) -> Decoder:
    """Builds the decoder, one parameter in memory at a time beside it; in evaluation mode.

    read_into(name, rows) fills `rows` with the file's tensor `name`; dtype_of(name) is the dtype that the
    parameter with that first piece gets. Raises HornbookError naming every tensor with NaN or infinity.
    """
    shapes = parameter_shapes(config)
    with torch.device("meta"):
        decoder = Decoder(config)
    broken: list[str] = []
    for name, parts in pieces.items():
        value = torch.empty(shapes[name], dtype=dtype_of(parts[0].name))
        for part in parts:
            rows = part.of(value)
            read_into(part.name, rows)
            if not _finite(rows):
                broken.append(part.name)
        path, _, leaf = name.rpartition(".")
        setattr(decoder.get_submodule(path), leaf, torch.nn.Parameter(value.to(device)))
    if broken:
        raise HornbookError(
            f"The weights in {where} hold NaN or infinite numbers, in: {listed(broken)}. "
            "The checkpoint is damaged; take an earlier one."
        )
    return decoder.eval()


def _finite(rows: Tensor) -> bool:
    # A sum is one fast pass; only where it overflows is every number looked at.
    return bool(rows.sum(dtype=torch.float32).isfinite()) or bool(rows.isfinite().all())


def check_tensors(
    where: object,
    config: ModelConfig,
    pieces: Pieces,
    found: Mapping[str, tuple[int, ...]],
    *,
    ignored: Callable[[str], bool] = lambda name: False,
    other_problems: Sequence[str] = (),
) -> None:
    """Compares what a file holds with what its config asks for; one HornbookError lists every difference.

    found: names and shapes in the file. ignored: names that may be there without being used.
    """
    shapes = parameter_shapes(config)
    wanted = {part.name: part.shape(shapes[name]) for name, parts in pieces.items() for part in parts}
    missing = [name for name in wanted if name not in found]
    extra = [name for name in found if name not in wanted and not ignored(name)]
    misshapen = [
        f"{name} is {found[name]}, the config asks for {shape}"
        for name, shape in wanted.items()
        if name in found and found[name] != shape
    ]
    problems = [
        f"{len(items)} {label}: {listed(items)}"
        for label, items in (("missing", missing), ("not part of the model", extra), ("misshapen", misshapen))
        if items
    ]
    problems += other_problems
    if problems:
        raise HornbookError(
            f"The weights in {where} contradict its config (architecture {config.family}). "
            f"{'. '.join(problems)}."
        )


def listed(items: Sequence[str], limit: int = 40) -> str:
    """At most `limit` names, and how many more there are."""
    shown = ", ".join(items[:limit])
    return shown if len(items) <= limit else f"{shown} and {len(items) - limit} more"
