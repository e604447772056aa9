"""Log-likelihoods of continuations. What many prompts begin with (the examples of a few-shot header) and what
stands before several continuations (a question) is read once.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from hornbook.infer.cache import PromptCache, RowCache
from hornbook.infer.packed import ReadyDecoder
from hornbook.infer.scheduler import PREFILL_TOKENS, prefill_batches, read_prompts
from hornbook.lm.base import Score

_LOGIT_ROWS = 2048
"""Positions whose logits are held at once."""
_LEAST_HEADER = 48
_LEAST_QUESTION = 8
"""Shorter beginnings are read again: a shared pass has masks and two products an attention."""


@dataclass(frozen=True, kw_only=True)
class _Row:
    """Tokens to read behind a header, and what is asked of them.

    wanted: (place, target, job): the probability of id `target` as token `place` of this row, for `job`.
    """

    tokens: list[int]
    wanted: list[tuple[int, int, int]] = field(default_factory=list)

    def fits(self, limit: int | None) -> bool:
        """Whether the row with its last token is at most `limit` long (LongRoPE's short factors)."""
        return limit is None or len(self.tokens) < limit


@dataclass(frozen=True, kw_only=True)
class _Question:
    """A prompt with several continuations, one row each."""

    tokens: list[int]
    rows: list[_Row]

    @property
    def longest(self) -> int:
        """Tokens of its longest row."""
        return max(len(row.tokens) for row in self.rows)

    def fits(self, limit: int | None) -> bool:
        """As `_Row.fits`, for the longest of its texts."""
        return limit is None or len(self.tokens) + self.longest < limit


@dataclass(frozen=True, kw_only=True)
class _Group:
    """Prompts (by number) that begin with the same `header`."""

    header: list[int]
    prompts: list[int]


def score_pairs(
    model: ReadyDecoder,
    prompts: Sequence[Sequence[int]],
    continuations: Sequence[Sequence[Sequence[int]]],
    *,
    dtype: torch.dtype,
    device: torch.device,
) -> list[list[Score]]:
    """Scores every continuation of every prompt. See `Engine.score`."""
    jobs = [(i, j) for i, ends in enumerate(continuations) for j in range(len(ends))]
    number = {job: n for n, job in enumerate(jobs)}
    found = _Sums(len(jobs))
    alone: list[_Row] = []
    questions: list[_Question] = []
    whole = [len(p) + max(map(len, ends), default=0) for p, ends in zip(prompts, continuations)]
    rope = model.config.long_rope
    limit = None if rope is None else rope.original_max_position
    short = {i for i, length in enumerate(whole) if limit is None or length <= limit}
    groups = [
        group
        for part in (sorted(short), [i for i in range(len(prompts)) if i not in short])
        for group in shared_headers(prompts, part)
    ]
    for group in groups:
        own = {i: [number[i, j] for j in range(len(continuations[i]))] for i in group.prompts}
        if group.header:
            begin = len(group.header)
            rows = [r for i in group.prompts for r in _rows(prompts[i][begin:], continuations[i], own[i])]
            _read_behind(model, group.header, rows, found, dtype, device)
            continue
        for i in group.prompts:
            if len(prompts[i]) >= _LEAST_QUESTION and sum(len(end) > 1 for end in continuations[i]) > 1:
                questions.append(_Question(tokens=list(prompts[i]), rows=_rows([], continuations[i], own[i])))
            else:
                alone += _rows(prompts[i], continuations[i], own[i])
    for asked in ([q for q in questions if q.fits(limit)], [q for q in questions if not q.fits(limit)]):
        for several in _together(asked):
            _read_questions(model, several, found, dtype, device)
    for rows in ([r for r in alone if r.fits(limit)], [r for r in alone if not r.fits(limit)]):
        for batch in prefill_batches([row.tokens for row in rows]):
            _read_alone(model, [rows[b] for b in batch], found, device)
    scores = found.scores()
    return [[scores[number[i, j]] for j in range(len(ends))] for i, ends in enumerate(continuations)]


def shared_headers(prompts: Sequence[Sequence[int]], among: Sequence[int]) -> list[_Group]:
    """The prompts numbered in `among` in groups that begin alike; no header where sharing does not pay.

    Sorted, prompts with much in common are neighbours. A prompt joins its neighbours when that keeps at
    least half of their header.
    """
    order = sorted(among, key=lambda i: list(prompts[i]))
    groups: list[_Group] = []
    for i in order:
        own = list(prompts[i])
        if groups:
            last = groups[-1]
            common = _common(last.header, own)
            if common >= max(_LEAST_HEADER, len(last.header) // 2):
                groups[-1] = _Group(header=own[:common], prompts=[*last.prompts, i])
                continue
        groups.append(_Group(header=own, prompts=[i]))
    shared, single = [], []
    for group in groups:
        if len(group.header) >= _LEAST_HEADER and len(group.prompts) > 1:
            shared.append(group)
        else:
            single += group.prompts
    return [*shared, _Group(header=[], prompts=single)]


def _common(first: Sequence[int], second: Sequence[int]) -> int:
    """How many tokens two sequences begin with together."""
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(first, second)))


def _rows(before: Sequence[int], ends: Sequence[Sequence[int]], jobs: Sequence[int]) -> list[_Row]:
    """One row for each continuation; continuations of one token (A, B, C, D) share a row."""
    letters = _Row(tokens=list(before))
    rows = [letters]
    for end, job in zip(ends, jobs):
        wanted = [(len(before) + n, token, job) for n, token in enumerate(end)]
        if len(end) <= 1:
            letters.wanted.extend(wanted)
        else:
            rows.append(_Row(tokens=[*before, *end[:-1]], wanted=wanted))
    return [row for row in rows if row.wanted]


