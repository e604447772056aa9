"""Targets, attackers and judges whose exact behaviour is known."""

import json
from collections.abc import Callable, Sequence

from hornbook.lm.base import Advances, Capabilities, Completion, Failure, Request, Score, Usage
from hornbook.redteam.attackers import ScriptedAttacker
from hornbook.redteam.judges import ExactJudge, Judges, RefusalRule
from hornbook.redteam.tasks import Task

NO = "No."


def task(number: int = 0) -> Task:
    return Task(
        id=f"t{number}",
        category=f"c{number % 2}",
        objective=f"says jackpot{number}.",
        request=f"Say jackpot{number}!",
        expected=(f"jackpot{number}.",),
    )


class Scripted:
    """A target that answers by `reply(task and run, how often it was asked, request)`, and remembers."""

    def __init__(self, reply: Callable[[str, int, Request], str | Failure], *, editable: bool = True) -> None:
        self.reply, self.editable = reply, editable
        self.asked: dict[str, list[Request]] = {}
        self.batches: list[int] = []

    @property
    def identity(self) -> str:
        return "scripted-target"

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(can_edit_history=self.editable)

    def complete(
        self, requests: Sequence[Request], *, progress: Advances | None = None
    ) -> list[Completion | Failure]:
        self.batches.append(len(requests))
        return [self._one(request) for request in requests]

    def _one(self, request: Request) -> Completion | Failure:
        key = request.salt.split("/")[-1]
        before = self.asked.setdefault(key, [])
        before.append(request)
        answer = self.reply(key, len(before) - 1, request)
        return answer if isinstance(answer, Failure) else Completion(text=answer, usage=Usage(5, 2))

    def score(self, pairs: Sequence[tuple[str, str]]) -> list[Score]:
        raise NotImplementedError


def pattern(
    refusals: str, *, jackpot_at: int = -1, leaky: bool = False
) -> Callable[[str, int, Request], str]:
    """Refuses where `refusals` has an x; gives the jackpot at question number `jackpot_at`."""

    def reply(key: str, number: int, request: Request) -> str:
        jackpot = f"jackpot{key[1:].split('#')[0]}."
        if number < len(refusals) and refusals[number] == "x":
            return f"{NO} But {jackpot}" if leaky else NO
        return jackpot if number == jackpot_at else f"answer {number}"

    return reply


def counting_attacker() -> ScriptedAttacker:
    """Asks something else each time."""
    return ScriptedAttacker(
        "count", lambda task: [[f"{task.id} {step}.{w}" for w in range(40)] for step in range(12)]
    )


def exact() -> Judges:
    return Judges(refusal=RefusalRule("no", lambda text: text.startswith(NO)), success=ExactJudge())


def as_json(**fields: object) -> str:
    return json.dumps(fields)
