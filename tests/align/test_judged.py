"""Judge-guided pairs: any against any, both orders of a judge, and from two checkpoints to a corpus."""

import json
import re
from pathlib import Path

import pytest
from small_students import context, tiny_student

from hornbook.align.judged import (
    ModelAnswerJudge,
    RuleJudge,
    Scores,
    any_against_any,
    judged_pairs,
)
from hornbook.data.corpus import Corpus
from hornbook.data.tokenizer import Tokenizer
from hornbook.lm.base import Request
from hornbook.lm.simulated import SimulatedModel
from hornbook.model.hf import save_checkpoint
from hornbook.synth.sums import write_sums


def score(accuracy: int, style: int = 3, detail: int = 3) -> Scores:
    return Scores(accuracy=accuracy, style=style, detail=detail)


def test_every_pairing_that_differs_and_no_tie() -> None:
    answers = [["a", "b", "c", " "]]
    scores = [[score(5, 1, 1), score(1, 5, 5), score(1), score(5)]]
    by_accuracy = any_against_any(answers, scores, "accuracy", most=9)
    assert {(p.chosen, p.rejected, p.margin) for p in by_accuracy} == {("a", "b", 4), ("a", "c", 4)}
    overall = any_against_any(answers, scores, "overall", most=9)
    assert [(p.chosen, p.rejected) for p in overall] == [("b", "a"), ("b", "c")]  # a and c tie: 7 / 3
    assert len(any_against_any(answers, scores, "accuracy", most=1)) == 1
    unread = [[None, score(1), score(5), None]]
    assert [(p.chosen, p.rejected) for p in any_against_any(answers, unread, "accuracy", most=9)] == [
        ("c", "b")
    ]


def judge_that_likes(what: str, *, first_bonus: int = 0, breaks: bool = False) -> SimulatedModel:
    def answer(request: Request) -> str:
        text = (request.messages or ())[-1].content
        shown = re.findall(r"<<<ASSISTANT \d+\n(.*?)\nASSISTANT", text, re.DOTALL)
        entries = [
            {
                "faults": [],
                "discussion": "read",
                "accuracy": min(5, (4 if what in one else 1) + (first_bonus if place == 0 else 0)),
                "style": 3,
                "detail": 3,
            }
            for place, one in enumerate(shown)
        ]
        return json.dumps({"assistants": entries[: 1 if breaks else None]})

    return SimulatedModel(f"likes-{what}-{first_bonus}-{breaks}", answer)


def test_a_love_of_the_first_place_gains_nothing() -> None:
    answers = [["bad", "good"], ["good", "bad"], ["bad", "worse"]]
    [[one, two], [three, four], [five, six]] = ModelAnswerJudge(
        judge_that_likes("good", first_bonus=1)
    ).scores(["?"] * 3, answers)
    assert one == four == five == six  # half of the bonus each, whatever the order
    assert two == three
    assert two is not None
    assert one is not None
    assert two.accuracy - one.accuracy == 3


def test_a_judge_that_forgets_an_answer_scores_none() -> None:
    judge = ModelAnswerJudge(judge_that_likes("good", breaks=True), retries=0)
    assert judge.scores(["?"], [["good", "bad"]]) == [[None, None]]
    assert judge.unreadable == 2


def test_the_rule_knows_the_truth_whatever_part_it_is_shown() -> None:
    """Judged in parts, a question's number in its part is not its number among all."""
    questions = [f"q{n}" for n in range(5)]
    rule = RuleJudge(questions, lambda flat: [text == f"a{number}." for number, text in flat])
    [[right, wrong]] = rule.scores(["q3"], [["a3.", "a0."]])
    assert right is not None
    assert wrong is not None
    assert (right.accuracy, wrong.accuracy) == (5, 1)


def test_from_two_checkpoints_to_pairs(tokenizer: Tokenizer, checkpoint: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    save_checkpoint(tiny_student(tokenizer, seed=5), other)
    tokenizer.save(other)
    write_sums(context(tmp_path / "sums"), rows=60)
    arguments = {
        "models": {"one": checkpoint, "two": other},
        "questions": tmp_path / "sums",
        "count": 40,
        "samples": 6,
        "max_tokens": 40,
    }
    facts = judged_pairs(context(tmp_path / "pairs"), **arguments)
    again = judged_pairs(context(tmp_path / "pairs"), **arguments)
    assert again == facts
    scored = [json.loads(line) for line in (tmp_path / "pairs" / "scores.jsonl").read_text().splitlines()]
    assert len(scored) == 40
    if facts["rows"]:  # an untrained student seldom ends a sentence
        rows = list(Corpus.open(tmp_path / "pairs").iter_rows(["chosen", "rejected"]))
        assert all(row["chosen"] != row["rejected"] for row in rows)
        assert set(facts["chosen_by"]) <= {"one", "two"}
    assert set(facts["scores"]) == {"one", "two"}


def test_no_difference_is_an_empty_corpus_and_said(checkpoint: Path, tmp_path: Path) -> None:
    write_sums(context(tmp_path / "sums"), rows=4)
    facts = judged_pairs(
        context(tmp_path / "pairs"),
        models={"one": checkpoint},
        questions=tmp_path / "sums",
        count=2,
        samples=1,
        max_tokens=2,
    )
    assert facts["rows"] == 0


@pytest.mark.parametrize("part", ["accuracy", "overall"])
def test_what_decides(part: str) -> None:
    assert score(5, 1, 3).by(part) == (5 if part == "accuracy" else 3)  # type: ignore[arg-type]
