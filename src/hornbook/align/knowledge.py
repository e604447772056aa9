"""What a model knows, and "I do not know" for the rest (phi-4 report, arXiv 2412.08905, appendix A.1).

Each question is asked several times. Rows for fine-tuning: the answer where the model is usually right, a
refusal where it is usually wrong, and a refusal to every question that nobody could answer. Preference rows:
the answer over a refusal where it is sometimes right, a refusal over its own wrong answer where it is
sometimes wrong; of each response the first five tokens alone. What is wrong and what is declined is never
guessed at: the answers are known, or the question is one about nothing.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Any

from hornbook.align.checkpoints import folder_of, template_of
from hornbook.align.dpo import tokenizer_fingerprint
from hornbook.align.rollouts import draw_answers
from hornbook.data.chat import ChatTemplate
from hornbook.data.corpus_writer import CorpusWriter
from hornbook.data.tokenizer import Tokenizer
from hornbook.errors import HornbookError
from hornbook.evals.attempts import MAX_TOKENS, FactQuestion, grade, read_fact_questions
from hornbook.lab.files import write_atomic
from hornbook.lab.step import Artifact, StepContext, step
from hornbook.lm.base import Sampling
from hornbook.synth.people import UNKNOWN

ESTIMATES = "estimates.jsonl"


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """How a question fared: shares of the drawn answers, and one answer of each kind in the model's words."""

    question: FactQuestion
    right: float
    wrong: float
    declined: float
    said_right: str = ""
    said_wrong: str = ""

    @property
    def answerable(self) -> bool:
        """Whether there is an answer at all."""
        return bool(self.question.answers)


def estimate(question: FactQuestion, answers: Sequence[str]) -> Estimate:
    """Shares over several answers to one question; the kept answers are the most frequent of their kind."""
    kinds = [grade(text, question) for text in answers]
    said = {
        kind: Counter(t for t, k in zip(answers, kinds, strict=True) if k == kind).most_common(1)
        for kind in ("right", "wrong")
    }
    return Estimate(
        question=question,
        right=kinds.count("right") / len(kinds),
        wrong=kinds.count("wrong") / len(kinds),
        declined=kinds.count("not attempted") / len(kinds),
        said_right=said["right"][0][0] if said["right"] else "",
        said_wrong=said["wrong"][0][0] if said["wrong"] else "",
    )


@step(version="1", makes="table")
def estimate_knowledge(
    ctx: StepContext,
    *,
    model: Artifact | Path,
    questions: Artifact | Path,
    count: int | None = None,
    samples: int = 8,
    temperature: float = 1.0,
    max_tokens: int = MAX_TOKENS,
    seed: int = 0,
) -> dict[str, Any]:
    """Asks a checkpoint every question `samples` times; `artifact / "estimates.jsonl"` has what came of each.

    Args:
        questions: a corpus or a JSON Lines file, see `evals.attempts.read_fact_questions`; `count` of them.

    An interrupted step asks only what is not answered yet (`answers.jsonl`).

    Facts: questions, right, wrong, declined (mean shares), usually_right, usually_wrong (shares of the
    questions that can be answered), `groups` {name: {right, wrong, declined}}.
    """
    if samples < 2:
        raise HornbookError(f"samples is {samples}; one answer does not tell how often: take at least 2.")
    from hornbook.infer.open import open_local

    asked = read_fact_questions(questions, count=count, seed=seed)
    answers = draw_answers(
        open_local(folder_of(model), weights="fp32"),
        [question.question for question in asked],
        Sampling(temperature=temperature, max_tokens=max_tokens, seed=seed),
        samples,
        kept=ctx.folder / "answers.jsonl",
        progress=ctx.progress(len(asked), "questions", f"{samples} answers each"),
    )
    found = [estimate(q, [a.text for a in own]) for q, own in zip(asked, answers, strict=True)]
    write_atomic(
        ctx.folder / ESTIMATES,
        "".join(json.dumps(asdict(one), ensure_ascii=False) + "\n" for one in found),
    )
    known = [one for one in found if one.answerable]
    return {
        **_means(found),
        "questions": len(found),
        "usually_right": sum(one.right > 0.5 for one in known) / max(1, len(known)),
        "usually_wrong": sum(one.wrong > 0.5 for one in known) / max(1, len(known)),
        "groups": {
            group: _means([one for one in found if one.question.group == group])
            for group in dict.fromkeys(one.question.group for one in found)
        },
    }


def _means(found: Sequence[Estimate]) -> dict[str, float]:
    return {
        name: sum(getattr(one, name) for one in found) / len(found) for name in ("right", "wrong", "declined")
    }


def read_estimates(where: Artifact | Path) -> list[Estimate]:
    """What `estimate_knowledge` found."""
    lines = (folder_of(where) / ESTIMATES).read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    return [
        Estimate(
            **{
                **row,
                "question": FactQuestion(**{**row["question"], "answers": tuple(row["question"]["answers"])}),
            }
        )
        for row in rows
    ]


@dataclass(frozen=True, kw_only=True)
class Preferred:
    """A preference row: `rule` is "answer over refusal" or "refusal over wrong answer"."""

    question: str
    chosen: str
    rejected: str
    rule: str


def tuning_answer(found: Estimate, refusal: str, *, usually: float = 0.5) -> str:
    """The answer that fine-tuning teaches; empty where the model is neither usually right nor usually
    wrong."""
    if not found.answerable or found.wrong > usually:
        return refusal
    if found.right > usually:
        return found.said_right
    return ""


