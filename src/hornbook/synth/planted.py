"""Contamination planted on purpose: what a decontamination rule finds of it, and what it flags besides.

The evaluation set is held-out word problems; planted among training problems are copies with other numbers,
and the same plans told again in other words (TinyGSM section 2: 13-grams without digits catch the former).
"""

import re
from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

from hornbook.curate.decontaminate import DecontaminationSettings, Decontaminator, EvaluationItem
from hornbook.curate.words import split
from hornbook.errors import HornbookError
from hornbook.lab.statistics import wilson_interval
from hornbook.lab.step import StepContext, step
from hornbook.synth.word_problems import Problem, write_problem

KINDS = ("other numbers", "told again")
_NUMBER = re.compile(r"\d+")


def renumbered(problem: Problem) -> str:
    """The question with the numbers of its second assignment: the nearest of near copies."""
    table = {str(a): str(b) for a, b in zip(problem.numbers, problem.second_numbers, strict=True)}
    return _NUMBER.sub(lambda found: table.get(found.group(), found.group()), problem.question)


@step(version="1", makes="table")
def planted_contamination(
    ctx: StepContext, *, clean: int, planted: int, ngrams: Sequence[int] = (8, 13), seed: int = 0
) -> Mapping[str, Any]:
    """Recall on planted copies and precision of each rule.

    Args:
        clean: training problems that copy nothing; planted: copies of each of `KINDS`.
        ngrams: lengths of the n-gram rule.

    Facts: {rule: {"recall": {kind: [share, low, high]}, "precision": share or None, "flagged": clean
    documents flagged}}, rules "13-gram" ... and "scored".
    """
    if planted < 1 or clean < 1:
        raise HornbookError(f"planted contamination: clean={clean}, planted={planted}; both are at least 1.")
    problems = [write_problem(seed, index, held_out=True) for index in range(planted)]
    items = [
        EvaluationItem(id=str(index), question=problem.question, code=problem.program)
        for index, problem in enumerate(problems)
    ]
    documents = [(write_problem(seed, index).question, "clean") for index in range(clean)]
    for index, problem in enumerate(problems):
        documents.append((renumbered(problem), KINDS[0]))
        documents.append((write_problem(seed, index, held_out=True, wording=1).question, KINDS[1]))
    Random(seed).shuffle(documents)
    words = split([text for text, _ in documents])
    background = [text for text, kind in documents if kind == "clean"]
    facts: dict[str, Any] = {}
    for rule in (*(f"{n}-gram" for n in ngrams), "scored"):
        long = 0.6 if rule == "scored" else 0.0
        n = 0 if rule == "scored" else int(rule.split("-")[0])
        index_ = Decontaminator(
            {"problems": items}, DecontaminationSettings(ngram=n, long=long, similar_code=0.0), background
        )
        hit = {match.document for match in index_.matches(words)}
        recall = {}
        for kind in KINDS:
            found = sum(number in hit for number, (_, own) in enumerate(documents) if own == kind)
            recall[kind] = [found / planted, *wilson_interval(found, planted)]
        wrong = sum(number in hit for number, (_, own) in enumerate(documents) if own == "clean")
        facts[rule] = {
            "recall": recall,
            "flagged": wrong,
            "precision": (len(hit) - wrong) / len(hit) if hit else None,
        }
    return facts | {"clean": clean, "planted": planted}
