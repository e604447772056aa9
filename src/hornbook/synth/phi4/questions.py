"""Questions and answers out of a passage (phi-4, 2.2): steps of a deduction become questions with answers.

A teacher writes them as JSON, and an answer that the passage does not carry goes back. Without a teacher only
what a rule can see is taken: sentences that give a reason, a condition or a definition.
"""

import re
from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

from hornbook.synth import checks
from hornbook.synth.diversity import words
from hornbook.synth.phi4.seeds import sentences
from hornbook.synth.scripts import Row, Script, Scripted, Work, read_json
from hornbook.synth.stories import meta

VERSION = "phi4-questions-1"
SOURCE = "synth/phi4/questions"
GROUNDED = 0.6
"""Least share of an answer's rarer words that the passage must hold."""

_PROMPT = """\
Here is a passage:

{passage}

Find one to three places where something follows from something else. Of each make a question that a reader
could answer by thinking, without seeing the passage, and its answer.
Answer with one JSON object: {{"items": [{{"question": "...", "steps": ["...", "..."], "answer": "..."}}]}}.
The question holds everything it needs; the steps are the reasoning, one sentence each; the answer is one
sentence that uses only what the passage says or what follows from it.
"""
_SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "required": ["items"],
    "properties": {
        "items": {
            "type": "array",
            "minItems": 1,
            "maxItems": 5,
            "items": {
                "type": "object",
                "required": ["question", "steps", "answer"],
                "properties": {
                    "question": {"type": "string"},
                    "steps": {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 8},
                    "answer": {"type": "string"},
                },
            },
        }
    },
}
_POINTS_AWAY = re.compile(r"\b(?:passage|the text|the excerpt|the author|above|mentioned)\b", re.I)
_LITTLE_WORDS = """
a an the and or but of to in on at for with from by as is are was were be been it its this that these those he
she they we you i not no so if then than there here which who what when how why can could will would
"""
_LITTLE = frozenset(_LITTLE_WORDS.split())


def grounded(answer: str, passage: str) -> float:
    """Share of the answer's words, without the commonest, that occur in the passage."""
    asked = [word for word in words(answer) if word not in _LITTLE]
    known = set(words(passage))
    return sum(word in known for word in asked) / len(asked) if asked else 0.0


def item_problem(question: str, answer: str, passage: str) -> str:
    """What is wrong with a question and its answer, or nothing."""
    if not question.rstrip().endswith("?"):
        return f'"{question[:60]}" is no question; end it with a question mark.'
    if _POINTS_AWAY.search(question):
        return f'"{question[:60]}" points to the passage; the reader does not see it. Put in what is needed.'
    share = grounded(answer, passage)
    if share < GROUNDED:
        return f'The answer "{answer[:60]}" says what the passage does not; keep to the passage.'
    problem = checks.length_problem(question, 5, 80) or checks.length_problem(answer, 2, 80)
    return problem or checks.language_problem(f"{question} {answer}")


def _row(id: str, question: str, reply: str, *, seed_id: str, seed: int, **facts: Any) -> Row:
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": reply}]
    lineage = meta(facts.pop("writer"), seed, 0, seed_id=seed_id, **facts)
    return {"id": id, "messages": turns, "source": SOURCE, "meta": lineage}


def question_task(seed_id: str, passage: str, *, seed: int = 0, about: str = "all") -> Scripted:
    """A teacher's questions on one passage; a row each. about: the passage's cluster."""

    def read(text: str) -> tuple[list[dict[str, Any]] | None, str]:
        value, problem = read_json(text, _SCHEMA)
        if value is None:
            return None, problem
        problems = [item_problem(item["question"], item["answer"], passage) for item in value["items"]]
        sound = [item for item, wrong in zip(value["items"], problems, strict=True) if not wrong]
        return (sound, "") if sound else (None, problems[0])

    def steps(work: Work) -> Script:
        items = yield from work.write(_PROMPT.format(passage=passage), read, schema=_SCHEMA)
        return [
            _row(
                f"{work.id}-{number}",
                item["question"],
                " ".join([*item["steps"], item["answer"]]),
                seed_id=seed_id,
                seed=seed,
                writer=VERSION,
                answer=item["answer"],
                verified="grounded",
            )
            for number, item in enumerate(items)
        ]

    return Scripted(id=f"question-{seed}-{seed_id}", steps=steps, facets={"about": about})


_RULES: Sequence[tuple[str, re.Pattern[str], str, str]] = (
    ("reason", re.compile(r"^(?P<a>[A-Z][^,;:()]{20,140}?),? because (?P<b>[^()]{10,140})[.!]$"),
     'Why is this so? "{a}."', "Because {b}."),
    ("condition", re.compile(r"^If (?P<a>[^,;:()]{8,100}), (?:then )?(?P<b>[^()]{10,140})[.!]$"),
     "What happens if {a}?", "{B}."),
    ("purpose", re.compile(r"^(?P<a>[A-Z][^,;:()]{15,120}?) so that (?P<b>[^()]{10,120})[.!]$"),
     'What is this for? "{a}."', "So that {b}."),
    ("definition", re.compile(r"^(?P<a>(?:An?|The) [a-z][\w -]{2,30}) (?P<c>is|are) "
                              r"(?P<b>(?:an?|the) [^()]{15,140})[.!]$"),
     "What {c} {low}?", "{a} {c} {b}."),
)  # fmt: skip


def questions_by_rules(seed_id: str, passage: str, *, seed: int = 0) -> list[Row]:
    """What sentences of four forms give: their reason, condition, purpose or definition, asked and
    answered."""
    rows = []
    for number, sentence in enumerate(sentences(passage)):
        for kind, pattern, asks, answers in _RULES:
            found = pattern.match(sentence)
            if found is None:
                continue
            parts = found.groupdict()
            first, second = parts["a"], parts["b"]
            parts |= {"B": second[:1].upper() + second[1:], "low": first[:1].lower() + first[1:]}
            row = _row(
                f"question-{seed}-{seed_id}-{number}",
                asks.format_map(parts),
                answers.format_map(parts),
                seed_id=seed_id,
                seed=seed,
                writer=f"{VERSION}/rules",
                kind=kind,
                verified="quoted",
            )
            rows.append(row)
            break
    return rows


def gap_exercise(seed_id: str, passage: str, *, seed: int = 0) -> Row | None:
    """Fill in the middle: one sentence of the passage is taken out, and is the answer."""
    told = sentences(passage)
    if len(told) < 3:
        return None
    at = Random(f"{VERSION}/gap/{seed}/{seed_id}").randrange(1, len(told) - 1)
    shown = " ".join([*told[:at], "[...]", *told[at + 1 :]])
    return _row(
        f"gap-{seed}-{seed_id}",
        f"One sentence is missing where you see [...]. Write it.\n\n{shown}",
        told[at],
        seed_id=seed_id,
        seed=seed,
        writer=f"{VERSION}/gap",
        kind="gap",
        verified="quoted",
    )
