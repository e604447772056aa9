"""Graders of generated answers: text and reference in, a number in [0, 1] out. A card names one of them."""

import re
import string
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hornbook.errors import HornbookError
from hornbook.evals.exercises import run_to_the_end
from hornbook.evals.math_answers import Comparer
from hornbook.sandbox import Limits

from .instructions import follows
from .items import last_boxed


@dataclass(frozen=True, kw_only=True)
class Graded:
    """What one answer is worth by each name; `note` says why; `read` is what was taken as the answer.

    Empty `values`: it could not be graded, and counts for nothing.
    """

    values: Mapping[str, float]
    read: str = ""
    note: str = ""


Scorer = Callable[[Sequence[str], Sequence[Any]], list[Graded]]

_NUMBER = re.compile(r"-?\$?\d[\d,]*(?:\.\d+)?|-?\$?\.\d+")
_FENCE = re.compile(r"```(?:python|py)?[ \t]*\n(.*?)(?:```|\Z)", re.DOTALL)


def number(texts: Sequence[str], golds: Sequence[Any]) -> list[Graded]:
    """The number after "####" where there is one, else the last number; equal as numbers (GSM8K)."""

    def grade(text: str, gold: Any) -> Graded:
        marked = re.search(r"####\s*(-?[$\d.,]+)", text)
        found = _NUMBER.findall(marked[1] if marked else text)
        read = found[0 if marked else -1] if found else ""
        right = read != "" and _value(read) == _value(str(gold))
        return Graded(values={"exact": float(right)}, read=read, note="" if read else "no number")

    return [grade(text, gold) for text, gold in zip(texts, golds, strict=True)]


def _value(text: str) -> float | None:
    try:
        return float(text.replace(",", "").replace("$", "").rstrip("."))
    except ValueError:
        return None


def plain(text: str) -> str:
    """Lower case, without punctuation, articles and doubled spaces: how answers of few words are compared."""
    text = "".join(" " if c in string.punctuation else c for c in text.lower())
    return " ".join(word for word in text.split() if word not in ("a", "an", "the"))


def aliases(texts: Sequence[str], golds: Sequence[Any]) -> list[Graded]:
    """Equal to any of the references after `plain`; and the best F1 of words."""
    return [
        Graded(
            values={
                "exact": float(plain(text) in {plain(str(name)) for name in _listed(gold)}),
                "f1": max((_f1(text, str(name)) for name in _listed(gold)), default=0.0),
            },
            read=text.strip(),
        )
        for text, gold in zip(texts, golds, strict=True)
    ]


def contains(texts: Sequence[str], golds: Sequence[Any]) -> list[Graded]:
    """Any of the references stands in the answer, as whole words."""
    return [
        Graded(
            values={
                "contains": float(
                    any(f" {plain(str(name))} " in f" {plain(text)} " for name in _listed(gold) if name)
                )
            },
            read=text.strip(),
        )
        for text, gold in zip(texts, golds, strict=True)
    ]


def _listed(gold: Any) -> list[Any]:
    return list(gold) if isinstance(gold, list | tuple) else [gold]


def _f1(text: str, gold: str) -> float:
    ours, theirs = plain(text).split(), plain(gold).split()
    shared = sum((Counter(ours) & Counter(theirs)).values())
    return 2 * shared / (len(ours) + len(theirs)) if shared else 0.0


def f1(texts: Sequence[str], golds: Sequence[Any]) -> list[Graded]:
    """The best F1 of words against any reference (DROP); equality beside it."""
    return aliases(texts, golds)


def conclusion(texts: Sequence[str], golds: Sequence[Any]) -> list[Graded]:
    """What stands after the last "the answer is", up to the end of its sentence (BIG-Bench Hard)."""

    def grade(text: str, gold: Any) -> Graded:
        told = re.findall(r"(?i)the answer is:?\s*(.+)", text)
        read = told[-1].strip().rstrip(".").strip() if told else ""
        note = "" if told else "no conclusion"
        return Graded(
            values={"exact": float(read.lower() == str(gold).strip().lower())}, read=read, note=note
        )

    return [grade(text, gold) for text, gold in zip(texts, golds, strict=True)]