class _Sums:
    """Log-probabilities as they are found, job by job."""

    def __init__(self, jobs: int) -> None:
        self.logprobs: list[list[tuple[int, float]]] = [[] for _ in range(jobs)]
        self.greedy = [True] * jobs

    def take(self, model: ReadyDecoder, hidden: Tensor, rows: Sequence[_Row], *, shift: int) -> None:
        """Reads log p(target) out of hidden (rows, time, hidden), whose column c predicts place c + shift."""
        asked = [
            (row, place - shift, target, job, place)
            for row, one in enumerate(rows)
            for place, target, job in one.wanted
            if place >= shift
        ]
        for begin in range(0, len(asked), _LOGIT_ROWS):
            part = asked[begin : begin + _LOGIT_ROWS]
            at = torch.tensor([(row, column) for row, column, *_ in part], device=hidden.device)
            aim = torch.tensor([target for _, _, target, *_ in part], device=hidden.device)
            logs = model.logits(hidden[at[:, 0], at[:, 1]]).log_softmax(-1)
            own = logs.gather(1, aim[:, None])[:, 0].tolist()
            first = (logs.argmax(-1) == aim).tolist()
            for (*_, job, place), logprob, likeliest in zip(part, own, first):
                self.logprobs[job].append((place, logprob))
                self.greedy[job] &= likeliest

    def scores(self) -> list[Score]:
        """One score a job."""
        ordered = [[logprob for _, logprob in sorted(own)] for own in self.logprobs]
        return [Score(float(sum(o)), len(o), g, tuple(o)) for o, g in zip(ordered, self.greedy)]


def _pad(rows: Sequence[Sequence[int]], device: torch.device) -> Tensor:
    tokens = np.zeros((len(rows), max(map(len, rows), default=0)), dtype=np.int64)
    for i, row in enumerate(rows):
        tokens[i, : len(row)] = row
    return torch.from_numpy(tokens).to(device)


def _read_alone(model: ReadyDecoder, rows: Sequence[_Row], found: _Sums, device: torch.device) -> None:
    """Rows without a header in one padded pass; nothing predicts the first token of such a row."""
    ids = _pad([row.tokens for row in rows], device)
    if not ids.shape[1]:
        return
    cache = PromptCache(
        model.config,
        prompts=len(rows),
        length=ids.shape[1],
        dtype=model.dtype,
        device=device,
        rope_length=ids.shape[1] + 1,
    )
    chunks = [model(ids[:, b : b + PREFILL_TOKENS], cache) for b in range(0, ids.shape[1], PREFILL_TOKENS)]
    found.take(model, torch.cat(chunks, 1), rows, shift=1)


def _read_behind(
    model: ReadyDecoder,
    header: Sequence[int],
    rows: Sequence[_Row],
    found: _Sums,
    dtype: torch.dtype,
    device: torch.device,
) -> None:
    """The header in one pass, then all rows behind it, as many at once as a pass holds."""
    longest = max(len(row.tokens) for row in rows)
    rope_length = len(header) + longest + 1
    cache, last = read_prompts(model, [header], dtype=dtype, device=device, rope_length=rope_length)
    for batch in prefill_batches([row.tokens for row in rows]):
        part = [rows[b] for b in batch]
        behind = RowCache(
            model.config,
            rows=len(part),
            slots=max(1, max(len(row.tokens) for row in part)),
            prompts=1,
            prompt_slots=len(header),
            dtype=dtype,
            device=device,
            rope_length=rope_length,
        )
        behind.share_prompt(cache, 0, len(header), 0)
        behind.width = len(part)
        hidden = last[:, None].expand(len(part), -1, -1)
        tokens = _pad([row.tokens for row in part], device)
        if tokens.shape[1]:
            hidden = torch.cat([hidden, model(tokens, behind)], 1)
        found.take(model, hidden, part, shift=0)


def _together(questions: Sequence[_Question]) -> list[list[_Question]]:
    """Questions that are read in one pass: alike in length and in the number of their rows."""
    batches = []
    for width in sorted({len(q.rows) for q in questions}):
        alike = [q for q in questions if len(q.rows) == width]
        for batch in prefill_batches([q.tokens for q in alike]):
            part: list[_Question] = []
            for q in sorted((alike[b] for b in batch), key=lambda q: -q.longest):
                if part and (len(part) + 1) * width * max(1, part[0].longest) > PREFILL_TOKENS:
                    batches.append(part)
                    part = []
                part.append(q)
            batches.append(part)
    return batches


def _read_questions(
    model: ReadyDecoder,
    questions: Sequence[_Question],
    found: _Sums,
    dtype: torch.dtype,
    device: torch.device,
) -> None:
    """All questions in one pass, then all their continuations behind them in another."""
    width, longest = len(questions[0].rows), max(q.longest for q in questions)
    prompts = [q.tokens for q in questions]
    most = max(map(len, prompts))
    rope_length = most + longest + 1
    cache, last = read_prompts(model, prompts, dtype=dtype, device=device, rope_length=rope_length)
    rows = [row for q in questions for row in q.rows]
    hidden = last.repeat_interleave(width, 0)[:, None]
    if longest:
        behind = RowCache(
            model.config,
            rows=len(rows),
            slots=longest,
            prompts=len(questions),
            prompt_slots=most,
            dtype=dtype,
            device=device,
            rope_length=rope_length,
        )
        for number, prompt in enumerate(prompts):
            behind.share_prompt(cache, number, len(prompt), number)
        behind.width = width
        hidden = torch.cat([hidden, model(_pad([row.tokens for row in rows], device), behind)], 1)
    found.take(model, hidden, rows, shift=0)
