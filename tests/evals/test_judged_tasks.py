"""Skill-Mix and TinyStories as tasks of `hornbook eval`: offline, with judges of known worth, resumed."""

import csv
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from hornbook.errors import HornbookError
from hornbook.evals import suite
from hornbook.evals.benchmarks.run import Asking
from hornbook.evals.comparison import compare
from hornbook.evals.result import Result, as_text
from hornbook.evals.sample_store import SampleStore
from hornbook.evals.skill_mix.checkable import mechanical_judge, mechanical_student
from hornbook.evals.skill_mix.protocol import combinations
from hornbook.evals.skill_mix.run import checkable
from hornbook.evals.skill_mix.skills import our_skills
from hornbook.evals.skill_mix.task import find_lists, run_skill_mix
from hornbook.evals.stories.task import beginnings, run_stories
from hornbook.lm.base import Advances, Completion, Failure, Request
from hornbook.lm.simulated import SimulatedModel
from hornbook.synth.stories import story_rows


def values(result: Result) -> dict[str, float]:
    return {score.name: score.value for score in result.scores}


class Counted(SimulatedModel):
    """Counts the calls, and fails some of them while `broken`."""

    def __init__(self, model: SimulatedModel, broken: str = "\0") -> None:
        super().__init__(model.identity, lambda request: Completion(text=""))
        self.model, self.broken, self.calls = model, broken, 0

    def complete(
        self, requests: Sequence[Request], *, progress: Advances | None = None
    ) -> list[Completion | Failure]:
        self.calls += len(requests)
        found = self.model.complete(requests, progress=progress)
        lost = Failure(kind="timeout", message="too late")
        return [lost if self.broken in str(r.messages) else one for r, one in zip(requests, found)]


