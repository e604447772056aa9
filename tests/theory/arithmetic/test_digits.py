"""Numbers, products and sums against Python's whole numbers."""

import numpy as np
import pytest

from hornbook.errors import HornbookError
from hornbook.theory.arithmetic.digits import (
    MAX_DIGITS,
    add,
    draw_numbers,
    fingerprint,
    length_of,
    multiply,
    to_digits,
)


def whole(limbs):
    return [sum(int(limb) * 10_000**i for i, limb in enumerate(column)) for column in limbs.T]


def limbs_of(numbers, count):
    return np.array([[n // 10_000**i % 10_000 for n in numbers] for i in range(count)], np.uint32)


@pytest.mark.parametrize("digits", [1, 2, 4, 5, 8, 9, 15, 16, 40, MAX_DIGITS])
def test_numbers_have_the_length_asked_for_and_products_and_sums_are_exact(digits):
    rng = np.random.default_rng(digits)
    lengths = rng.integers(1, digits + 1, (2, 400))
    a, b = (draw_numbers(row, rng) for row in lengths)
    x, y = whole(a), whole(b)
    for number, length in zip(x + y, lengths.reshape(-1), strict=True):
        assert len(str(number)) == length
    assert whole(multiply(a, b)) == [p * q for p, q in zip(x, y, strict=True)]
    assert whole(add(a, b)) == [p + q for p, q in zip(x, y, strict=True)]
    assert length_of(a).tolist() == lengths[0].tolist()


def test_the_largest_numbers_do_not_overflow():
    nines = limbs_of([10**MAX_DIGITS - 1] * 3, MAX_DIGITS // 4)
    assert whole(multiply(nines, nines)) == [(10**MAX_DIGITS - 1) ** 2] * 3
    assert whole(add(nines, nines)) == [2 * (10**MAX_DIGITS - 1)] * 3
    assert length_of(multiply(nines, nines)).tolist() == [2 * MAX_DIGITS] * 3


def test_numbers_of_one_length_are_uniform():
    """Leading digits 1 to 9, others 0 to 9, zero among the one-digit numbers: chi-square at 1e-6."""
    rng = np.random.default_rng(0)
    n = 90_000
    for length, low, count in ((1, 0, 10), (2, 10, 90), (4, 1000, 9000)):
        found = np.bincount(np.array(whole(draw_numbers(np.full(n, length), rng))) - low, minlength=count)
        assert len(found) == count
        chi = ((found - n / count) ** 2 / (n / count)).sum()
        assert chi < count - 1 + 5 * np.sqrt(2 * count) + 25
    top = np.array([int(str(v)[0]) for v in whole(draw_numbers(np.full(n, 6), rng))])
    assert abs(np.bincount(top, minlength=10)[1:] / n - 1 / 9).max() < 0.006


def test_digits_are_those_of_the_number():
    rng = np.random.default_rng(3)
    a = draw_numbers(rng.integers(1, 14, 200), rng)
    digits = np.zeros((200, 20), np.uint8)
    to_digits(a, digits)
    assert digits[:, :16].tolist() == [[int(d) for d in str(n).zfill(16)[::-1]] for n in whole(a)]
    assert not digits[:, 16:].any()
    assert length_of(limbs_of([0, 7, 10, 9999, 10_000], 3)).tolist() == [1, 1, 2, 4, 5]


def test_pairs_have_one_fingerprint_in_any_number_of_limbs_and_no_two_share_it():
    rng = np.random.default_rng(1)
    numbers = rng.integers(0, 10**8, (2, 20_000)).tolist()
    wide = fingerprint(*(limbs_of(row, 4) for row in numbers))
    assert np.array_equal(wide, fingerprint(*(limbs_of(row, 2) for row in numbers)))
    assert len(np.unique(wide)) == len(set(zip(*numbers, strict=True)))
    swapped = fingerprint(*(limbs_of(row, 4) for row in reversed(numbers)))
    assert (swapped == wide).mean() < 0.01
    small = np.array([(i, j) for i in range(100) for j in range(100)])
    share = (fingerprint(*(limbs_of(row.tolist(), 1) for row in small.T)) % np.uint64(16) == 0).mean()
    assert 0.05 < share < 0.075


def test_lengths_beyond_the_limits_are_refused():
    rng = np.random.default_rng(0)
    for length in (0, MAX_DIGITS + 1):
        with pytest.raises(HornbookError, match=f"digits is {length}; operands have from 1 to {MAX_DIGITS}"):
            draw_numbers(np.array([3, length]), rng)
