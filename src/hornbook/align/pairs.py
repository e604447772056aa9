"""Preference pairs whose preference is verified, from what the model itself says: the step before DPO.

phi-4 technical report (arXiv 2412.08905) section 4.2 takes both sides of a pair from the model's own answers;
what the model gets right and wrong by turns is what it can learn from. Where it gives no wrong (or no right)
answer, a written one stands in, and the row says so.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from hornbook.align.checkpoints import config_of, folder_of
from hornbook.align.questions import (
    KINDS,
    Question,
    Verdict,
    exercise_questions,
    policy_questions,
    problem_questions,
    verify,
)
from hornbook.align.rollouts import Answer, draw_answers
from hornbook.data.corpus import CorpusWriter
from hornbook.errors import HornbookError
from hornbook.lab.step import Artifact, Estimate, StepContext, step
from hornbook.lm.base import Sampling

VERSION = "verified-pairs-1"
POLICY_TOKENS = 80
"""New tokens at most where a refusal is looked for: it stands in the first two sentences."""

Written = Literal["never", "one side", "both sides"]
WRITTEN: tuple[Written, ...] = ("never", "one side", "both sides")


@dataclass(frozen=True, kw_only=True)
class Side:
    """One answer of a pair: the text, who wrote it, what the verifier found, its length in tokens."""

    text: str
    by: str  # "model" or "written"
    why: str
    tokens: int


@dataclass(frozen=True, kw_only=True)
class VerifiedPair:
    """A right answer over a wrong one to the same request."""

    question: Question
    chosen: Side
    rejected: Side

    @property
    def by_model(self) -> int:
        """How many of the two sides the model wrote."""
        return (self.chosen.by == "model") + (self.rejected.by == "model")


def choose_pair(
    question: Question, answers: Sequence[Answer], verdicts: Sequence[Verdict], written: Sequence[Side | None]
) -> VerifiedPair | None:
    """The pair a question gives, or None when a side is missing.

    The model's own answers come first. Of several, the right and the wrong one of most equal length are
    taken, so that preference and length stay apart; answers that were cut off are not used.

    Args:
        written: the written right and the written wrong answer, None where there is none (or it did not
            pass the verifier).
    """
    own: dict[bool, list[Side]] = {True: [], False: []}
    for answer, verdict in zip(answers, verdicts, strict=True):
        if verdict.right is not None and answer.finished and answer.text.strip():
            own[verdict.right].append(
                Side(text=answer.text, by="model", why=verdict.why, tokens=answer.tokens)
            )
    right = own[True] or [side for side in written[:1] if side is not None]
    wrong = own[False] or [side for side in written[1:] if side is not None]
    if not right or not wrong:
        return None
    chosen, rejected = min(
        ((a, b) for a in right for b in wrong), key=lambda pair: abs(pair[0].tokens - pair[1].tokens)
    )
    return VerifiedPair(question=question, chosen=chosen, rejected=rejected)


def _estimate(
    *, model: Artifact | Path, ask: Mapping[str, int], samples: int, max_tokens: int, **other: Any
) -> Estimate:
    config = config_of(model)
    parameters = config.parameters() if config is not None else 3_000_000
    tokens = sum(ask.values()) * samples * max_tokens / 4  # answers are short of the limit
    rate = 2.5e10 / (2 * parameters)  # tokens a second of a batch of 64 rows on two cores
    return Estimate(
        seconds=5 + tokens / rate, memory_bytes=5e8 + 6 * parameters, disk_bytes=1500 * sum(ask.values())
    )


@step(version="1", makes="corpus", estimate=_estimate)
def verified_pairs(
    ctx: StepContext,
    *,
    model: Artifact | Path,
    ask: Mapping[str, int],
    problems: Artifact | Path | None = None,
    exercises: Artifact | Path | None = None,
    samples: int = 4,
    temperature: float = 1.0,
    top_p: float = 1.0,
    max_tokens: int = 160,
    written: Written | Mapping[str, Written] = "both sides",
    seed: int = 0,
    rows: int = 64,
    weights: Literal["auto", "fp32", "bf16", "int8", "int4"] = "auto",
) -> dict[str, Any]:
    """Asks the model, verifies its answers, and writes a corpus of preferences.

    Args:
        model: checkpoint folder of the model that will be trained on the pairs.
        ask: how many requests of each kind: "program" (from `problems`), "function" (from `exercises`),
            "policy", "helpful". A request gives at most one pair.
        problems, exercises: training corpora of `synth.steps`; never the held-out ones.
        samples: answers to each request.
        temperature, top_p, max_tokens: of the drawing.
        written: how much of a pair may be written beforehand instead of said by the model, for all kinds or
            by kind. Pairs that the model wrote wholly itself move it least elsewhere.
        rows, weights: of the engine.

    Facts: rows, `asked`, `pairs` and `pass_rate` by kind (share of the model's answers that are right;
    "helpful": share that do not decline), `sides_by_model` {0, 1, 2: pairs}, share_on_policy (pairs of which
    the model wrote both sides), share_of_sides_on_policy, chosen_tokens, rejected_tokens, length_difference
    (means), cut_off (share of answers), `reasons` of rejection, `no_pair` by kind, examples.

    Raises:
        HornbookError: an unknown kind, a missing corpus, or no pair at all.
    """
    _check(ask, problems, exercises, samples, written)
    from hornbook.infer.language_model import LocalModel

    questions = _questions(ask, problems, exercises, seed)
    local = LocalModel.open(folder_of(model), weights=weights, max_rows=rows)
    limits = [
        min(max_tokens, POLICY_TOKENS) if q.kind in ("policy", "helpful") else max_tokens for q in questions
    ]
    answers = draw_answers(
        local,
        [question.request for question in questions],
        Sampling(temperature=temperature, top_p=top_p, max_tokens=max_tokens, seed=seed),
        samples,
        max_tokens=limits,
        kept=ctx.folder / "answers.jsonl",
        progress=ctx.progress(len(questions), "requests", f"{samples} answers each"),
    )
    verdicts = verify(
        questions,
        [[*(a.text for a in own), q.good, q.bad] for q, own in zip(questions, answers, strict=True)],
    )
    pairs: list[VerifiedPair] = []
    none: Counter[str] = Counter()
    least = {"never": 2, "one side": 1, "both sides": 0}
    allowed = {kind: written if isinstance(written, str) else written.get(kind, "both sides") for kind in ask}
    for question, own, found in zip(questions, answers, verdicts, strict=True):
        sides = _written_sides(question, found[-2:], local.tokenizer.encode)
        pair = choose_pair(question, own, found[:-2], sides)
        if pair is None or pair.by_model < least[allowed[question.kind]]:
            none[question.kind] += 1
        else:
            pairs.append(pair)
    if not pairs:
        raise HornbookError(
            f"None of {len(questions)} requests gave a pair: the model is never right and wrong by turns "
            f"(written answers allowed: {written!r}). Draw more samples, or allow written answers."
        )
    (ctx.folder / "corpus.json").unlink(missing_ok=True)
    with CorpusWriter(ctx.folder, "preferences", lineage={"step": ctx.name, "key": ctx.key}) as writer:
        writer.write_rows([_row(pair) for pair in pairs])
    facts = _facts(questions, answers, verdicts, pairs, none)
    ctx.say(
        f"{len(pairs)} pairs of {len(questions)} requests, {facts['share_on_policy']:.0%} of them wholly the "
        "model's own"
    )
    return facts


def _check(
    ask: Mapping[str, int],
    problems: object,
    exercises: object,
    samples: int,
    written: Written | Mapping[str, Written],
) -> None:
    unknown = sorted(set(ask) - set(KINDS))
    if unknown:
        raise HornbookError(f"ask names {', '.join(unknown)}; accepted are {', '.join(KINDS)}.")
    if sum(ask.values()) < 1 or min(ask.values()) < 0:
        raise HornbookError(f"ask is {dict(ask)}; give counts of 0 or more, at least one request in all.")
    for kind, corpus, name in (("program", problems, "problems"), ("function", exercises, "exercises")):
        if ask.get(kind) and corpus is None:
            raise HornbookError(f"ask wants {ask[kind]} of kind {kind!r}, but {name} is not given.")
    if samples < 1:
        raise HornbookError(f"samples is {samples}; it must be at least 1.")
    for value in [written] if isinstance(written, str) else written.values():
        if value not in WRITTEN:
            raise HornbookError(f"written is {value!r}; accepted are {', '.join(map(repr, WRITTEN))}.")


def _questions(
    ask: Mapping[str, int], problems: Artifact | Path | None, exercises: Artifact | Path | None, seed: int
) -> list[Question]:
    found: list[Question] = []
    if problems is not None:
        found += problem_questions(problems, ask.get("program", 0), seed)
    if exercises is not None:
        found += exercise_questions(exercises, ask.get("function", 0), seed)
    for kind in ("policy", "helpful"):
        found += policy_questions(kind, ask.get(kind, 0), seed)
    return found


def _written_sides(question: Question, verdicts: Sequence[Verdict], encode: Any) -> list[Side | None]:
    """The written answers that the verifier does not contradict."""
    good, bad = verdicts
    sides: list[Side | None] = [None, None]
    if question.good and good.right is not False:
        why = good.why
        sides[0] = Side(text=question.good, by="written", why=why, tokens=len(encode(question.good)))
    if question.bad and bad.right is False:
        sides[1] = Side(
            text=question.bad, by="written", why=question.bad_why, tokens=len(encode(question.bad))
        )
    return sides


def _row(pair: VerifiedPair) -> dict[str, Any]:
    question = pair.question
    meta = {
        "writer": VERSION,
        "kind": question.kind,
        "why": pair.rejected.why,
        "chosen_by": pair.chosen.by,
        "rejected_by": pair.rejected.by,
        "chosen_tokens": pair.chosen.tokens,
        "rejected_tokens": pair.rejected.tokens,
    }
    return {
        "id": f"pair-{question.id}",
        "messages": [{"role": "user", "content": question.request}],
        "chosen": pair.chosen.text,
        "rejected": pair.rejected.text,
        "source": f"align/verified_pairs/{question.kind}",
        "meta": json.dumps(meta),
    }


def _facts(
    questions: Sequence[Question],
    answers: Sequence[Sequence[Answer]],
    verdicts: Sequence[Sequence[Verdict]],
    pairs: Sequence[VerifiedPair],
    none: Counter[str],
) -> dict[str, Any]:
    kinds = [kind for kind in KINDS if any(q.kind == kind for q in questions)]
    asked = Counter(question.kind for question in questions)
    right: Counter[str] = Counter()
    cut = total = 0
    for question, own, found in zip(questions, answers, verdicts, strict=True):
        for answer, verdict in zip(own, found, strict=False):
            right[question.kind] += verdict.right is True or (
                verdict.right is None and bool(answer.text.strip())
            )
            cut += not answer.finished and question.kind not in ("policy", "helpful")
            total += question.kind not in ("policy", "helpful")
    sides = Counter(pair.by_model for pair in pairs)
    chosen = sum(pair.chosen.tokens for pair in pairs) / len(pairs)
    rejected = sum(pair.rejected.tokens for pair in pairs) / len(pairs)
    samples = len(answers[0])
    return {
        "rows": len(pairs),
        "asked": dict(asked),
        "samples": samples,
        "pairs": dict(Counter(pair.question.kind for pair in pairs)),
        "no_pair": dict(none),
        "pass_rate": {kind: right[kind] / (asked[kind] * samples) for kind in kinds},
        "sides_by_model": {str(count): sides[count] for count in (2, 1, 0)},
        "share_on_policy": sides[2] / len(pairs),
        "share_of_sides_on_policy": (2 * sides[2] + sides[1]) / (2 * len(pairs)),
        "chosen_tokens": chosen,
        "rejected_tokens": rejected,
        "length_difference": chosen - rejected,
        "cut_off": cut / total if total else 0.0,
        "answer_tokens": sum(answer.tokens for own in answers for answer in own),
        "reasons": dict(Counter(pair.rejected.why.partition(" (")[0] for pair in pairs)),
        "examples": [
            {
                "request": pair.question.request,
                "chosen": pair.chosen.text,
                "rejected": pair.rejected.text,
                "why": pair.rejected.why,
                "by": [pair.chosen.by, pair.rejected.by],
            }
            for pair in _one_of_each(pairs)
        ],
    }


def _one_of_each(pairs: Sequence[VerifiedPair]) -> list[VerifiedPair]:
    """For each kind one pair, the model's own where there is one."""
    found: dict[str, VerifiedPair] = {}
    for pair in sorted(pairs, key=lambda pair: -pair.by_model):
        found.setdefault(pair.question.kind, pair)
    return list(found.values())
