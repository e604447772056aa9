"""Planted contamination: what the rules find is counted, on plants whose truth is known."""

import pytest

from hornbook.errors import HornbookError
from hornbook.lab.run import Run
from hornbook.synth.diversity import ngrams
from hornbook.synth.planted import planted_contamination, renumbered
from hornbook.synth.word_problems import write_problem


def test_thirteen_words_find_other_numbers_and_miss_other_words(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    run = Run(tmp_path_factory.mktemp("runs"), recipe="t", scale="smoke", settings={}, quiet=True)
    facts = run.step(planted_contamination, clean=300, planted=60).facts
    thirteen = facts["13-gram"]
    assert thirteen["recall"]["other numbers"][0] == 1.0
    assert thirteen["recall"]["told again"][0] < 0.2
    assert facts["8-gram"]["recall"]["told again"][0] >= thirteen["recall"]["told again"][0]
    assert facts["scored"]["recall"]["other numbers"][0] == 1.0
    for name in ("8-gram", "13-gram", "scored"):
        low, high = facts[name]["recall"]["told again"][1:]
        assert 0 <= low <= facts[name]["recall"]["told again"][0] <= high <= 1
    with pytest.raises(HornbookError, match="both are at least 1"):
        run.step(planted_contamination, clean=0, planted=1)


def test_renumbered_copies_differ_in_numbers_alone() -> None:
    for index in range(40):
        problem = write_problem(0, index, held_out=True)
        copy = renumbered(problem)
        assert copy != problem.question
        words = [[w for (w,) in ngrams(text, 1) if not w.isdigit()] for text in (copy, problem.question)]
        assert words[0] == words[1]