def lists(folder: Path) -> Path:
    """Lists of one's own, of skills that programs check."""
    skills, topics = checkable()
    with (folder / "skillmix_skills.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["category", "skill", "definition", "example"])
        table.writerows([[s.category, s.name, s.definition, s.example] for s in skills])
    (folder / "skillmix_topics.txt").write_text("\n".join(topics))
    return folder


def test_skill_mix_without_a_judge_is_graded_by_programs_and_stops_where_full_marks_end() -> None:
    perfect = run_skill_mix(mechanical_student(success=1.0), items=4, ks=(1, 2))
    assert values(perfect)["full marks, k = 2"] == 1.0
    assert perfect.details["judge"] == "exact programs"
    none = run_skill_mix(mechanical_student(success=0.0), items=12, ks=(2, 3))
    assert "full marks, k = 3" not in values(none)
    assert "full marks, k = 2" in values(none)
    assert not any(score.name.startswith("judge") for score in none.scores)
    by_hand = {one.name: one.value for one in compare([perfect], [run_skill_mix(
        mechanical_student(success=0.5), items=4, ks=(1, 2))])}  # fmt: skip
    assert by_hand["full marks, k = 2"] >= 0


def test_skill_mix_with_a_judge_carries_its_error(tmp_path: Path) -> None:
    judge = mechanical_judge(sensitivity=0.95, specificity=0.9, unreadable=0.1)
    student = mechanical_student(success=0.7)
    result = run_skill_mix(student, judge, data=lists(tmp_path), items=25, ks=(2,))
    truth = values(run_skill_mix(student, items=25, ks=(2,)))["one text, k = 2"]
    found = {score.name: score for score in result.scores}
    corrected = found["one text, judge's error out, k = 2"]
    assert corrected.interval.low <= truth <= corrected.interval.high
    assert 0.05 < found["judge: unread"].value < 0.2
    assert 0.5 < found["judge: same verdict twice"].value < 1
    assert found["judge: sees full marks, k = 2"].value > 0.7
    assert "judge: sees their lack, k = 2" in as_text([result])


def test_skill_mix_asks_only_what_failed_again(tmp_path: Path) -> None:
    topic = combinations(*checkable(), k=1, count=20, seed=0)[0].topic
    student = Counted(mechanical_student(success=1.0), broken=topic)
    judge = Counted(mechanical_judge(sensitivity=1, specificity=1))
    data = lists(tmp_path)
    with SampleStore(tmp_path / "s.sqlite") as store:
        first = run_skill_mix(student, judge, data=data, items=20, ks=(1,), store=store)
        lost = 20 - first.items
        assert 0 < lost < 20
        assert f"{lost} of 20 items were not answered" in first.unfinished
        assert "timeout: too late" in first.unfinished
        student.broken, student.calls, judge.calls = "\0", 0, 0
        again = run_skill_mix(student, judge, data=data, items=20, ks=(1,), store=store)
        assert (again.items, again.unfinished) == (20, "")
        assert student.calls == lost * 3 * 2
        assert judge.calls == lost * 3 * 3  # the calibration, too, is known
    silent = SimulatedModel("silent", lambda request: Failure(kind="server", message="gone"))
    with pytest.raises(
        HornbookError, match=r"no text that was answered and graded \(server: server: gone\.\)"
    ):
        run_skill_mix(silent, items=2, ks=(1,))


def test_a_salt_withholds_most_of_the_list_and_says_what_is_public() -> None:
    whole = find_lists(judged=True)
    split = find_lists(judged=True, salt="a long secret")
    names = {skill.name for skill in split.skills}
    assert len(whole.skills) == len(our_skills()) >= 60
    assert names.isdisjoint(split.public)
    assert len(names) + len(split.topics) + len(split.public) == len(whole.skills) + len(whole.topics)
    assert find_lists(judged=True, salt="another secret").public != split.public
    result = run_skill_mix(mechanical_student(success=1.0), items=2, ks=(1,), salt="a long secret")
    assert len(result.details["public"]) == 3
    assert "a long secret" not in str(result)
    with pytest.raises(HornbookError, match="fewer than 8"):
        run_skill_mix(mechanical_student(success=1.0), items=2, salt="short")


def teacher(request: Request) -> str:
    """Ends every story as the teacher did, and writes what was asked for."""
    text = request.messages[0].content if request.messages else str(request.prompt)
    for one in beginnings(6, 0):
        if one.given in text:
            return one.ending
        if one.instructions in text:
            return one.record.story
    return ""


def test_the_teachers_own_endings_pass_every_rule(tmp_path: Path) -> None:
    stories = [row["text"] for row in story_rows(3, 30)]
    (tmp_path / "training_stories.txt").write_text("\n<|endoftext|>\n".join(stories))
    result = run_stories(SimulatedModel("teacher", teacher), items=6, data=tmp_path)
    found = values(result)
    assert found["grammar"] == found["consistent"] == found["finished"] == 1
    assert found["creative"] == pytest.approx(1 / 3)  # thrice the same ending
    assert found["instructions followed"] == 1
    assert found["likeness of endings"] == found["likeness to the true ending"] == 1
    assert found["copied"] < 1
    assert result.details["training stories"] == 30
    (tmp_path / "training_stories.txt").write_text(
        "\n<|endoftext|>\n".join(o.ending for o in beginnings(6, 0))
    )
    assert values(run_stories(SimulatedModel("t", teacher), items=6, data=tmp_path))["copied"] == 1
    hostile = SimulatedModel("h", lambda request: "\0\x1b[2J" + "(" * 5_000)
    assert values(run_stories(hostile, items=2))["grammar"] == 0


def reader(request: Request) -> str:
    """A judge that knows the teacher's endings."""
    assert request.messages is not None
    if len(request.messages) == 1:
        return "Well."
    text = request.messages[0].content
    good = any(f"{one.given}***{one.ending}" in text or one.record.story in text for one in beginnings(6, 0))
    grade = 9 if good else 2
    return f"Grammar: 8/10, Creativity: 6/10, Consistency: {grade}/10, Plot: 5/10, Age group: D"


def test_a_judge_of_stories_is_measured_beside_its_grades(tmp_path: Path) -> None:
    model = Counted(SimulatedModel("teacher", teacher))
    judge = Counted(SimulatedModel("reader", reader), broken=beginnings(6, 0)[2].given)
    with SampleStore(tmp_path / "s.sqlite") as store:
        first = run_stories(model, judge, items=6, store=store)
        assert (first.items, "the judge did not answer" in first.unfinished) == (5, True)
        judge.broken, model.calls = "\0", 0
        result = run_stories(model, judge, items=6, store=store)
    assert (result.items, result.unfinished, model.calls) == (6, "", 4)
    found = values(result)
    assert found["grade of consistency"] == found["grade of consistency, instructed"] == 9
    assert found["judge: teacher's ending above another's"] == 1
    assert found["judge: same grade twice"] == 1
    assert found["grades apart of one text"] == found["judge: unread"] == 0
    assert result.details["ages"] == {"D": 12}
    deaf = SimulatedModel("deaf", lambda request: "I liked it \x1b[31m very much.")
    mute = values(run_stories(SimulatedModel("teacher", teacher), deaf, items=2))
    assert mute["judge: unread"] == 1
    assert "grade of plot" not in mute
    assert mute["grammar"] == 1


def test_the_suite_knows_both(tmp_path: Path) -> None:
    student = mechanical_student(success=1.0)
    [result] = suite.evaluate(
        student, tasks=["skill-mix"], items=1, benchmarks=replace(Asking(), data=tmp_path)
    )
    assert result.task == "skill-mix"
    listed = suite.describe()
    assert "\nskill-mix" in listed
    assert "\ntinystories" in listed


class Stopped(Counted):
    """Ctrl-C in the third list of requests."""

    def __init__(self, model: SimulatedModel) -> None:
        super().__init__(model)
        self.lists = 0

    def complete(
        self, requests: Sequence[Request], *, progress: Advances | None = None
    ) -> list[Completion | Failure]:
        self.lists += 1
        if self.lists == 3:
            raise KeyboardInterrupt
        return super().complete(requests, progress=progress)


def test_a_local_model_that_is_stopped_is_asked_the_rest_alone(tmp_path: Path) -> None:
    student = mechanical_student(success=0.9)
    teller = SimulatedModel("teller", lambda request: Completion(text=" and went home. The end."))
    for name, task, model in (
        ("skills", partial(run_skill_mix, items=40, ks=(1,)), student),
        ("stories", partial(run_stories, items=40), teller),
    ):
        whole = Counted(model)
        expected = values(task(whole))
        stopped, again = Stopped(model), Counted(model)
        with SampleStore(tmp_path / f"{name}.sqlite") as store:
            with pytest.raises(KeyboardInterrupt):
                task(stopped, store=store)
            assert values(task(again, store=store)) == expected
        assert again.calls < whole.calls