def expression(texts: Sequence[str], golds: Sequence[Any]) -> list[Graded]:
    r"""The last \boxed{...}, else what stands after "answer is", compared as mathematics (MATH)."""
    graded = []
    with Comparer() as compare:
        for text, gold in zip(texts, golds, strict=True):
            read = last_boxed(text)
            if not read:
                told = re.findall(r"(?i)answer is:?\s*(.+?)(?:\.\s|\.?$|\n)", text)
                read = told[-1] if told else ""
            right = bool(read) and compare.same(read, str(gold))
            note = "" if read else "no answer found"
            graded.append(Graded(values={"exact": float(right)}, read=read, note=note))
    return graded


def letter(texts: Sequence[str], golds: Sequence[Any]) -> list[Graded]:
    """The first letter A to J that stands alone, one after "answer" first."""

    def grade(text: str, gold: Any) -> Graded:
        told = re.search(r"(?i)answer(?:\s+is)?\s*:?\s*\(?([A-J])\b", text)
        told = told or re.search(r"(?<![A-Za-z'])\(?([A-J])(?![A-Za-z'])", text)
        read = told[1].upper() if told else ""
        return Graded(
            values={"exact": float(read == str(gold))}, read=read, note="" if read else "no letter found"
        )

    return [grade(text, gold) for text, gold in zip(texts, golds, strict=True)]


def program(texts: Sequence[str], golds: Sequence[Any]) -> list[Graded]:
    """The program runs its tests without an error, in the sandbox (HumanEval, MBPP).

    A gold value is {"prompt": what the text goes on from, "test": what is run after it, "name": the
    function}; a text with the function itself, fenced or not, stands alone.
    """
    sources = []
    for text, gold in zip(texts, golds, strict=True):
        fenced = _FENCE.search(text)
        body = fenced[1] if fenced else text
        whole = body if f"def {gold['name']}(" in body or not gold["prompt"] else gold["prompt"] + body
        if gold["prompt"] and whole is body:
            head = gold["prompt"].split("def ")[0]
            whole = head + body  # its imports
        sources.append(f"{whole}\n{gold['test']}\n")
    outcomes = run_to_the_end(sources, limits=Limits(cpu_seconds=5.0))
    return [
        Graded(
            values={"pass@1": float(good)},
            read=source,
            note="" if good else "left before its tests" if outcome.ok else outcome.status,
        )
        for source, (good, outcome) in zip(sources, outcomes, strict=True)
    ]


def instructions(texts: Sequence[str], golds: Sequence[Any]) -> list[Graded]:
    """Every instruction of a prompt followed, strictly and loosely (IFEval)."""
    graded = []
    for text, gold in zip(texts, golds, strict=True):
        told = list(zip(gold["instructions"], gold["arguments"], strict=True))
        strict = [follows(text, name, given) for name, given in told]
        loose = [any(follows(one, name, given) for one in _loosened(text)) for name, given in told]
        unknown = [name for (name, _), verdict in zip(told, strict) if verdict is None]
        if unknown:
            graded.append(Graded(values={}, note=f"no checker for {unknown[0]} here"))
            continue
        graded.append(
            Graded(
                values={
                    "prompt strict": float(all(strict)),
                    "prompt loose": float(all(loose)),
                    "instruction strict": sum(map(bool, strict)) / len(strict),
                    "instruction loose": sum(loose) / len(loose),
                },
                note=", ".join(name for (name, _), good in zip(told, strict) if not good),
            )
        )
    return graded


def _loosened(text: str) -> list[str]:
    """The answer, without its first line, its last line, both; each also without asterisks."""
    lines = text.split("\n")
    cut = [text, "\n".join(lines[1:]).strip(), "\n".join(lines[:-1]).strip(), "\n".join(lines[1:-1]).strip()]
    return [*cut, *(one.replace("*", "") for one in cut)]


SCORERS: Mapping[str, Scorer] = {
    scorer.__name__: scorer
    for scorer in (number, aliases, contains, f1, conclusion, expression, letter, program, instructions)
}


def scorer(name: str) -> Scorer:
    """A scorer by its name.

    Raises:
        HornbookError: there is none of that name.
    """
    if name not in SCORERS:
        raise HornbookError(f"there is no scorer {name!r}; scorers: {', '.join(SCORERS)}")
    return SCORERS[name]
