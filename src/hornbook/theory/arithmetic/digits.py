"""Random numbers of given lengths, their products and sums: exact at any length, millions a second.

A number is a column of limbs in base 10,000, the least significant first: an array (limbs, n). Four digits
a limb keep sums of 32-bit products exact at lengths where 64-bit integers overflow (from 10 digits a factor),
and a table turns a limb into its four digits at once.
"""

import numpy as np
from numpy.typing import NDArray

from hornbook.errors import HornbookError

BASE = 10_000
PER_LIMB = 4
MAX_DIGITS = 100
"""Of an operand: 25 limbs, whose products add up to less than 2**32 in every column."""

Limbs = NDArray[np.uint32]
Digits = NDArray[np.uint8]

_COUNT = np.arange(BASE)
_DIGITS = np.stack([_COUNT // 10**k % 10 for k in range(PER_LIMB)], 1).astype(np.uint8)
_PACKED = np.ascontiguousarray(_DIGITS).view(np.uint32)[:, 0]  # four digits in one machine word
_LENGTH = np.searchsorted([1, 10, 100, 1000], _COUNT, side="right").astype(np.uint8)  # 0 for 0
_LOW = np.array([0, 1, 10, 100, 1000], np.uint32)  # smallest leading limb of so many digits
_ODD = np.random.default_rng(2311_14737).integers(
    0, 2**63, 2 * MAX_DIGITS // PER_LIMB, np.uint64
) | np.uint64(1)


def check_digits(digits: int, name: str = "digits") -> int:
    """`digits`, if numbers can be that long.

    Raises:
        HornbookError: they cannot.
    """
    if not 1 <= digits <= MAX_DIGITS:
        raise HornbookError(f"{name} is {digits}; operands have from 1 to {MAX_DIGITS} digits.")
    return digits


def draw_numbers(lengths: NDArray[np.integer], rng: np.random.Generator) -> Limbs:
    """(limbs, n) numbers, each uniform among those of exactly `lengths[i]` digits; one digit may be 0."""
    most = check_digits(int(lengths.max(initial=1)))
    check_digits(int(lengths.min(initial=1)))
    limbs = -(-most // PER_LIMB)
    out = np.empty((limbs, len(lengths)), np.uint32)
    for i in range(limbs):
        # Of a number with L digits limb i holds the digits 4i to 4i + 3; the leading one is not 0.
        here = np.clip(np.arange(most + 1) - PER_LIMB * i, 0, PER_LIMB)
        low = np.where(np.arange(most + 1) <= PER_LIMB * (i + 1), _LOW[here], 0)
        if i == 0:
            low[1] = 0
        span = np.where(here > 0, 10**here - low, 1).astype(np.uint64)
        bits = np.frombuffer(rng.bytes(4 * len(lengths)), np.uint32)
        drawn = np.multiply(bits, span.take(lengths), dtype=np.uint64)
        drawn >>= np.uint64(32)
        np.add(drawn, low.astype(np.uint64).take(lengths), out=out[i], casting="unsafe")
    return out


def multiply(a: Limbs, b: Limbs) -> Limbs:
    """Exact products, (limbs of a + limbs of b, n): schoolbook, one column of limbs after the other."""
    wide = len(a) + len(b)
    out = np.empty((wide, a.shape[1]), np.uint32)
    carry = np.zeros(a.shape[1], np.uint32)
    for k in range(wide):
        for i in range(max(0, k - len(b) + 1), min(len(a), k + 1)):
            carry += a[i] * b[k - i]
        high = carry // BASE
        out[k] = carry - high * BASE
        carry = high
    return out


def add(a: Limbs, b: Limbs) -> Limbs:
    """Exact sums, (the longer's limbs + 1, n)."""
    wide = max(len(a), len(b)) + 1
    out = np.zeros((wide, a.shape[1]), np.uint32)
    out[: len(a)] = a
    out[: len(b)] += b
    for k in range(wide - 1):
        over = out[k] >= BASE
        out[k] -= BASE * over.astype(np.uint32)
        out[k + 1] += over
    return out


def to_digits(x: Limbs, out: Digits) -> None:
    """Writes decimal digits, the least significant first, into the first columns of `out` (n, columns).

    Rows of `out` must be whole numbers of 4 bytes, and it must begin at such.
    """
    words = out.view(np.uint32)
    for i, limb in enumerate(x):
        words[:, i] = _PACKED.take(limb)


def length_of(x: Limbs) -> Digits:
    """(n,) digits without leading zeros; the number 0 has one."""
    out = np.ones(x.shape[1], np.uint8)
    for i, limb in enumerate(x):
        np.copyto(out, _LENGTH[limb] + np.uint8(PER_LIMB * i), where=limb > 0)
    return out


def fingerprint(a: Limbs, b: Limbs) -> NDArray[np.uint64]:
    """(n,) 64 mixed bits of each pair: equal pairs have equal bits, however many limbs they are kept in."""
    out = np.zeros(a.shape[1], np.uint64)
    for number, seed in ((a, _ODD), (b, _ODD[::-1])):
        for limb, odd in zip(number, seed, strict=False):
            out += np.multiply(limb, odd, dtype=np.uint64)
    out ^= out >> np.uint64(31)
    out *= np.uint64(0x94D049BB133111EB)
    out ^= out >> np.uint64(29)
    return out
