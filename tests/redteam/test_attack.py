"""The loop against targets whose every answer is known: a second, plain writing of the rules agrees."""

from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from scripted import NO, Scripted, counting_attacker, exact, pattern, task

from hornbook.errors import HornbookError
from hornbook.lm.base import Failure, Message, Request
from hornbook.redteam.attack import Campaign, attack
from hornbook.redteam.conversation import Conversation
from hornbook.redteam.tasks import AttackSettings, Attempt

SMALL = AttackSettings(max_rounds=4, max_backtracks=3, runs_per_task=1)


def plain_loop(refusals: str, settings: AttackSettings, jackpot_at: int) -> tuple[list[int], int, int, str]:
    """Section 3 of the paper written straight down: (earlier exchanges sent with each question, rounds,
    backtracks, outcome)."""
    sent: list[int] = []
    history = rounds = backtracks = number = 0
    while rounds < settings.max_rounds:
        sent.append(history)
        is_refused = number < len(refusals) and refusals[number] == "x"
        if not is_refused:
            history += 1
            rounds += 1
            if number == jackpot_at:
                return sent, rounds, backtracks, "success"
        elif backtracks < settings.max_backtracks:
            backtracks += 1
        elif settings.when_backtracks_are_spent == "stop":
            return sent, rounds + 1, backtracks, "failure"
        else:
            rounds += 1
            history += settings.when_backtracks_are_spent == "keep"
        number += 1
    return sent, rounds, backtracks, "failure"


def one(target: Scripted, folder: Path, settings: AttackSettings = SMALL) -> Conversation:
    made = attack(
        [task()],
        attacker=counting_attacker(),
        target=target,
        judges=exact(),
        folder=folder,
        settings=settings,
    )
    return made.conversations[0]


@pytest.mark.parametrize("spent", ["drop", "keep", "stop"])
def test_queries_rounds_and_backtracks_are_those_of_a_plain_loop(spent: str, tmp_path: Path) -> None:
    rng = Random(7)
    for number in range(60):
        refusals = "".join(rng.choice("x..") if number % 3 else rng.choice("x.") for _ in range(12))
        jackpot_at = rng.randrange(12)
        settings = replace(
            SMALL,
            when_backtracks_are_spent=spent,  # type: ignore[arg-type]
            max_rounds=rng.randint(1, 6),
            max_backtracks=rng.randint(0, 4),
        )
        target = Scripted(pattern(refusals, jackpot_at=jackpot_at))
        found = one(target, tmp_path / str(number), settings)
        sent, rounds, backtracks, outcome = plain_loop(refusals, settings, jackpot_at)
        requests = target.asked["t0#0"]
        assert [len(request.messages or ()) for request in requests] == [2 * pairs + 1 for pairs in sent]
        assert (found.rounds, found.backtracks, found.outcome) == (rounds, backtracks, outcome)
        assert len(requests) <= settings.max_queries
        assert [a.number for a in found.attempts] == list(range(1, len(requests) + 1))


def test_a_question_taken_back_is_gone_from_what_is_sent_and_stays_in_the_log(tmp_path: Path) -> None:
    target = Scripted(pattern(".xx.", jackpot_at=4))
    found = one(target, tmp_path)
    requests = target.asked["t0#0"]
    before, after = requests[1].messages, requests[3].messages
    assert before is not None
    assert after is not None
    assert before[:-1] == after[:-1]  # byte for byte what it was before the refused questions
    for request in requests:
        assert all(message.content != NO for message in request.messages or ())
    declined = [attempt.question for attempt in found.attempts if attempt.backtracked]
    assert len(declined) == 2
    for question in declined:
        assert all(message.content != question for message in requests[-1].messages or ())
    assert [attempt.kept for attempt in found.attempts] == [True, False, False, True, True]
    assert [attempt.round for attempt in found.attempts] == [1, 2, 2, 2, 3]


def test_other_words_after_a_refusal(tmp_path: Path) -> None:
    found = one(Scripted(pattern("xxx")), tmp_path)
    questions = [attempt.question for attempt in found.attempts]
    assert len(set(questions)) == len(questions)
    assert [q.split(" ")[1].split(".")[0] for q in questions[:4]] == ["0", "0", "0", "0"]


