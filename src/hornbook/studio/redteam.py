"""The room Red team: campaigns, their conversations, what was asked and taken back."""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from fastapi import Request
from fastapi.responses import Response

from hornbook.redteam.transcripts import (
    CAMPAIGN_FILE,
    TRANSCRIPT_FILE,
    Told,
    find_campaigns,
    read_transcripts,
)
from hornbook.studio import pages
from hornbook.studio.pages import NotHere, studio_of

ROWS = 50


def redteam(request: Request) -> Response:
    """Every campaign, with its rates where its step is finished; and rounds of break-fix."""
    steps = studio_of(request).home / "steps"
    campaigns = []
    for folder in find_campaigns(steps) if steps.is_dir() else []:
        campaign = pages.read_json(folder / CAMPAIGN_FILE)
        if campaign is not None:
            name = folder.relative_to(steps).as_posix()
            campaigns.append({"name": name, "campaign": campaign, "facts": _facts(steps, name)})
    return pages.render(request, "redteam.html", campaigns=campaigns, rounds=_rounds(steps))


def _facts(steps: Path, name: str) -> Mapping[str, Any]:
    """What the finished step says of this arm; empty while it is under way."""
    step, _, arm = name.partition("/")
    record = pages.read_json(steps / step / "step.json")
    facts: Any = record["facts"] if record is not None else {}
    found = facts.get(arm, facts) if isinstance(facts, Mapping) else {}
    return found if isinstance(found, Mapping) else {}


def _rounds(steps: Path) -> list[dict[str, Any]]:
    """Rounds of break-fix: steps whose facts have `rounds`, a list of mappings with numbers."""
    found = []
    for path in sorted(steps.glob("*break*/step.json")) if steps.is_dir() else []:
        record = pages.read_json(path)
        rounds = record["facts"].get("rounds") if record is not None else None
        if isinstance(rounds, list) and all(isinstance(one, Mapping) for one in rounds):
            names = list(
                dict.fromkeys(key for one in rounds for key, v in one.items() if isinstance(v, int | float))
            )
            found.append({"name": path.parent.name, "columns": names, "rounds": rounds})
    return found


def campaign(request: Request, name: str, outcome: str = "", page: int = 0) -> Response:
    """The conversations of one campaign."""
    folder = _folder(request, name)
    told = _read(folder)
    outcomes: dict[str, int] = {}
    for one in told:
        outcomes[one.outcome] = outcomes.get(one.outcome, 0) + 1
    chosen = [one for one in told if not outcome or one.outcome == outcome]
    page = max(0, min(page, (len(chosen) - 1) // ROWS))
    return pages.render(
        request,
        "campaign.html",
        name=name,
        campaign=pages.read_json(folder / CAMPAIGN_FILE),
        told=chosen[page * ROWS : (page + 1) * ROWS],
        total=len(chosen),
        page=page,
        last=(len(chosen) - 1) // ROWS,
        outcome=outcome,
        outcomes=outcomes,
    )


def conversation(request: Request, name: str, id: str) -> Response:
    """One conversation: every question, what was answered, what was taken back, and the judges' words."""
    folder = _folder(request, name)
    told = _read(folder)
    at = next((i for i, one in enumerate(told) if one.id == id), None)
    if at is None:
        raise NotHere(f"There is no conversation {id!r} in {name}.")
    return pages.render(
        request,
        "conversation.html",
        name=name,
        told=told[at],
        before=told[at - 1].id if at else None,
        after=told[at + 1].id if at + 1 < len(told) else None,
        system=(pages.read_json(folder / CAMPAIGN_FILE) or {}).get("settings", {}).get("system_prompt", ""),
    )


def _folder(request: Request, name: str) -> Path:
    folder = pages.below(studio_of(request).home / "steps", name)
    if not (folder / CAMPAIGN_FILE).is_file():
        raise NotHere(f"There is no campaign {name!r}.")
    return folder


def _read(folder: Path) -> tuple[Told, ...]:
    path = folder / TRANSCRIPT_FILE
    stamp = (path.stat().st_mtime_ns, path.stat().st_size) if path.is_file() else (0, 0)
    return _read_once(folder, stamp)


@lru_cache(maxsize=8)
def _read_once(folder: Path, stamp: tuple[int, int]) -> tuple[Told, ...]:
    return tuple(read_transcripts(folder))


ROUTES = (
    ("GET", "/redteam", redteam),
    ("GET", "/redteam/campaign", campaign),
    ("GET", "/redteam/conversation", conversation),
)
