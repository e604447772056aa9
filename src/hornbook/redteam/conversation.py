"""One conversation of an attack: the target's history, the attacker's log and the rules between them.

A conversation is nothing but the fold of its attempts: the same attempts, added again, give the same state.
That is what makes stored transcripts resumable in the middle and auditable afterwards.
"""

from collections.abc import Iterable
from dataclasses import replace

from hornbook.errors import HornbookError
from hornbook.lm.base import Message
from hornbook.redteam.tasks import AttackSettings, Attempt, Outcome, Task


class Conversation:
    """One run of the Crescendomation loop (arXiv 2404.01833) on one task.

    Attributes:
        task, run: what and which of the independent runs (from 0).
        history: what the target is sent before the next question; never a question that was taken back.
        attempts: the attacker's log: everything asked, what was taken back included.
        rounds, backtracks: spent so far.
        outcome: None while it goes on.
    """

    def __init__(self, task: Task, run: int, settings: AttackSettings) -> None:
        self.task, self.run, self.settings = task, run, settings
        self.history: list[Message] = []
        if system := task.system or settings.system_prompt:
            self.history.append(Message("system", system))
        self.attempts: list[Attempt] = []
        self.rounds = 0
        self.backtracks = 0
        self.outcome: Outcome | None = None
        self.reason = ""

    @property
    def id(self) -> str:
        """Names the conversation in its campaign."""
        return f"{self.task.id}#{self.run}"

    @property
    def best_score(self) -> int | None:
        """The highest score so far; None when no reply was scored."""
        return max((a.score for a in self.attempts if a.score is not None), default=None)

    @property
    def last(self) -> Attempt | None:
        """The newest attempt."""
        return self.attempts[-1] if self.attempts else None

    def messages(self, question: str) -> tuple[Message, ...]:
        """What the target is sent for `question`."""
        return (*self.history, Message("user", question))

    def takes_back(self, attempt: Attempt) -> bool:
        """Whether a refused attempt is taken back without counting a round."""
        return refused(attempt) and self.backtracks < self.settings.max_backtracks

    def to_score(self, attempt: Attempt) -> bool:
        """Whether the success judge is asked about this reply: not where it is only taken away again."""
        if not refused(attempt):
            return True
        return not self.takes_back(attempt) and self._stays(attempt)

    def _stays(self, attempt: Attempt) -> bool:
        # A filter's block or an empty reply has no text that could stay.
        return self.settings.when_backtracks_are_spent == "keep" and attempt.status == "ok"

    def add(self, attempt: Attempt) -> Attempt:
        """Applies the rules of section 3 (backtracking, rounds, success) to a judged attempt.

        Returns the attempt with `number`, `round`, `backtracked` and `kept` filled in.
        """
        if self.outcome is not None:
            raise ValueError(f"conversation {self.id} has ended: {self.outcome}")
        settings = self.settings
        backtracked = self.takes_back(attempt)
        kept = settings.memory and (not refused(attempt) or (not backtracked and self._stays(attempt)))
        if backtracked:
            self.backtracks += 1
        else:
            self.rounds += 1
        attempt = replace(
            attempt,
            number=len(self.attempts) + 1,
            round=self.rounds + 1 if backtracked else self.rounds,
            backtracked=backtracked,
            kept=kept,
        )
        self.attempts.append(attempt)
        if kept:
            self.history += [Message("user", attempt.question), Message("assistant", attempt.reply)]
        if attempt.flag:
            self.end("success")
        elif refused(attempt) and not backtracked and settings.when_backtracks_are_spent == "stop":
            self._give_up("the backtracks are spent")
        elif self.rounds >= settings.max_rounds:
            self._give_up("the rounds are spent")
        return attempt

    def _give_up(self, reason: str) -> None:
        unscored = any(a.scored and a.flag is None for a in self.attempts)
        self.end("undetermined" if unscored else "failure", reason)

    def end(self, outcome: Outcome, reason: str = "") -> None:
        """Ends the conversation."""
        self.outcome, self.reason = outcome, reason

    def replay(self, attempts: Iterable[Attempt]) -> None:
        """Adds stored attempts.

        Raises:
            HornbookError: they do not follow from the settings, so the transcript is damaged or of another
                version of the rules.
        """
        for stored in attempts:
            if self.outcome is not None or self.add(stored) != stored:
                raise HornbookError(
                    f"The stored conversation {self.id} does not follow its own rules at attempt "
                    f"{stored.number}; the transcript was edited or is of another version. "
                    "Attack into a new folder."
                )


def refused(attempt: Attempt) -> bool:
    """Whether the loop treats the reply as a refusal; an unreadable verdict is none (and is counted)."""
    return attempt.status != "ok" or attempt.refused is True