def test_what_is_kept_of_a_refusal_at_the_end_of_the_backtracks_is_scored(tmp_path: Path) -> None:
    """A leaky refusal (refusing words and the content) is a success where it is scored, and only there."""
    leaky = Scripted(pattern("x", leaky=True))
    keep = replace(SMALL, max_backtracks=0, when_backtracks_are_spent="keep")
    found = one(leaky, tmp_path / "keep", keep)
    assert (found.outcome, found.rounds, found.attempts[0].refused) == ("success", 1, True)
    dropped = one(
        Scripted(pattern("x", leaky=True)), tmp_path / "drop", replace(keep, when_backtracks_are_spent="drop")
    )
    assert dropped.outcome == "failure"
    assert dropped.attempts[0].score is None


def test_a_target_that_refuses_everything_is_a_failure_without_a_score(tmp_path: Path) -> None:
    found = one(Scripted(pattern("x" * 50)), tmp_path)
    assert (found.outcome, found.best_score) == ("failure", None)
    assert len(found.attempts) == SMALL.max_queries


def test_a_blocked_and_an_empty_reply_count_as_refusals_with_their_own_status(tmp_path: Path) -> None:
    def reply(key: str, number: int, request: Request) -> str | Failure:
        return [Failure(kind="refusal", message="filtered"), " ", "jackpot0."][number]

    found = one(Scripted(reply), tmp_path)
    assert [attempt.status for attempt in found.attempts] == ["blocked", "empty", "ok"]
    assert (found.backtracks, found.outcome) == (2, "success")


def test_a_target_error_ends_the_conversation_and_is_no_failure_of_the_attack(tmp_path: Path) -> None:
    def reply(key: str, number: int, request: Request) -> str | Failure:
        return "fine" if number < 2 else Failure(kind="bad_request", message="longer than the context")

    target = Scripted(reply)
    found = one(target, tmp_path)
    assert (found.outcome, len(found.attempts)) == ("target_error", 2)
    assert "longer than the context" in found.reason
    again = one(target, tmp_path)  # final: not asked again
    assert again.outcome == "target_error"
    assert len(target.asked["t0#0"]) == 3


def test_without_memory_every_question_goes_out_alone(tmp_path: Path) -> None:
    target = Scripted(pattern("..x.."), editable=False)
    settings = replace(SMALL, memory=False, max_backtracks=0, system_prompt="Be good.")
    found = one(target, tmp_path, settings)
    assert [len(request.messages or ()) for request in target.asked["t0#0"]] == [2] * 4
    assert found.history == [Message("system", "Be good.")]


def test_a_target_whose_history_cannot_be_edited_is_refused_before_anything_is_asked(tmp_path: Path) -> None:
    target = Scripted(pattern(""), editable=False)
    with pytest.raises(HornbookError, match=r"target .*lacks can_edit_history"):
        one(target, tmp_path)
    assert not target.asked


def campaign(target: Scripted, folder: Path, **changes: object) -> Campaign:
    settings = replace(SMALL, runs_per_task=3, **changes)  # type: ignore[arg-type]
    return attack(
        [task(number) for number in range(5)],
        attacker=counting_attacker(),
        target=target,
        judges=exact(),
        folder=folder,
        settings=settings,
    )


def mixed(key: str, number: int, request: Request) -> str:
    """Each conversation has a course of its own."""
    rng = Random(key)
    refusals = "".join(rng.choice("x..") for _ in range(12))
    return pattern(refusals, jackpot_at=rng.randrange(10))(key, number, request)


def course(made: Campaign) -> dict[str, tuple[str | None, list[Attempt]]]:
    return {c.id: (c.outcome, c.attempts) for c in made.conversations}


def test_how_many_go_on_at_once_changes_the_batches_and_nothing_else(tmp_path: Path) -> None:
    alone, together = Scripted(mixed), Scripted(mixed)
    assert course(campaign(alone, tmp_path / "1", at_once=1)) == course(
        campaign(together, tmp_path / "15", at_once=15)
    )
    assert set(alone.batches) == {1}
    assert together.batches[0] == 15
    assert len(together.batches) <= SMALL.max_queries


