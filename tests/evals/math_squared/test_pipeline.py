"""The five steps: who votes on what, when a question falls, what a teacher of known error lets by."""

from collections import Counter
from random import Random

import pytest

from hornbook.errors import HornbookError
from hornbook.evals.math_squared.pipeline import Pipeline, funnel, propose
from hornbook.evals.math_squared.questions import SKILL_OF, single
from hornbook.evals.math_squared.skills import Exemplar
from hornbook.evals.math_squared.steps import examine_squares
from hornbook.evals.math_squared.teacher import RATES, TeacherErrors, program_teacher, read
from hornbook.lab.run import Run
from hornbook.lm.base import Failure
from hornbook.lm.simulated import SimulatedModel


def exemplars(name, count=6, seed=0):
    made = [single(SKILL_OF[name], Random(f"{seed} {i}")) for i in range(count)]
    return [Exemplar(question=q.text, answer=q.answer, solution=q.solution) for q in made]


REPOSITORY = {
    name: exemplars(name) for name in ("remainders", "areas", "distances", "probabilities", "divisor_counts")
}


def scripted(
    votes="Yes Yes Yes Yes", answers="4 4 4 4", generated="# QUESTION\nWhat?", pair="Yes", seen=None
):
    """A model that answers each step as told; `seen` gets every prompt by step."""

    def answer(request):
        prompt, turn = request.messages[-1].content, request.sample_index
        step = {
            "Here are two": "pair",
            "Write one": "generation",
            "Here is a q": "attempt",
            "You check": "vote",
        }
        name = next((s for begin, s in step.items() if prompt.startswith(begin)), "solve")
        if seen is not None:
            seen.append((name, request))
        return {
            "pair": pair,
            "generation": generated,
            "attempt": "I tried.\nFAULT: it is empty",
            "vote": f"# REASONING\nNo, yes, perhaps.\n# FINAL ANSWER\n{votes.split()[turn % 4]}",
            "solve": f"so \\boxed{{{answers.split()[turn % 4]}}}",
        }[name]

    return SimulatedModel(f"scripted {votes} {answers}", answer)


@pytest.mark.parametrize(
    ("votes", "stage"),
    [
        ("Yes Yes Yes No", "accepted"),
        ("Yes No Yes No", "validation"),
        ("Yes Yes Perhaps Maybe", "validation"),
    ],
)
def test_three_of_four_votes_are_needed_so_that_a_draw_and_the_unreadable_are_no(votes, stage):
    [found] = propose(scripted(votes), REPOSITORY, count=1)
    assert found.stage == stage
    assert found.votes == tuple({"Yes": True, "No": False}.get(vote) for vote in votes.split())


@pytest.mark.parametrize(
    ("answers", "answer", "agreeing"),
    [
        ("1/2 0.5 2 3", "1/2", 2),
        ("7 8 8 8", "8", 3),
        ("1 2 2 1", "1", 2),
        ("1 2 3 4", "", 0),
        ("\\frac{4}{2} 2 3 3", "\\frac{4}{2}", 2),
    ],
)
def test_the_answer_is_what_most_solutions_say_as_mathematics(answers, answer, agreeing):
    [found] = propose(scripted(answers=answers), REPOSITORY, count=1)
    assert (found.answer, found.agreeing) == (answer, agreeing)
    assert found.accepted == bool(answer)


def test_every_vote_has_a_context_of_its_own_with_question_and_attempt():
    seen = []
    [found] = propose(scripted(seen=seen, generated="idea\n\n# QUESTION\nHow many?"), REPOSITORY, count=1)
    assert found.question == "How many?"
    assert Counter(name for name, _ in seen) == {
        "pair": 1,
        "generation": 1,
        "attempt": 1,
        "vote": 4,
        "solve": 4,
    }
    for name, request in seen:
        turns = len(request.messages)
        assert turns == (9 if name == "generation" else 1), name
        if name == "vote":
            assert "How many?" in request.messages[0].content
            assert "FAULT: it is empty" in request.messages[0].content


def test_a_pair_is_judged_once_and_a_question_without_its_mark_is_none():
    seen = []
    found = propose(scripted(seen=seen, pair="No"), REPOSITORY, count=40)
    assert funnel(found)["pair"] == 40
    assert len(seen) == len({frozenset(c.skills) for c in found}) <= 10
    found = propose(scripted(generated="a question?"), REPOSITORY, count=3)
    assert funnel(found) == {**dict.fromkeys(funnel(found), 0), "generation": 3}


