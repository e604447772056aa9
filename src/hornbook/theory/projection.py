"""Random projections that keep inner products: for gradients too long to hold."""

import torch
from torch import Tensor

from hornbook.errors import HornbookError


class Projection:
    """Signed folding of vectors of `length` numbers into `size`: <P u, P v> = <u, v> on average.

    Every coordinate gets a random sign and is added to place i mod size, with size a prime, so that
    coordinates of one column of a weight matrix do not meet. The variance of an inner product is about
    (|u|^2 |v|^2 + <u, v>^2) / size: an entry of a kernel is right to sqrt(2 / size) of its row norms (count
    sketch, Charikar, Chen, Farach-Colton 2002). Takes `length` bytes for the signs.
    """

    def __init__(self, length: int, size: int, *, seed: int = 0, device: torch.device | str = "cpu") -> None:
        if not size >= 2:
            raise HornbookError(f"project is {size}; it must be 2 or more numbers a gradient, or 0 for none.")
        self.length, self.size = length, largest_prime(min(size, max(2, length)))
        generator = torch.Generator().manual_seed(seed)
        signs = torch.randint(0, 2, (length,), generator=generator, dtype=torch.int8).mul_(2).sub_(1)
        self.signs = signs.to(device)

    def __call__(self, rows: Tensor) -> Tensor:
        """(n, length) -> (n, size)."""
        whole = rows.shape[1] // self.size * self.size
        out = torch.zeros(len(rows), self.size, dtype=rows.dtype, device=rows.device)
        block = max(self.size, 2**22 // self.size * self.size)  # bounds the signed copy
        for first in range(0, whole, block):
            last = min(whole, first + block)
            signed = rows[:, first:last] * self.signs[first:last]
            out += signed.view(len(rows), -1, self.size).sum(1)
        out[:, : rows.shape[1] - whole] += rows[:, whole:] * self.signs[whole:]
        return out


def largest_prime(most: int) -> int:
    """The largest prime not above `most` (2 or more)."""
    return next(n for n in range(most, 1, -1) if all(n % d for d in range(2, int(n**0.5) + 1)))
