"""RULER-like questions: answers that the text decides, lengths that hold, and a reader that reads part of
it."""

import re
from collections import Counter

import pytest

from hornbook.errors import HornbookError
from hornbook.evals import suite
from hornbook.evals.ruler import COMMON, HOPS, TASKS, Question, measure, questions, score
from hornbook.lm.base import Failure, Request
from hornbook.lm.simulated import SimulatedModel


def words(text: str) -> int:
    return len(text.split())


def solve(prompt: str) -> set[str]:
    """The answers, from the text alone, by other means than the writer's."""
    if "VAR" in prompt:
        value = re.findall(r"have the value (\d+)", prompt)[0]
        known: dict[str, str] = {}
        for name, told in re.findall(r"VAR (\w+) = (?:VAR )?(\w+)\.", prompt):
            known[name] = known.get(told, told)
        return {name for name, number in known.items() if number == value}
    if "commonest" in prompt:
        counts = Counter(re.findall(r"\d+\. (\w+)", prompt))
        ranked = counts.most_common()
        assert ranked[COMMON - 1][1] > ranked[COMMON][1]  # the answer is not a tie
        return {word for word, _ in ranked[:COMMON]}
    asked = prompt.rsplit("\n\n", 1)[1]
    keys = set(re.findall(r"the (\w+)", asked)) - {"special", "numbers", "number"}
    told = re.findall(r"special numbers? of the (\w+) is (\d+)\.", prompt)
    return {number for key, number in told if key in keys}


@pytest.mark.parametrize("task", TASKS)
def test_the_text_decides_the_answer_and_has_its_length(task: str) -> None:
    asked = questions(words, lengths=[120, 400], tasks=[task], per_cell=15, seed=2)
    assert asked == questions(words, lengths=[120, 400], tasks=[task], per_cell=15, seed=2)
    assert asked != questions(words, lengths=[120, 400], tasks=[task], per_cell=15, seed=3)
    for question in asked:
        assert solve(question.prompt) == set(question.answers), question.prompt
        assert question.length - 25 < words(question.prompt) <= question.length
    counts = {"single": 1, "multi-key": 1, "variables": HOPS + 1, "common-words": COMMON}
    assert {len(question.answers) for question in asked} == {counts.get(task, 4)}


def test_an_answer_is_worth_the_share_it_holds() -> None:
    question = Question(id="1", task="multi-value", length=9, prompt="?", answers=("10001", "10002", "BCDFG"))
    assert score("10002, 10001 and bcdfg.", question) == 1
    assert score("It is 10002.", question) == pytest.approx(1 / 3)
    assert score("100012", question) == 0


def test_a_reader_that_sees_the_end_alone_fails_by_length() -> None:
    def reader(request: Request) -> str | Failure:
        text = (request.messages or ())[-1].content
        if "VAR" in text and text.count(" ") > 300:
            return Failure(kind="timeout", message="too long")
        return " ".join(
            solve("\n\n" + " ".join(text.split(" ")[-150:])) if len(text.split()) > 150 else solve(text)
        )

    asked = questions(words, lengths=[100, 600], tasks=["single", "multi-query", "variables"], per_cell=12)
    found = measure(SimulatedModel("reader", reader), asked)
    assert found.by_length()[100] == 1.0
    assert found.by_length()[600] < 0.6
    assert found.effective_length() == 100
    told = {(cell.task, cell.length): cell for cell in found.cells}
    assert told["variables", 600].mean is None
    assert told["variables", 600].unscored == 12
    assert len(found.as_json()["cells"]) == 6


def test_what_cannot_be_asked_is_said() -> None:
    with pytest.raises(HornbookError, match="no task 'needles'"):
        questions(words, lengths=[100], tasks=["needles"])
    with pytest.raises(HornbookError, match="20 tokens are too few"):
        questions(words, lengths=[20], tasks=["variables"])
    with pytest.raises(HornbookError, match="too few for common-words"):
        questions(words, lengths=[20], tasks=["common-words"])


def test_eval_asks_for_it_when_it_is_named_alone() -> None:
    reader = SimulatedModel("reader", lambda request: " ".join(solve((request.messages or ())[-1].content)))
    assert "ruler" in suite.describe()
    assert "ruler" not in suite.TASKS
    [found] = suite.evaluate(reader, tasks=["ruler"], items=60)
    assert [score.name for score in found.scores] == [f"{n} tokens" for n in (256, 512, 1024, 2048, 4096)]
    assert all(score.value == 1 for score in found.scores)
    assert len(found.ids) == len(found.outcomes["score"]) == found.items == 60
