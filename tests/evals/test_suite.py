"""The suite against models whose answers are known: one that knows the truth, one that refuses everything."""

import json
from collections.abc import Callable, Sequence

import pytest

from hornbook.errors import HornbookError
from hornbook.evals import suite
from hornbook.evals.policy import policy_items
from hornbook.evals.result import as_text
from hornbook.lm.base import Advances, Capabilities, Completion, Failure, Request, Score
from hornbook.synth.dialogue import dialogue_rows
from hornbook.synth.word_problems import problem_rows

ITEMS, SEED = 12, 5


class Answering:
    """A language model that answers each request by a function of its last message."""

    identity = "answering"
    capabilities = Capabilities()

    def __init__(self, answer: Callable[[str], str]) -> None:
        self.answer = answer

    def complete(
        self, requests: Sequence[Request], *, progress: Advances | None = None
    ) -> list[Completion | Failure]:
        results: list[Completion | Failure] = []
        for request in requests:
            assert request.messages is not None
            text = self.answer(request.messages[-1].content)
            results.append(
                Completion(text=text) if text != "FAIL" else Failure(kind="timeout", message="too late")
            )
        return results

    def score(self, pairs: Sequence[tuple[str, str]]) -> list[Score]:
        raise NotImplementedError


def truth() -> dict[str, str]:
    """Request -> the teacher's own answer, for every item of every task."""
    known = {}
    for row in problem_rows(SEED, ITEMS, held_out=True):
        meta = json.loads(row["meta"])
        known[meta["question"]] = meta["program"]
    for kind in ("function", "story"):
        for row in dialogue_rows(SEED, ITEMS, held_out=True, shares={kind: 1.0}):
            known[row["messages"][0]["content"]] = row["messages"][1]["content"]
    for item in policy_items(ITEMS, ITEMS, SEED):
        known[item.request] = item.answer
    return known


def scores(results: Sequence[suite.Result]) -> dict[str, float]:
    return {f"{r.task}/{s.name}": s.value for r in results for s in r.scores}


def test_the_teachers_own_answers_get_full_marks() -> None:
    known = truth()
    found = scores(suite.evaluate(Answering(known.__getitem__), items=ITEMS, seed=SEED))
    assert found["word-problems/accuracy"] == found["word-problems/robust accuracy"] == 1
    assert found["exercises/pass@1"] == 1
    assert found["policy/refusal"] == 1
    assert found["policy/over-refusal"] == 0
    assert found["stories/consistent"] == found["stories/finished"] == 1


def test_who_refuses_everything_is_not_safe_but_useless() -> None:
    found = scores(
        suite.evaluate(Answering(lambda text: "I am sorry, but I cannot help with that."), items=ITEMS)
    )
    assert found["policy/refusal"] == 1
    assert found["policy/over-refusal"] == 1
    assert found["word-problems/accuracy"] == found["exercises/pass@1"] == 0


def test_outcomes_are_the_scores_item_by_item() -> None:
    known = truth()
    half = {text: answer if number % 2 else "?" for number, (text, answer) in enumerate(known.items())}
    for result in suite.evaluate(Answering(half.__getitem__), items=ITEMS, seed=SEED):
        for score in result.scores:
            values = result.outcomes[score.name]
            assert sum(values) / len(values) == pytest.approx(score.value)
            assert score.interval.low <= score.value <= score.interval.high


def test_a_call_that_fails_is_said_and_not_graded_as_silence() -> None:
    known = truth()
    lost = {
        row["messages"][0]["content"] for row in dialogue_rows(SEED, 2, held_out=True, shares={"story": 1.0})
    }
    lost |= {item.request for item in policy_items(ITEMS, ITEMS, SEED)[::3]}
    model = Answering(lambda text: "FAIL" if text in lost else known[text])
    stories, policy = suite.evaluate(model, tasks=["stories", "policy"], items=ITEMS, seed=SEED)
    assert (stories.items, policy.items) == (ITEMS // 4 - 2, 2 * ITEMS - 8)
    assert stories.unfinished.startswith("2 of 3 calls failed")
    assert "too late" in policy.unfinished
    # The answers that came are all right, and an answer that never came is neither a refusal nor help.
    assert {score.name: score.value for score in policy.scores} == {"refusal": 1, "over-refusal": 0}
    assert "unfinished" in as_text([policy])
    with pytest.raises(HornbookError, match=r"answering answered none of 3 requests \(timeout: too late\)"):
        suite.evaluate(Answering(lambda text: "FAIL"), tasks=["word-problems"], items=3)


class Continuing(Answering):
    """A model whose tokenizer knows no conversations: it goes on from a prompt."""

    class tokenizer:
        template = None
        chat_template = None

    def complete(
        self, requests: Sequence[Request], *, progress: Advances | None = None
    ) -> list[Completion | Failure]:
        assert all(request.messages is None for request in requests)
        return [Completion(text=self.answer((request.prompt or "").rstrip("\n"))) for request in requests]


def test_a_model_without_conversations_goes_on_from_the_bare_request() -> None:
    found = scores(suite.evaluate(Continuing(truth().__getitem__), tasks=["word-problems"], items=ITEMS, seed=SEED))  # fmt: skip # noqa: E501
    assert found["word-problems/accuracy"] == 1


def test_wrong_arguments_are_named() -> None:
    model = Answering(str)
    with pytest.raises(HornbookError, match=r"no task 'maths'; did you mean math\? tasks: word-problems"):
        suite.evaluate(model, tasks=["maths"])
    with pytest.raises(HornbookError, match="items is 0"):
        suite.evaluate(model, items=0)
    assert all(name in suite.describe() for name in suite.TASKS)
