"""MT-bench: both turns asked, grades read from both scales, the judge's columns, failures and the store."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from hornbook.errors import HornbookError
from hornbook.evals import suite
from hornbook.evals.benchmarks.run import Asking
from hornbook.evals.mt_bench import Question, grading, read_questions, run_mt_bench
from hornbook.evals.result import as_text
from hornbook.evals.sample_store import SampleStore
from hornbook.lm.base import Completion, Failure, Request
from hornbook.lm.simulated import SimulatedModel


def folder(path: Path, count: int = 6) -> Path:
    rows = [
        {"question_id": n, "category": "math" if n % 2 else "writing", "turns": [f"first {n}", f"second {n}"],
         "reference": [f"ref {n}", f"more {n}"] if n % 2 else None}
        for n in range(count)
    ]  # fmt: skip
    (path / "mt_bench_questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def echo(request: Request) -> str:
    """Answers with what it was told, all turns of it."""
    assert request.messages is not None
    return " / ".join(m.content for m in request.messages if m.role == "user")


def judge(request: Request) -> str:
    """8 for what names both turns, 5 else; of pairs the answer that holds the request's number."""
    assert request.messages is not None
    text = request.messages[0].content
    if "Answer 1:" in text:
        asked = text.split("Request:\n")[1].split("\n")[0]
        return "1" if asked in text.split("Answer 1:\n")[1].split("Answer 2:")[0] else "2"
    return "Fine.\n8" if "Assistant: first" in text and "/ second" in text else "Fine.\n5"


def test_two_turns_are_graded_and_the_judge_is_measured(tmp_path: Path) -> None:
    result = run_mt_bench(SimulatedModel("s", echo), SimulatedModel("j", judge), data=folder(tmp_path))
    values = {score.name: score.value for score in result.scores}
    assert values == {
        "grade": 6.5,
        "grade of turn 1": 5,
        "grade of turn 2": 8,
        "judge: same grade twice": 1,
        "judge: same grade in both orders": 1,
        "judge: same winner in both orders": 1,
        "judge: agrees with known pairs": 1,
        "judge: unread": 0,
    }
    assert result.details["groups"] == {"math": 6.5, "writing": 6.5}
    assert "6.50" in as_text([result])
    assert "100.0%" in as_text([result])


def test_a_judge_that_takes_the_first_of_everything_is_seen_through(tmp_path: Path) -> None:
    def first(request: Request) -> str:
        assert request.messages is not None
        text = request.messages[0].content
        return "1" if "Answer 1:" in text else text.rsplit("grades ", 1)[1].split(",")[0]

    result = run_mt_bench(SimulatedModel("s", echo), SimulatedModel("j", first), data=folder(tmp_path))
    values = {score.name: score.value for score in result.scores}
    assert values["grade"] == 5.5  # half ones, half tens
    assert values["judge: same grade in both orders"] == 0
    assert values["judge: same winner in both orders"] == 0
    assert values["judge: agrees with known pairs"] == 0


def test_references_are_shown_to_the_judge_and_to_nobody_else() -> None:
    case = grading(Question(id="1", category="math", turns=("a", "b"), reference=("r1", "r2")), ["x", "y"], 1)
    assert all("r2" in prompt and "r1" not in prompt for prompt in case.prompts)
    assert "1, 2, 3" in case.prompts[0]
    assert "10, 9, 8" in case.prompts[1]
    assert next(iter(case.words[0])) == list(case.words[1])[-1] == "1"


class Failing:
    """Fails where a word stands in the prompt; counts."""

    capabilities = SimulatedModel("", echo).capabilities

    def __init__(self, answer: object, fails: str = "\0") -> None:
        self.identity, self.answer, self.fails, self.asked = "failing", answer, fails, 0

    def complete(self, requests: Sequence[Request], *, progress: object = None) -> list[Completion | Failure]:
        self.asked += len(requests)
        return [
            Failure(kind="timeout", message="too late")
            if any(self.fails in m.content for m in r.messages or ())
            else Completion(text=self.answer(r))  # type: ignore[operator]
            for r in requests
        ]


def test_what_failed_is_named_and_asked_again_and_the_rest_never(tmp_path: Path) -> None:
    data = folder(tmp_path)
    with SampleStore(tmp_path / "s.sqlite") as store:
        student, grader = Failing(echo, fails="second 3"), Failing(judge)
        result = run_mt_bench(student, grader, data=data, store=store)  # type: ignore[arg-type]
        assert (result.items, result.ids) == (5, ("0", "1", "2", "4", "5"))
        assert "1 of 6 items were not answered (3), the first: timeout" in result.unfinished
        student, grader = Failing(echo), Failing(judge)
        result = run_mt_bench(student, grader, data=data, store=store)  # type: ignore[arg-type]
        assert (result.items, result.unfinished, student.asked) == (6, "", 2)
    lost = Failing(judge, fails="first 4\n")
    result = run_mt_bench(SimulatedModel("s", echo), lost, data=data)  # type: ignore[arg-type]
    assert "the judge did not answer" in result.unfinished


def test_unreadable_grades_are_unscored_and_counted(tmp_path: Path) -> None:
    mumbling = SimulatedModel("m", lambda r: "" if "first 2" in echo(r) else judge(r))
    result = run_mt_bench(SimulatedModel("s", echo), mumbling, data=folder(tmp_path))
    assert (result.items, result.details["unscored"]) == (5, 1)
    with pytest.raises(HornbookError, match=r"graded none of .* No grade could be read"):
        run_mt_bench(SimulatedModel("s", echo), SimulatedModel("j", lambda r: "hm"), data=tmp_path)


def test_the_task_runs_by_name_and_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(HornbookError, match="questions were not found"):
        suite.evaluate(SimulatedModel("s", echo), tasks=["mt-bench"], benchmarks=Asking(data=tmp_path))
    [result] = suite.evaluate(
        SimulatedModel("s", echo),
        tasks=["mt-bench"],
        items=3,
        judge=SimulatedModel("j", judge),
        benchmarks=Asking(data=folder(tmp_path)),
    )
    assert result.items == 3
    assert result.details["judge"] == "simulated:j"
    (tmp_path / "mt_bench_questions.jsonl").write_text('{"turns": ["one"]}\n')
    with pytest.raises(HornbookError, match="line 1: a question of mt-bench has two turns"):
        read_questions(tmp_path)
