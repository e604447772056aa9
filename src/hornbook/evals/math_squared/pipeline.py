r"""MATH^2: difficult questions from pairs of skills, written and checked in five steps (2407.21009).

1. Is the pair of skills really two? 2. A question that needs both. 3. An attempt at it by a sceptic. 4. Four
votes on question and attempt. 5. Four solutions, and the answer that most of them give. What is rejected is
kept with the reason; what is left goes to people (`evals/annotation.py`).
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Literal

from hornbook.errors import HornbookError
from hornbook.evals.benchmarks.items import last_boxed
from hornbook.evals.math_answers import Comparer
from hornbook.evals.math_squared import prompts
from hornbook.evals.math_squared.skills import Exemplar
from hornbook.lm.base import Advances, Completion, Failure, LanguageModel, Message, Request, Sampling, ask
from hornbook.lm.parse import verdict

Repository = Mapping[str, Sequence[Exemplar]]
Stage = Literal["pair", "generation", "attempt", "validation", "solution", "accepted"]
STAGES: tuple[Stage, ...] = ("pair", "generation", "attempt", "validation", "solution", "accepted")


@dataclass(frozen=True, kw_only=True)
class Pipeline:
    """The protocol.

    exemplars: questions shown for each skill. votes: of step 4, of which `needed` must say yes (with four
    votes a draw is possible: it is a no). solutions: of step 5; if no two agree the question is dropped.
    attempt: without it step 4 sees the question alone (an ablation).
    """

    exemplars: int = 3
    votes: int = 4
    needed: int = 3
    solutions: int = 4
    attempt: bool = True
    temperature: float = 0.8
    max_tokens: int = 1200

    def __post_init__(self) -> None:
        for name in ("exemplars", "votes", "needed", "solutions", "max_tokens"):
            if getattr(self, name) < 1:
                raise HornbookError(
                    f"Pipeline.{name} is {getattr(self, name)}; accepted is a count of at least 1."
                )
        if self.needed > self.votes:
            raise HornbookError(
                f"Pipeline.needed is {self.needed}, but there are {self.votes} votes; accepted are 1 to "
                f"{self.votes}."
            )


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A question on its way through the steps.

    votes: yes, no or None (unreadable) of step 4. replies: the texts of step 5; answers: what they give,
    None where nothing can be read. agreeing: how many of them give `answer`. stage: where it stands or was
    rejected, and `why`.
    """

    id: str
    skills: tuple[str, str]
    stage: Stage = "pair"
    why: str = ""
    question: str = ""
    attempt: str = ""
    votes: tuple[bool | None, ...] = ()
    replies: tuple[str, ...] = ()
    answers: tuple[str | None, ...] = ()
    answer: str = ""
    solution: str = ""
    agreeing: int = 0

    @property
    def accepted(self) -> bool:
        return self.stage == "accepted"


def propose(
    model: LanguageModel,
    repository: Repository,
    *,
    count: int,
    seed: int = 0,
    pipeline: Pipeline | None = None,
    salt: str = "",
    progress: Advances | None = None,
) -> list[Candidate]:
    """`count` candidates through the five steps, every step of all of them in one batch.

    Args:
        repository: exemplars by skill (`skills.extract`).
        seed: of pairs and exemplars.
        progress: advances once for each candidate that is accepted or rejected.

    Raises:
        HornbookError: fewer than two skills, or a skill without exemplars.
    """
    if len(repository) < 2 or not all(repository.values()):
        raise HornbookError(
            f"Pairs of skills need at least two skills with a question each; there are {len(repository)}."
        )
    steps = _Steps(model, repository, pipeline or Pipeline(), seed, salt)
    rng = Random(f"pairs {seed}")
    names = sorted(repository)
    live = [Candidate(id=f"q{seed}-{i}", skills=_two(names, rng)) for i in range(count)]
    done: list[Candidate] = []
    for work in (steps.distinct, steps.generate, steps.attempt, steps.validate, steps.solve):
        after = work(live)
        live = [candidate for candidate in after if not candidate.why]
        rejected = [candidate for candidate in after if candidate.why]
        done += rejected
        if progress is not None:
            progress.advance(len(rejected))
    if progress is not None:
        progress.advance(len(live))
    done += [replace(candidate, stage="accepted") for candidate in live]
    return sorted(done, key=lambda candidate: int(candidate.id.rsplit("-", 1)[1]))


def _two(names: Sequence[str], rng: Random) -> tuple[str, str]:
    first, second = rng.sample(names, 2)
    return first, second


def funnel(candidates: Sequence[Candidate]) -> dict[str, int]:
    """How many candidates ended at each step; `accepted` are those that passed all."""
    counts = Counter(candidate.stage for candidate in candidates)
    return {stage: counts[stage] for stage in STAGES}


