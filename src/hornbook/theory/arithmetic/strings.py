"""Copying and reversing strings: the toy tasks that separate finding a token again from counting to it."""

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from hornbook.errors import HornbookError
from hornbook.theory.arithmetic.lines import GAP, Alphabet, Lines, compact

StringTask = Literal["copy", "reverse"]

LETTERS = Alphabet(tuple("=abcdefghijklmnopqrstuvwxyz"))
_FIRST, _COUNT = LETTERS.ids["a"], 26


def draw_strings(
    task: StringTask, length: NDArray[np.integer], rng: np.random.Generator, *, repeats_of: int = 0
) -> Lines:
    """One string for each of `length` (n,): prompt "abc=", answer "abc" or "cba".

    repeats_of: 0 draws distinct letters; k draws from the first k letters with replacement.

    Raises:
        HornbookError: an unknown task, or distinct letters for longer strings than there are letters.
    """
    if task not in get_args(StringTask):
        raise HornbookError(f"task is {task!r}; accepted are {', '.join(get_args(StringTask))}.")
    longest, shortest = int(length.max(initial=1)), int(length.min(initial=1))
    most = 127 if repeats_of else _COUNT
    if not 1 <= shortest <= longest <= most:
        raise HornbookError(
            f"strings of {shortest} to {longest} letters cannot be drawn; accepted are 1 to {most}"
            + ("." if repeats_of else ", because their letters differ.")
        )
    if not 0 <= repeats_of <= _COUNT:
        raise HornbookError(f"repeats_of is {repeats_of}; accepted are 0 (distinct letters) to {_COUNT}.")
    n = len(length)
    if repeats_of:
        letters = rng.integers(0, repeats_of, (n, longest), np.uint8)
    else:
        letters = rng.random((n, _COUNT), np.float32).argsort(1)[:, :longest].astype(np.uint8)
    string = np.where(np.arange(longest) < length[:, None], letters + np.uint8(_FIRST), np.uint8(GAP))
    sign, end = (np.full((n, 1), LETTERS.ids[symbol], np.uint8) for symbol in "=\n")
    answer = string if task == "copy" else string[:, ::-1]
    tokens, whole = compact(np.concatenate([string, sign, answer, end], 1), LETTERS.end)
    return Lines(
        tokens=tokens,
        prompt=length.astype(np.int64) + 1,
        length=whole,
        cell=np.stack([length, length], 1).astype(np.uint8),
        alphabet=LETTERS,
    )