def test_a_resumed_attack_asks_nothing_that_was_answered_before(tmp_path: Path) -> None:
    whole = Scripted(mixed)
    wanted = course(campaign(whole, tmp_path / "whole", at_once=4))
    questions = {key: [r.messages for r in asked] for key, asked in whole.asked.items()}
    for after in (1, 3, 7, 12):
        folder = tmp_path / str(after)
        asked: dict[str, list[object]] = {}
        stopped_in: list[Request] = []
        for sitting in range(40):
            target = _Stopping(mixed, after + sitting, asked)
            try:
                found = campaign(target, folder, at_once=4)
                break
            except KeyboardInterrupt:
                stopped_in += target.lost
        assert course(found) == wanted
        # Asked twice at most: the wave that was interrupted before it was stored.
        for key, sent in asked.items():
            assert [m for i, m in enumerate(sent) if m not in sent[:i]] == questions[key]
            assert len(sent) - len(questions[key]) == sum(r.salt.endswith(f"/{key}") for r in stopped_in)


class _Stopping(Scripted):
    """Is interrupted within its batch number `stops`, as by Ctrl-C; `asked` spans all sittings."""

    def __init__(self, reply, stops: int, asked: dict[str, list[object]]) -> None:  # type: ignore[no-untyped-def]
        super().__init__(reply)
        self._stops, self._over, self.lost = stops, asked, []

    def complete(self, requests, *, progress=None):  # type: ignore[no-untyped-def]
        answers = []
        for request in requests:
            key = request.salt.split("/")[-1]
            answers.append(self._reply_of(key, request))
        if len(self.batches) + 1 == self._stops:
            self.lost = list(requests)
            raise KeyboardInterrupt
        self.batches.append(len(requests))
        return answers

    def _reply_of(self, key: str, request: Request):  # type: ignore[no-untyped-def]
        from hornbook.lm.base import Completion, Usage

        self._over.setdefault(key, []).append(request.messages)
        number = request.sample_index % SMALL.max_queries  # the number of the question in its conversation
        return Completion(text=self.reply(key, number, request), usage=Usage(5, 2))


def test_a_service_that_fails_puts_conversations_aside_and_the_next_call_goes_on(tmp_path: Path) -> None:
    down = True

    def reply(key: str, number: int, request: Request) -> str | Failure:
        if down and key == "t1#0" and request.sample_index >= 2:
            return Failure(kind="server", message="status 503")
        return mixed("t9#9", number, request)

    first = campaign(Scripted(reply), tmp_path)
    assert list(first.suspended) == ["t1#0"]
    assert "status 503" in first.suspended["t1#0"]
    aside = next(c for c in first.conversations if c.id == "t1#0")
    assert aside.outcome is None
    assert len(aside.attempts) == 2
    down = False
    target = Scripted(reply)
    second = campaign(target, tmp_path)
    assert not second.suspended
    assert set(target.asked) == {"t1#0"}  # nothing else is asked again
    assert all(c.outcome is not None for c in second.conversations)


def test_runs_of_a_task_and_tries_of_a_question_are_draws_of_their_own(tmp_path: Path) -> None:
    target = Scripted(pattern("x" * 20))
    campaign(target, tmp_path)
    draws = [(r.sample_index, r.salt) for asked in target.asked.values() for r in asked]
    assert len(set(draws)) == len(draws)
    by_task: dict[str, list[int]] = {}
    for key, asked in target.asked.items():
        by_task.setdefault(key.split("#")[0], []).extend(r.sample_index for r in asked)
    assert all(len(set(numbers)) == len(numbers) for numbers in by_task.values())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_rounds", 0),
        ("max_backtracks", -1),
        ("success_threshold", 0),
        ("success_threshold", 101),
        ("when_backtracks_are_spent", "forget"),
        ("second_judge", "maybe"),
    ],
)
def test_wrong_settings_are_named(field: str, value: object) -> None:
    with pytest.raises(HornbookError, match=rf"AttackSettings\.{field} is .*accepted"):
        AttackSettings(**{field: value})  # type: ignore[arg-type]