class _Steps:
    def __init__(
        self, model: LanguageModel, repository: Repository, pipeline: Pipeline, seed: int, salt: str
    ) -> None:
        self.model, self.repository, self.pipeline = model, repository, pipeline
        self.seed, self.salt = seed, f"{prompts.VERSION} {salt}"

    def _request(self, prompt: str, *, sample: int = 0, before: tuple[Message, ...] = ()) -> Request:
        sampling = Sampling(temperature=self.pipeline.temperature, max_tokens=self.pipeline.max_tokens)
        asked = ask(prompt, sampling=sampling, sample_index=sample, salt=self.salt, tag="math-squared")
        return replace(asked, messages=(*before, *(asked.messages or ())))

    def _shown(self, skill: str, who: str) -> list[Exemplar]:
        rng = Random(f"{self.seed} {skill} {who}")
        rows = list(self.repository[skill])
        return rng.sample(rows, min(self.pipeline.exemplars, len(rows)))

    def _both(self, template: str, a: str, b: str, who: str) -> str:
        of_a, of_b = (
            "\n".join(f"- {e.question} Answer: {e.answer}" for e in self._shown(skill, who))
            for skill in (a, b)
        )
        return template.format(a=a, b=b, of_a=of_a, of_b=of_b)

    def distinct(self, live: Sequence[Candidate]) -> list[Candidate]:
        """Step 1, once for every pair that occurs, whichever of the two comes first."""
        pairs = sorted({(min(c.skills), max(c.skills)) for c in live})
        asked = [self._request(self._both(prompts.DISTINCT, a, b, "pair")) for a, b in pairs]
        said = dict(zip(pairs, self.model.complete(asked), strict=True))
        after = []
        for candidate in live:
            result = said[min(candidate.skills), max(candidate.skills)]
            word = verdict(result.text, ("yes", "no")) if isinstance(result, Completion) else None
            why = {"yes": "", "no": "the two skills are one"}.get(word or "", "no verdict on the pair")
            after.append(replace(candidate, why=_failed(result) or why))
        return after

    def generate(self, live: Sequence[Candidate]) -> list[Candidate]:
        """Step 2: a question below its mark; without the mark there is none."""
        asked = [
            self._request(self._both(prompts.GENERATE, *c.skills, c.id), before=prompts.TALKS) for c in live
        ]
        after = []
        for candidate, result in zip(live, self.model.complete(asked), strict=True):
            parts = re.split(r"(?m)^\W*QUESTION\W*$", result.text) if isinstance(result, Completion) else []
            question = parts[-1].strip() if len(parts) > 1 else ""
            why = _failed(result) or ("" if question else "no question below the mark")
            after.append(replace(candidate, stage="generation", question=question, why=why))
        return after

    def attempt(self, live: Sequence[Candidate]) -> list[Candidate]:
        """Step 3: a sceptic's attempt; nothing is rejected for it here."""
        if not self.pipeline.attempt:
            return list(live)
        asked = [self._request(prompts.ATTEMPT.format(question=c.question)) for c in live]
        return [
            replace(
                candidate,
                stage="attempt",
                attempt=result.text.strip() if isinstance(result, Completion) else "",
                why=_failed(result),
            )
            for candidate, result in zip(live, self.model.complete(asked), strict=True)
        ]

    def validate(self, live: Sequence[Candidate]) -> list[Candidate]:
        """Step 4: votes, each in a context of its own; an unreadable vote is no yes."""
        asked = [
            self._request(
                prompts.VALIDATE.format(
                    a=c.skills[0],
                    b=c.skills[1],
                    question=c.question,
                    attempt=c.attempt or "(none)",
                ),
                sample=turn,
            )
            for c in live
            for turn in range(self.pipeline.votes)
        ]
        results = iter(self.model.complete(asked))
        after = []
        for candidate in live:
            votes = tuple(_vote(next(results)) for _ in range(self.pipeline.votes))
            yes = votes.count(True)
            why = "" if yes >= self.pipeline.needed else f"{yes} of {len(votes)} votes for it"
            after.append(replace(candidate, stage="validation", votes=votes, why=why))
        return after

    def solve(self, live: Sequence[Candidate]) -> list[Candidate]:
        """Step 5: solutions with exemplars of both skills; the answer of the largest group of equals."""
        asked = [
            self._request(prompts.SOLVE.format(question=c.question, examples=self._examples(c)), sample=turn)
            for c in live
            for turn in range(self.pipeline.solutions)
        ]
        results = self.model.complete(asked)
        after = []
        with Comparer() as compare:
            for i, candidate in enumerate(live):
                own = results[i * self.pipeline.solutions : (i + 1) * self.pipeline.solutions]
                texts = tuple(r.text if isinstance(r, Completion) else "" for r in own)
                after.append(_settled(candidate, texts, compare))
        return after

    def _examples(self, candidate: Candidate) -> str:
        shown = [e for skill in candidate.skills for e in self._shown(skill, f"{candidate.id} solve")]
        return "\n\n".join(f"Question: {e.question}\n{e.solution} \\boxed{{{e.answer}}}" for e in shown)


def _failed(result: Completion | Failure) -> str:
    return "" if isinstance(result, Completion) else f"the call failed ({result.kind}): {result.message}"


def _vote(result: Completion | Failure) -> bool | None:
    """What stands below FINAL ANSWER, or in the last line that says either."""
    if isinstance(result, Failure):
        return None
    word = verdict(re.split(r"(?i)final answer", result.text)[-1], ("yes", "no"))
    return None if word is None else word == "yes"


def _settled(candidate: Candidate, texts: tuple[str, ...], compare: Comparer) -> Candidate:
    """The answer that most solutions give. Of two as large groups the earlier one counts; `agreeing` tells.
    With one solution there is nothing to compare and it counts."""
    answers = tuple(last_boxed(text) or None for text in texts)
    groups: list[list[int]] = []
    for i, answer in enumerate(answers):
        if answer is None:
            continue
        home = next((g for g in groups if compare.same(answer, answers[g[0]] or "")), None)
        if home is None:
            groups.append([i])
        else:
            home.append(i)
    best = max(groups, key=len, default=[])
    if not best or (len(best) == 1 and len(texts) > 1):
        why = "no two of the solutions agree" if best else "no solution has an answer"
        return replace(candidate, stage="solution", replies=texts, answers=answers, why=why)
    return replace(
        candidate,
        stage="solution",
        replies=texts,
        answers=answers,
        answer=answers[best[0]] or "",
        solution=texts[best[0]],
        agreeing=len(best),
    )
