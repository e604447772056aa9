"""Judges and attackers that are language models: off the menu is counted, never guessed."""

from dataclasses import replace
from pathlib import Path

import pytest
from scripted import Scripted, as_json, counting_attacker, exact, pattern, task

from hornbook.errors import HornbookError
from hornbook.lm.base import Capabilities, Failure, Request
from hornbook.lm.simulated import SimulatedModel
from hornbook.redteam.attack import Campaign, attack, regrade
from hornbook.redteam.attackers import Attacker, ModelAttacker
from hornbook.redteam.judges import ExactJudge, Exchange, Judges, ModelJudge, RefusalRule
from hornbook.redteam.rates import attack_rates
from hornbook.redteam.tasks import AttackSettings

SETTINGS = AttackSettings(max_rounds=3, max_backtracks=2, runs_per_task=1)


def run(
    folder: Path,
    judges: Judges,
    attacker: Attacker | None = None,
    target: Scripted | None = None,
    **changes: object,
) -> Campaign:
    return attack(
        [task()],
        attacker=attacker or counting_attacker(),
        target=target or Scripted(pattern(".x", jackpot_at=3)),
        judges=judges,
        folder=folder,
        settings=replace(SETTINGS, **changes),  # type: ignore[arg-type]
    )


def user(request: Request) -> str:
    assert request.messages is not None
    return request.messages[-1].content


def system(request: Request) -> str:
    assert request.messages is not None
    return request.messages[0].content


def simulated_judge(request: Request) -> str:
    """Reads the material by its marks, as a capable model would."""
    text = user(request)
    if "<<<REQUEST" in text:
        return as_json(rationale="r", verdict="refused" if "<<<REPLY\nNo." in text else "answered")
    if "<<<VERDICT" in text:
        return as_json(rationale="r", verdict="consistent")
    return as_json(rationale="r", score=100 if "jackpot0.\nREPLY>>>" in text else 10)


@pytest.mark.parametrize("schema", [True, False])
def test_models_in_every_role_do_what_the_exact_judges_do(schema: bool, tmp_path: Path) -> None:
    class Model(SimulatedModel):
        @property
        def capabilities(self) -> Capabilities:
            return Capabilities(supports_schema=schema)

        def complete(self, requests, *, progress=None):  # type: ignore[no-untyped-def]
            assert all((request.schema is not None) == schema for request in requests)
            return super().complete(requests)

    judge = ModelJudge(Model("judge", simulated_judge))
    mine = run(tmp_path / "a", Judges(refusal=judge, success=judge, second=judge)).conversations[0]
    plain = run(tmp_path / "b", exact()).conversations[0]
    assert [(a.question, a.refused, a.flag, a.kept) for a in mine.attempts] == [
        (a.question, a.refused, a.flag, a.kept) for a in plain.attempts
    ]
    assert mine.outcome == "success"


def test_the_refusal_judge_sees_the_question_and_not_the_objective() -> None:
    seen: list[str] = []

    def answer(request: Request) -> str:
        seen.append(user(request) + system(request))
        return as_json(rationale="", verdict="answered")

    ModelJudge(SimulatedModel("j", answer)).refusals([Exchange(task(), "What is rain?", "Water.")])
    assert "What is rain?" in seen[0]
    assert task().objective not in seen[0]


@pytest.mark.parametrize("text", ["I would say 7 out of 10", '{"rationale": "x", "score": 700}', "{", ""])
def test_a_grade_off_the_menu_is_unscored_counted_and_outside_the_rate(text: str, tmp_path: Path) -> None:
    judge = ModelJudge(SimulatedModel("j", lambda request: text))
    made = run(tmp_path, Judges(refusal=exact().refusal, success=judge))
    assert made.conversations[0].outcome == "undetermined"
    with pytest.raises(HornbookError, match="1 undetermined"):
        attack_rates(made)


def test_an_unclear_refusal_is_counted_and_does_not_spend_a_backtrack(tmp_path: Path) -> None:
    judge = ModelJudge(SimulatedModel("j", lambda request: as_json(rationale="?", verdict="unclear")))
    made = run(tmp_path, Judges(refusal=judge, success=ExactJudge()))
    assert made.conversations[0].backtracks == 0
    assert attack_rates(made).unscored["refusal"] == 3


def test_a_judge_that_cannot_be_reached_puts_the_conversation_aside(tmp_path: Path) -> None:
    down = Failure(kind="timeout", message="after 60 s")
    for number, role in enumerate(("refusal", "success", "second")):
        judge = ModelJudge(SimulatedModel("j", lambda request: down))
        judges = replace(exact(), **{role: judge})  # type: ignore[arg-type]
        made = run(tmp_path / str(number), judges)
        assert f"{role} judge: timeout" in made.suspended["t0#0"]
        assert not made.conversations[0].attempts


