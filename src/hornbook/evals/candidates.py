"""Many programs for one word problem: drawn from a student, executed, and one of them chosen.

TinyGSM sections 3 and 4. A candidate is right when its program gives the true answer under both number
assignments of its problem (see `hornbook.evals.word_problems`).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hornbook.data.tokenizer import Tokenizer
from hornbook.evals.word_problems import grade, meta_of
from hornbook.infer.engine import Engine, Generation
from hornbook.lm.base import Sampling

MAX_ROWS = 512
"""Rows of the engine while a small student answers: its steps cost the same for few rows as for many."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One program. `tokens` as drawn, with the stop token if there was one; `value`: what it returned, None
    when that is no number; `logprob`: mean over its tokens, under the student's own distribution."""

    text: str
    tokens: tuple[int, ...]
    finished: bool
    right: bool
    value: float | None
    logprob: float


def prompt_tokens(tokenizer: Tokenizer, question: str) -> list[int]:
    """What a student that was trained on solutions is given: the question and a line break."""
    return tokenizer.encode(question + "\n")


def draw_candidates(
    engine: Engine,
    tokenizer: Tokenizer,
    problems: Sequence[Mapping[str, Any]],
    *,
    samples: int,
    temperature: float,
    max_tokens: int = 64,
    seed: int = 0,
) -> list[list[Candidate]]:
    """`samples` candidates for each problem (rows of `write_word_problems`), executed in the sandbox."""
    metas = [meta_of(problem) for problem in problems]
    sampling = [
        Sampling(
            temperature=temperature,
            max_tokens=max_tokens,
            logprobs=0,
            seed=(seed * 1_000_003 + number) % 2**31,
        )
        for number in range(len(metas))
    ]
    prompts = [prompt_tokens(tokenizer, str(meta["question"])) for meta in metas]
    drawn = engine.generate(prompts, sampling, samples)
    # The same program is often drawn again; each is executed once.
    places: dict[tuple[int, str], int] = {}
    for number, answers in enumerate(drawn):
        for answer in answers:
            places.setdefault((number, answer.text), len(places))
    graded = grade([text for _, text in places], [metas[number] for number, _ in places]).items
    return [
        [_candidate(answer, graded[places[number, answer.text]]) for answer in answers]
        for number, answers in enumerate(drawn)
    ]


def _candidate(answer: Generation, graded: Any) -> Candidate:
    finished = answer.finish_reason == "stop"
    stop = (answer.stopped_by,) if isinstance(answer.stopped_by, int) else ()
    logprobs = answer.logprobs or [0.0]
    return Candidate(
        text=answer.text,
        tokens=(*answer.tokens, *stop),
        finished=finished,
        right=finished and graded.robust,
        value=graded.value,
        logprob=sum(logprobs) / len(logprobs),
    )


def best(candidates: Sequence[Candidate], scores: Sequence[float]) -> Candidate:
    """The candidate with the highest score; the first of equals; one cut off at the limit only if all
    were."""
    ranked = zip(candidates, scores, strict=True)
    return max(ranked, key=lambda pair: (pair[0].finished, pair[1]))[0]


def majority(candidates: Sequence[Candidate]) -> Candidate:
    """The first candidate with the most frequent value; the first of all when no program gave a number."""
    votes = Counter(round(c.value, 3) for c in candidates if c.value is not None)
    if not votes:
        return candidates[0]
    winner = votes.most_common(1)[0][0]
    return next(c for c in candidates if c.value is not None and round(c.value, 3) == winner)


def auc(scores: Sequence[float], right: Sequence[bool]) -> float | None:
    """Probability that a right candidate scores above a wrong one (ties count half); None without both."""
    import numpy as np

    values, truth = np.asarray(scores, float), np.asarray(right, bool)
    positive, negative = int(truth.sum()), int((~truth).sum())
    if not positive or not negative:
        return None
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    ranks = (ends - (counts - 1) / 2)[inverse]
    return float((ranks[truth].sum() - positive * (positive + 1) / 2) / (positive * negative))
