"""Greedy answers to lines, and how right they are: whole, by cell, by digit."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from hornbook.errors import HornbookError
from hornbook.infer.greedy import greedy
from hornbook.model.decoder import Decoder
from hornbook.theory.arithmetic.lines import Lines, Tokens

_CACHE_NUMBERS = 30_000_000
"""Keys and values kept at once (fp32: 120 MB): decides how many lines are answered together on a CPU."""


@dataclass(frozen=True, kw_only=True)
class Marks:
    """What became of n lines.

    answers: (n, longest) tokens, the end token from where an answer ended. right: (n,) the whole number (or
    string) and its end are as wanted. digit: (n, places) of the number's digits, the units first: 1 right, 0
    wrong or missing, -1 where the true number has no such digit.
    """

    answers: Tokens
    right: NDArray[np.bool_]
    digit: NDArray[np.int8]


def answers(
    model: Decoder, lines: Lines, *, seed: int = 0, batch: int | None = None, spare: int = 4
) -> Tokens:
    """(n, longest answer + spare) greedy answers, all cells together, those of like length in one batch.

    seed: of the random tags of models that have them. batch: lines at once. spare: tokens an answer may be
    longer than the right one before it is cut off.

    Raises:
        HornbookError: a vocabulary too small for the lines, or lines too long for the model.
    """
    check_vocabulary(model, lines)
    device = model.embed_tokens.weight.device
    wanted = lines.length - lines.prompt
    out = np.full((len(lines), int(wanted.max(initial=0)) + spare), lines.alphabet.end, np.uint8)
    order = np.lexsort((lines.prompt, wanted))
    if batch is None:
        width = 2 * model.config.layers * model.config.kv_heads * model.config.head_dim
        batch = max(64, _CACHE_NUMBERS // (width * (lines.width + spare)))
        batch = batch if device.type == "cpu" else 16 * batch
    was_training = model.training
    model.eval()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        for first in range(0, len(lines), batch):
            rows = order[first : first + batch]
            steps = int(wanted[rows].max()) + spare
            prompts, padding = _right_aligned(lines, rows)
            given = greedy(
                model,
                torch.from_numpy(prompts).to(device),
                torch.from_numpy(padding).to(device),
                steps=steps,
                stop=lines.alphabet.end,
            )
            out[rows, :steps] = given.cpu().numpy()
    out[np.arange(out.shape[1]) >= wanted[:, None] + spare] = lines.alphabet.end
    model.train(was_training)
    return out


def check_vocabulary(model: Decoder, lines: Lines) -> None:
    """Raises HornbookError when the model has fewer tokens than the lines' alphabet."""
    if model.config.vocab_size < len(lines.alphabet):
        raise HornbookError(
            f"the model has a vocabulary of {model.config.vocab_size} tokens and this task "
            f"{len(lines.alphabet)} symbols. Give vocab_size={len(lines.alphabet)} or more."
        )


def _right_aligned(lines: Lines, rows: NDArray[np.intp]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Prompts of some lines (n, longest) with their ends under each other, and the padding before each."""
    prompt = lines.prompt[rows]
    padding = int(prompt.max()) - prompt
    column = np.arange(int(prompt.max())) - padding[:, None]
    tokens = np.take_along_axis(lines.tokens[rows], column.clip(min=0), 1).astype(np.int64)
    return np.where(column >= 0, tokens, lines.alphabet.end), padding


def mark(lines: Lines, given: Tokens) -> Marks:
    """Compares answers with what was wanted.

    Of a scratchpad the number behind the last # counts; what was written before it does not. In padded
    formats, where every answer is equally long, the end is not asked for.
    """
    wanted = _behind(lines.tokens, lines.prompt)
    truth, true_digits = _number(lines, wanted)
    read, read_digits = _number(lines, given[:, : int(truth.max())] if lines.fixed else given)
    places = true_digits.shape[1]
    digit = np.full((len(lines), places), -1, np.int8)
    exists = np.arange(places) < truth[:, None]
    read_digits = _fitted(read_digits, places)
    # Whatever is not a digit cannot equal one: the end token is 10 and gaps are 255.
    digit[exists] = (read_digits == true_digits)[exists]
    right = (digit != 0).all(1) & (lines.fixed | (read == truth))
    return Marks(answers=given, right=right, digit=digit)


def _behind(tokens: Tokens, first: NDArray[np.int64]) -> Tokens:
    """Every row from its column `first` on, padded with its own last token."""
    width = int((tokens.shape[1] - first).max(initial=1))
    column = np.minimum(first[:, None] + np.arange(width), tokens.shape[1] - 1)
    return np.take_along_axis(tokens, column, 1)


def _number(lines: Lines, answer: Tokens) -> tuple[NDArray[np.int64], Tokens]:
    """(symbols (n,), digits (n, columns) with the units first) of the last number of each answer."""
    columns = answer.shape[1]
    ended = answer == lines.alphabet.end
    stop = np.where(ended.any(1), ended.argmax(1), columns)
    start = np.zeros(len(answer), np.int64)
    if "#" in lines.alphabet.ids:
        before = np.arange(columns) < stop[:, None]
        hash_here = (answer == lines.alphabet.ids["#"]) & before
        start = np.where(hash_here.any(1), columns - hash_here[:, ::-1].argmax(1), 0)
    place = np.arange(columns)
    if lines.number == "reversed":
        at = start[:, None] + place
    else:
        at = stop[:, None] - 1 - place
    inside = (at >= start[:, None]) & (at < stop[:, None])
    digits = np.take_along_axis(answer, at.clip(0, columns - 1), 1)
    # An answer that never ended is one symbol longer than any that did.
    return stop - start + ~ended.any(1), np.where(inside, digits, np.uint8(255))


def _fitted(digits: Tokens, columns: int) -> Tokens:
    short = max(0, columns - digits.shape[1])
    return np.pad(digits, ((0, 0), (0, short)), constant_values=255)[:, :columns]


def by_cell(lines: Lines, marks: Marks) -> Mapping[tuple[int, int], tuple[int, int]]:
    """(right, asked) of every pair of numbers of digits that was asked."""
    cells, which = np.unique(lines.cell, axis=0, return_inverse=True)
    which = which.reshape(-1)
    asked = np.bincount(which, minlength=len(cells))
    right = np.bincount(which, weights=marks.right, minlength=len(cells))
    return {
        (int(first), int(second)): (int(r), int(count))
        for (first, second), r, count in zip(cells.tolist(), right, asked, strict=True)
    }


def by_digit(marks: Marks) -> list[tuple[int, int]]:
    """(right, asked) of every place of the number, the units first, as far as any number reaches."""
    asked = (marks.digit >= 0).sum(0)
    right = (marks.digit == 1).sum(0)
    return [(int(r), int(count)) for r, count in zip(right, asked, strict=True) if count]