def preferences(found: Estimate, refusal: str) -> list[Preferred]:
    """The preference rows of one question: none, one or both."""
    rows = []
    if found.right > 0:
        rows.append(
            Preferred(
                question=found.question.question,
                chosen=found.said_right,
                rejected=refusal,
                rule="answer over refusal",
            )
        )
    if found.wrong > 0:
        rows.append(
            Preferred(
                question=found.question.question,
                chosen=refusal,
                rejected=found.said_wrong,
                rule="refusal over wrong answer",
            )
        )
    return rows


@step(version="1", makes="corpora")
def teach_unknown(
    ctx: StepContext,
    *,
    estimates: Artifact | Path,
    model: Artifact | Path,
    usually: float = 0.5,
    first_tokens: int = 5,
    balance: bool = False,
    refusals: Sequence[str] = UNKNOWN,
    template: str | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Rows that teach a model what it does not know: `artifact / "sft"` and `artifact / "dpo"`.

    Args:
        estimates: from `estimate_knowledge`; model: the checkpoint that will be trained on the rows (its
            tokenizer cuts the responses).
        usually: above which share of right (or wrong) answers a question counts as known (or unknown).
        first_tokens: of each response, those that preference training sees; 0: all, with the stop token.
        balance: as many preferences of either rule as the rarer has (drawn). A model that is wrong more often
            than right is otherwise taught to decline before all else, also what it knows.
        refusals: how to say it; each row takes one of them.

    Facts: sft, dpo (rows), `taught` {"answer", "refusal", "refusal to the unanswerable", "nothing"} and
    `rules` (counts).
    """
    if not 0.5 <= usually < 1:
        raise HornbookError(f"usually is {usually}; accepted is a share from 0.5 to below 1.")
    if first_tokens < 0 or not refusals:
        raise HornbookError(
            f"first_tokens is {first_tokens} with {len(refusals)} refusals; see the docstring."
        )
    found = read_estimates(estimates)
    rng = Random(f"unknown:{seed}")
    written = [rng.choice(list(refusals)) for _ in found]
    tokenizer = Tokenizer.load(folder_of(model))
    form = template_of(tokenizer, template)
    taught: Counter[str] = Counter()
    rules: Counter[str] = Counter()
    lineage = {"made_by": "align.knowledge", "key": ctx.key}
    with CorpusWriter(ctx.folder / "sft", "conversations", lineage=lineage) as writer:
        for number, (one, refusal) in enumerate(zip(found, written, strict=True)):
            answer = tuning_answer(one, refusal, usually=usually)
            taught[_kind(one, answer, refusal)] += 1
            if answer:
                messages = [
                    {"role": "user", "content": one.question.question},
                    {"role": "assistant", "content": answer},
                ]
                writer.write_rows(
                    [{"id": f"sft-{number}", "messages": messages, "source": "align/knowledge", "meta": "{}"}]
                )
    pairs = [pair for one, refusal in zip(found, written, strict=True) for pair in preferences(one, refusal)]
    if balance:
        pairs = _balanced(pairs, rng)
    if not pairs:
        raise HornbookError(
            f"None of {len(found)} questions gives a preference: the model declined all of them already."
        )
    with CorpusWriter(ctx.folder / "dpo", "preferences", lineage=lineage) as writer:
        for row in _pair_rows(pairs, tokenizer, form, first_tokens):
            rules[json.loads(row["meta"])["rule"]] += 1
            writer.write_rows([row])
    return {
        "sft": sum(taught.values()) - taught["nothing"],
        "dpo": sum(rules.values()),
        "taught": dict(taught),
        "rules": dict(rules),
    }


def _balanced(pairs: Sequence[Preferred], rng: Random) -> list[Preferred]:
    """Equally many of each rule, in their order; all, where there is one rule alone."""
    sides: dict[str, list[int]] = {}
    for number, pair in enumerate(pairs):
        sides.setdefault(pair.rule, []).append(number)
    fewest = min(map(len, sides.values()), default=0)
    kept = {number for own in sides.values() for number in rng.sample(own, fewest)}
    return [pair for number, pair in enumerate(pairs) if number in kept]


def _kind(one: Estimate, answer: str, refusal: str) -> str:
    if not answer:
        return "nothing"
    if answer != refusal:
        return "answer"
    return "refusal" if one.answerable else "refusal to the unanswerable"


def _pair_rows(
    pairs: Sequence[Preferred], tokenizer: Tokenizer, form: ChatTemplate, first_tokens: int
) -> Iterator[dict[str, Any]]:
    fingerprint = tokenizer_fingerprint(tokenizer)
    stop = tokenizer.special(form.stop)
    for number, pair in enumerate(pairs):
        messages = [{"role": "user", "content": pair.question}]
        meta: dict[str, Any] = {"rule": pair.rule}
        if first_tokens:
            prompt, _ = form.encode(tokenizer, messages, add_generation_prompt=True)
            meta["token_ids"] = {
                "prompt": prompt,
                "chosen": [*tokenizer.encode(pair.chosen), stop][:first_tokens],
                "rejected": [*tokenizer.encode(pair.rejected), stop][:first_tokens],
                "tokenizer": fingerprint,
            }
        yield {
            "id": f"unknown-{number}",
            "messages": messages,
            "chosen": pair.chosen,
            "rejected": pair.rejected,
            "source": "align/knowledge",
            "meta": json.dumps(meta),
        }


def counted(facts: Mapping[str, Any]) -> str:
    """What `teach_unknown` wrote, in a sentence."""
    rows = ", ".join(f"{count} {kind}" for kind, count in facts["taught"].items())
    pairs = ", ".join(f"{count} {rule}" for rule, count in facts["rules"].items())
    return f"fine-tuning: {rows}; preferences: {pairs}"
