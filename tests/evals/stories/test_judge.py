"""The two turns of a judge, what is read of its answers, and what it is worth."""

import json
from pathlib import Path

import pytest

from hornbook.data.corpus import CorpusWriter
from hornbook.errors import HornbookError
from hornbook.evals.stories.exam import TEACHER
from hornbook.evals.stories.judge import (
    DAMAGED,
    MARK,
    OTHER,
    Submission,
    judge_storytellers,
    mark,
    read_marks,
    summarize,
)
from hornbook.lab.run import Run
from hornbook.lm.base import Completion, Failure, Request
from hornbook.lm.simulated import SimulatedModel
from hornbook.synth.stories import continuation_prompt, story_rows

LINE = "Grammar: 8/10, Creativity: 7/10, Consistency: {}/10, Plot: 6/10, Age group: {}"


@pytest.mark.parametrize(
    ("text", "grades", "age"),
    [
        (LINE.format(9, "E"), {"grammar": 8, "creativity": 7, "consistency": 9, "plot": 6}, "E"),
        ("**Grammar**: 8.5 out of 10\nPlot - 7\nAge group: C (6-7)", {"grammar": 8.5, "plot": 7}, "C"),
        ("Grammar: 8/10. On reflection, grammar: 5/10.", {}, None),
        ("Grammar: 12/10, Plot: 3/10, Age group: B, or age group: D", {"plot": 3}, None),
        ("I liked it.", {}, None),
        ("", {}, None),
    ],
)
def test_only_what_is_said_once_and_fits_is_read(
    text: str, grades: dict[str, float], age: str | None
) -> None:
    assert read_marks(text) == (grades, age)


def test_the_second_turn_stands_on_the_first_and_is_asked_once_more() -> None:
    seen: list[Request] = []

    def answer(request: Request) -> str | Failure:
        seen.append(request)
        assert request.messages is not None
        if len(request.messages) == 1:
            assert MARK in request.messages[0].content
            if "down" in request.messages[0].content:
                return Failure(kind="server", message="It is down.")
            return "A sound review."
        assert request.messages[1].content == "A sound review."
        if "mumbles" in request.messages[0].content:
            return "Well."
        return "Later." if request.sampling.temperature else LINE.format(9, "D")

    ones = [
        Submission(group="0", given="Tom had a", written=" kite."),
        Submission(group="1", given="mumbles", written=" x"),
        Submission(group="2", given="down", written=" x"),
        Submission(group="3", given="Words: red, run", written="It was red.", instructed=True),
    ]
    marks = mark(SimulatedModel("judge", answer), ones)
    assert [one.complete for one in marks] == [True, False, False, True]
    assert marks[2].why == "the judge did not answer"
    assert "told what a story must hold" in seen[3].messages[0].content  # type: ignore[index]
    told = summarize(ones, marks)
    assert (told["missing"], told["grammar"]["read"], told["ages"]) == (2, 2, {"D": 2})
    assert told["grammar"]["value"] == 8  # a grade that cannot be read is missing, not zero


def graded_folder(tmp_path: Path, count: int) -> tuple[Path, Path]:
    stories, graded = tmp_path / "stories", tmp_path / "graded"
    rows = list(story_rows(2, count, held_out=True))
    with CorpusWriter(stories, "documents", lineage={}) as writer:
        writer.write_rows(rows)
    graded.mkdir()
    for name in (TEACHER, "student/0"):
        lines = []
        for row in rows:
            beginning, ending = continuation_prompt(row["text"])
            lines.append(json.dumps({"beginning": beginning, "ending": ending}))
        (graded / f"{name.replace('/', '-')}.jsonl").write_text("\n".join(lines) + "\n")
    return stories, graded


def test_a_judge_that_reads_and_one_that_does_not_are_told_apart(tmp_path: Path) -> None:
    stories, graded = graded_folder(tmp_path, 8)
    sound = {row["text"] for row in story_rows(2, 8, held_out=True)}

    def reads(request: Request) -> str:
        told = request.messages[0].content  # type: ignore[index]
        story = told.split("begins.\n\n")[1].split("\n\nReview")[0].replace(MARK, "")
        return LINE.format(9 if story in sound else 3, "D") if len(request.messages or ()) > 1 else "Well."

    def flatters(request: Request) -> str:
        return LINE.format(10, "F") if len(request.messages or ()) > 1 else "Lovely."

    run = Run(tmp_path, recipe="test", scale="smoke", settings={}, quiet=True)
    found = {
        name: run.step(
            judge_storytellers,
            graded=graded,
            students=["student/0"],
            stories=stories,
            judge=SimulatedModel(name, program),
            count=8,
        ).facts
        for name, program in (("reads", reads), ("flatters", flatters))
    }
    assert found["reads"]["tells"] == {OTHER: 1.0, DAMAGED: 1.0}
    assert found["flatters"]["tells"] == {OTHER: 0.5, DAMAGED: 0.5}
    assert found["reads"]["marks"][OTHER]["consistency"]["value"] == 3
    assert found["reads"]["marks"]["student/0"]["consistency"]["value"] == 9
    assert found["reads"]["self_difference"] == 0.0
    assert found["reads"]["rounds"] == 2


def test_a_judge_that_gives_no_grade_is_named(tmp_path: Path) -> None:
    stories, graded = graded_folder(tmp_path, 2)
    run = Run(tmp_path, recipe="test", scale="smoke", settings={}, quiet=True)
    mute = SimulatedModel("mute", lambda request: Completion(text="Hm.", finish_reason="stop"))
    with pytest.raises(HornbookError, match="no grade that can be read"):
        run.step(judge_storytellers, graded=graded, students=[], stories=stories, judge=mute, count=2)
