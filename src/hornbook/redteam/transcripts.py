"""Transcripts as they happen: one line an attempt, written before the next question is asked.

What is written outlives the process, however it dies; a power cut may take the last moments (the file is
flushed to the disk when the attack ends).
"""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hornbook.errors import HornbookError
from hornbook.lab.files import disk_guard, write_json
from hornbook.redteam.conversation import Conversation
from hornbook.redteam.tasks import AttackSettings, Attempt, Task

CAMPAIGN_FILE = "campaign.json"
TRANSCRIPT_FILE = "transcripts.jsonl"
FORMAT = 1


class Transcripts:
    """The conversations of one campaign in `folder`; opening it again gives back what is there.

    `campaign` says who attacked whom with which settings and tasks. A folder of another campaign is refused:
    its conversations would be counted as this one's.
    """

    def __init__(self, folder: Path, campaign: Mapping[str, Any]) -> None:
        self.folder = Path(folder)
        stored = self._stored_campaign()
        wanted = json.loads(json.dumps({"format": FORMAT, **campaign}))
        if stored is None:
            write_json(self.folder / CAMPAIGN_FILE, wanted)
        elif stored != wanted:
            changed = sorted(
                key for key in stored.keys() | wanted.keys() if stored.get(key) != wanted.get(key)
            )
            raise HornbookError(
                f"The folder {self.folder} holds another attack (different: {', '.join(changed)}). "
                "Attack into a new folder, or give back the settings of the first."
            )
        self._file = self.folder / TRANSCRIPT_FILE

    def _stored_campaign(self) -> dict[str, Any] | None:
        path = self.folder / CAMPAIGN_FILE
        if not path.is_file():
            return None
        try:
            stored: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise HornbookError(f"{path} is damaged ({error}); attack into a new folder.") from error
        return stored

    def restore(self, conversations: Iterable[Conversation]) -> None:
        """Brings conversations to where the transcript left them; those that ended have their outcome."""
        by_id = {conversation.id: conversation for conversation in conversations}
        for number, line in enumerate(self._whole_lines(), 1):
            try:
                entry = json.loads(line)
                conversation = by_id[entry["conversation"]]
                if "attempt" in entry:
                    conversation.replay([Attempt.from_json(entry["attempt"])])
                else:
                    conversation.end(entry["outcome"], entry["reason"])
            except (ValueError, KeyError, TypeError) as error:
                raise HornbookError(
                    f"{self._file}, line {number} is damaged ({type(error).__name__}: {error}). Remove "
                    "the line and those behind it, or attack into a new folder."
                ) from error

    def _whole_lines(self) -> list[str]:
        """The lines; one that a crash tore is cut off the file, so that nothing is written behind it."""
        try:
            content = self._file.read_bytes()
        except FileNotFoundError:
            return []
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content):
            with open(self._file, "r+b") as file:
                file.truncate(len(whole))
        return whole.decode("utf-8").split("\n")[:-1]

    def append(
        self,
        attempts: Sequence[tuple[Conversation, Attempt]],
        ended: Sequence[Conversation] = (),
    ) -> None:
        """Writes attempts, and endings that no attempt tells of (errors)."""
        lines: list[dict[str, Any]] = [
            {"conversation": conversation.id, "attempt": attempt.as_json()}
            for conversation, attempt in attempts
        ]
        lines += [
            {"conversation": conversation.id, "outcome": conversation.outcome, "reason": conversation.reason}
            for conversation in ended
        ]
        if not lines:
            return
        with disk_guard(self.folder), open(self._file, "a", encoding="utf-8") as file:
            file.write("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))

    def flush(self) -> None:
        """Brings what was written to the disk."""
        if self._file.is_file():
            with open(self._file, "rb") as file:
                os.fsync(file.fileno())


def conversations_of(tasks: Sequence[Task], settings: AttackSettings) -> list[Conversation]:
    """Every conversation of a campaign, not begun: all tasks' first runs, then all second runs."""
    return [Conversation(task, run, settings) for run in range(settings.runs_per_task) for task in tasks]


@dataclass(frozen=True, kw_only=True)
class Told:
    """One stored conversation, for reading.

    outcome: "success" when a reply was flagged; what an ending line says; else "failure" (or unfinished).
    """

    id: str
    attempts: tuple[Attempt, ...]
    outcome: str
    reason: str

    @property
    def best_score(self) -> int | None:
        """The highest score of a reply; None when none was scored."""
        return max((a.score for a in self.attempts if a.score is not None), default=None)

    @property
    def backtracks(self) -> int:
        """Questions that were taken back."""
        return sum(a.backtracked for a in self.attempts)


def read_transcripts(folder: Path) -> list[Told]:
    """Every conversation that `folder` holds, in the order of their first lines; a torn line is left out.

    Nothing is checked against the rules and nothing is written: a campaign may be under way.
    """
    attempts: dict[str, list[Attempt]] = {}
    endings: dict[str, tuple[str, str]] = {}
    try:
        lines = (Path(folder) / TRANSCRIPT_FILE).read_text(encoding="utf-8").split("\n")
    except FileNotFoundError:
        return []
    for line in lines:
        try:
            entry = json.loads(line)
            if "attempt" in entry:
                attempts.setdefault(entry["conversation"], []).append(Attempt.from_json(entry["attempt"]))
            else:
                attempts.setdefault(entry["conversation"], [])
                endings[entry["conversation"]] = (entry["outcome"], entry["reason"])
        except (ValueError, KeyError, TypeError):
            continue
    return [
        Told(
            id=name,
            attempts=tuple(own),
            outcome="success" if any(a.flag for a in own) else endings.get(name, ("failure", ""))[0],
            reason=endings.get(name, ("", ""))[1],
        )
        for name, own in attempts.items()
    ]


def find_campaigns(folder: Path) -> list[Path]:
    """Folders at or below `folder`, two levels deep at most, that hold a campaign."""
    found = [folder] if (folder / CAMPAIGN_FILE).is_file() else []
    for pattern in (f"*/{CAMPAIGN_FILE}", f"*/*/{CAMPAIGN_FILE}"):
        found += [path.parent for path in folder.glob(pattern)]
    return sorted(found)