def test_a_failed_call_rejects_its_candidate_alone_with_the_reason():
    inner = scripted()

    def answer(request):
        prompt = request.messages[-1].content
        if prompt.startswith("Here is a q") and answer.calls < 1:
            answer.calls += 1
            return Failure(kind="timeout", message="too slow")
        return inner._fn(request)

    answer.calls = 0
    found = propose(SimulatedModel("fails once", answer), REPOSITORY, count=3)
    assert [c.stage for c in found] == ["attempt", "accepted", "accepted"]
    assert found[0].why == "the call failed (timeout): too slow"


def test_a_faultless_teacher_loses_only_what_is_flawed():
    errors = TeacherErrors(notices=1, reads=1, rejects=0, slips=0)
    found = propose(program_teacher(errors, seed=3), REPOSITORY, count=60)
    for candidate in found:
        reading = read(candidate.question)
        assert candidate.accepted == reading.sound, candidate
        assert not candidate.accepted or candidate.answer == str(reading.answer)
    flawed = sum(not read(c.question).sound for c in found)
    assert 0.15 < flawed / 60 < 0.65  # written at a rate of 0.4
    assert sum(RATES.values()) == pytest.approx(0.4)


def test_votes_that_see_no_attempt_catch_fewer_flaws():
    def caught(attempt):
        found = propose(program_teacher(seed=4), REPOSITORY, count=120, pipeline=Pipeline(attempt=attempt))
        flawed = [c for c in found if not read(c.question).sound]
        return sum(c.stage == "validation" and bool(c.why) for c in flawed) / len(flawed)

    assert caught(True) > caught(False)


def test_two_names_of_one_skill_are_no_pair():
    repository = {"a": exemplars("areas"), "b": exemplars("areas", seed=9), "c": exemplars("remainders")}
    for candidate in propose(program_teacher(), repository, count=20):
        assert (candidate.stage == "pair") == (set(candidate.skills) == {"a", "b"})


def test_wrong_settings_are_refused():
    with pytest.raises(HornbookError, match="needed is 5"):
        Pipeline(needed=5)
    with pytest.raises(HornbookError, match="at least two skills"):
        propose(scripted(), {"one": REPOSITORY["areas"]}, count=1)


def test_a_language_model_is_asked_pairs_and_their_halves(tmp_path, monkeypatch):
    """One that solves single questions alone has X = 1 and Y = 0, whatever the form of its answer."""

    def answer(request):
        reading = read(request.messages[-1].content.rsplit("Question: ", 1)[1].strip())
        return f"so \\boxed{{{reading.answer}.0}}" if len(reading.skills) == 1 else "so \\boxed{x}"

    monkeypatch.setattr("hornbook.infer.open.open_model", lambda spec: SimulatedModel(spec, answer))
    run = Run(tmp_path, recipe="t", scale="smoke", settings={}, quiet=True)
    facts = run.step(examine_squares, model="one skill", count=5, seed=0).facts
    assert (facts["x"], facts["both"], facts["y"]) == (1.0, 1.0, 0.0)
    assert (facts["x_asked"], facts["y_asked"]) == (10, 5)
    assert facts["y_interval"][1] < 0.6


def test_what_an_endpoint_left_out_is_asked_again_and_that_alone(tmp_path, monkeypatch):
    asked = []

    class Faltering(SimulatedModel):
        def complete(self, requests, **told):
            found = super().complete(requests, **told)
            asked.append(len(requests))
            if len(asked) == 1:
                found[-3:] = [Failure(kind="connection", message="gone")] * 3
            return found

    def opened(spec, calls=None):
        assert calls is not None  # what is answered is kept
        return Faltering("far", lambda request: "\\boxed{1}")

    monkeypatch.setattr("hornbook.infer.open.open_model", opened)
    for missing in (3, 0):
        run = Run(tmp_path, recipe="t", scale="smoke", settings={}, quiet=True)
        made = run.step(examine_squares, model="http://host/v1#far", count=5, seed=0)
        assert bool(made.unfinished) is bool(missing)
        assert made.facts["x_asked"] + made.facts["y_asked"] == 15 - missing
    run = Run(tmp_path, recipe="t", scale="smoke", settings={}, quiet=True)
    run.step(examine_squares, model="http://host/v1#far", count=5, seed=0)
    assert len(asked) == 2