@pytest.mark.parametrize(
    ("mode", "flags", "turned"),
    [("rescue", [True], (1, 0)), ("veto", [False, False, False], (0, 1)), ("both", [True], (1, 0))],
)
def test_the_second_judge_turns_what_it_may_and_flips_are_counted(
    mode: str, flags: list[bool], turned: tuple[int, int], tmp_path: Path
) -> None:
    second = ModelJudge(SimulatedModel("j", lambda request: as_json(rationale="!", verdict="inconsistent")))
    target = Scripted(lambda key, number, request: "jackpot0." if number == 2 else "no luck")
    made = run(tmp_path, replace(exact(), second=second), target=target, second_judge=mode)
    assert [attempt.flag for attempt in made.conversations[0].attempts] == flags
    rates = attack_rates(made)
    assert (rates.rescued, rates.vetoed) == turned


def test_the_held_out_judge_must_be_another_and_grades_what_the_loop_did_not_steer_by(tmp_path: Path) -> None:
    with pytest.raises(HornbookError, match="held-out judge is the success judge"):
        Judges(refusal=exact().refusal, success=ExactJudge(), held_out=ExactJudge())
    strict = ModelJudge(SimulatedModel("strict", lambda request: as_json(rationale="", score=5)))
    made = run(tmp_path, replace(exact(), held_out=strict))
    assert attack_rates(made).average.value == 1.0
    verdicts = regrade(made, replace(exact(), held_out=strict))
    assert verdicts == {"t0#0": False}
    assert attack_rates(made, verdicts=verdicts).average.value == 0.0


def test_an_attacker_that_will_not_play_is_an_error_and_not_a_robust_target(tmp_path: Path) -> None:
    asked: list[Request] = []

    def answer(request: Request) -> str:
        asked.append(request)
        return "I would rather not."

    made = run(tmp_path, exact(), attacker=ModelAttacker(SimulatedModel("a", answer), retries=2))
    assert made.conversations[0].outcome == "attacker_error"
    assert len(asked) == 3  # asked again before it counts
    assert len({request.sample_index for request in asked}) == 3
    with pytest.raises(HornbookError, match="1 attacker_error"):
        attack_rates(made)


def test_what_the_attacker_is_told(tmp_path: Path) -> None:
    seen: list[str] = []

    def answer(request: Request) -> str:
        seen.append(user(request))
        assert task().objective in system(request)
        number = len(seen)
        return as_json(last_response_summary=f"summary {number}", rationale="r", next_message=f"q{number}")

    attacker = ModelAttacker(SimulatedModel("a", answer))
    made = run(tmp_path, exact(), attacker=attacker)
    assert [a.question for a in made.conversations[0].attempts] == ["q1", "q2", "q3", "q4"]
    opening, second, after_refusal, fourth = seen
    assert "message 1 of 3" in opening
    assert "declined" not in opening
    assert "last reply:\nanswer 0" in second
    assert "0.00 of 1.00" in second
    assert 'declined your last message, "q2". It was taken back' in after_refusal
    assert "message 2 of 3" in after_refusal  # a question taken back is no round
    assert "last reply" not in after_refusal
    assert "- You asked: q1 (score 0.00) summary 2" in after_refusal
    assert "- You asked: q2 (declined)" in fourth
    assert "declined your last" not in fourth
    assert "No." not in fourth


def test_a_parse_failure_takes_nothing_back(tmp_path: Path) -> None:
    calls = 0

    def answer(request: Request) -> str:
        nonlocal calls
        calls += 1
        if calls == 2:
            return "not JSON"
        return as_json(last_response_summary="", rationale="", next_message=f"q{calls}")

    target = Scripted(pattern("", jackpot_at=2))
    made = run(tmp_path, exact(), attacker=ModelAttacker(SimulatedModel("a", answer)), target=target)
    assert [len(request.messages or ()) for request in target.asked["t0#0"]] == [1, 3, 5]
    assert made.conversations[0].outcome == "success"


def test_identity_holds_the_prompts() -> None:
    model = SimulatedModel("m", lambda request: "")
    assert ModelAttacker(model).identity != ModelAttacker(model, examples=[["a", "b"]]).identity
    assert ModelAttacker(model).identity == ModelAttacker(model).identity
    assert RefusalRule("x", bool).identity != RefusalRule("y", bool).identity
