"""The room Pivotal tokens: answers coloured by what each token did to the chance of success, and rollouts."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from fastapi import Request
from fastapi.responses import JSONResponse, Response

from hornbook.data.tokenizer import Tokenizer
from hornbook.lab.step import artifact_references
from hornbook.papers import registry
from hornbook.studio import pages
from hornbook.studio.pages import NotHere, studio_of

RECIPE = "pivotal_tokens"
STEP = "search-pivotal-tokens"
ROLLOUTS = "rollouts.jsonl"
_SHOWN = 200


def pivotal(request: Request, search: str = "", picture: int = 0) -> Response:
    """Every search; of one of them the answers, token by token."""
    steps = studio_of(request).home / "steps"
    found = []
    for path in sorted(steps.glob(f"{STEP}-*/step.json")) if steps.is_dir() else []:
        record = pages.read_json(path)
        if record is not None and isinstance(record["facts"].get("pictures"), list):
            found.append({"name": path.parent.name, "facts": record["facts"], "when": record.get("finished")})
    chosen = next((one for one in found if one["name"] == search), found[0] if found and not search else None)
    if search and chosen is None:
        raise NotHere(f"There is no search {search!r}.")
    pictures: Sequence[Mapping[str, Any]] = chosen["facts"]["pictures"] if chosen is not None else []
    if pictures and not 0 <= picture < len(pictures):
        raise NotHere(f"The search has pictures 0 to {len(pictures) - 1}, not {picture}.")
    return pages.render(
        request,
        "pivotal.html",
        recipe_exists=RECIPE in registry.names(),
        searches=found,
        chosen=chosen,
        pictures=pictures,
        number=picture,
        picture=pictures[picture] if pictures else None,
        largest=max([abs(v) for _, v in pictures[picture]["tokens"] if v is not None] or [1.0])
        if pictures
        else 1.0,
    )


def rollouts(request: Request, search: str, picture: int, position: int) -> Response:
    """The rollouts behind the first `position` tokens of an answer: how each goes on, and if it is right."""
    folder = pages.below(studio_of(request).home / "steps", search)
    record = pages.read_json(folder / "step.json")
    pictures = record["facts"].get("pictures", []) if record is not None else []
    if not 0 <= picture < len(pictures):
        raise NotHere("There is no such answer.")
    shown = _behind(folder, record or {}, [text for text, _ in pictures[picture]["tokens"]], position)
    return JSONResponse(
        {
            "position": position,
            "count": len(shown),
            "right": sum(one["right"] for one in shown),
            "rollouts": shown[:_SHOWN],
        }
    )


@dataclass(frozen=True)
class _Rollout:
    question: int
    start: int
    tokens: tuple[int, ...]
    right: bool


def _behind(folder: Path, record: Mapping[str, Any], texts: list[str], position: int) -> list[dict[str, Any]]:
    path = folder / ROLLOUTS
    tokenizer = _tokenizer_of(folder, record)
    if not path.is_file() or tokenizer is None:
        return []
    every = _read(path, path.stat().st_mtime_ns)
    answer = next(
        (
            one
            for one in every
            if one.start == 0
            and len(one.tokens) == len(texts)
            and [tokenizer.decode([token]) for token in one.tokens] == texts
        ),
        None,
    )
    if answer is None:
        return []
    prefix = answer.tokens[:position]
    return [
        {"text": tokenizer.decode(one.tokens[position:]), "right": one.right, "whole": one.start == 0}
        for one in every
        if one.question == answer.question
        and one.start <= position
        and one.tokens[:position] == prefix
        and one is not answer
    ]


@lru_cache(maxsize=4)
def _read(path: Path, stamp: int) -> tuple[_Rollout, ...]:
    found = []
    for line in path.read_text(encoding="utf-8").split("\n"):
        try:
            row = json.loads(line)
            found.append(_Rollout(row["question"], row["start"], tuple(row["tokens"]), bool(row["right"])))
        except (ValueError, KeyError, TypeError):
            continue  # the line that names the search, or one torn by a crash
    return tuple(found)


def _tokenizer_of(folder: Path, record: Mapping[str, Any]) -> Tokenizer | None:
    spec = record.get("inputs", {}).get("model")
    places: list[Path] = []
    if isinstance(spec, Mapping) and isinstance(spec.get("$below"), str):
        places.append(folder.parent / spec["$below"])
    places += [folder.parent / name / "model" for name in artifact_references(spec)]
    for place in places:
        if (place / "tokenizer.json").is_file():
            return _load(place)
    return None


@lru_cache(maxsize=4)
def _load(folder: Path) -> Tokenizer:
    return Tokenizer.load(folder)


ROUTES = (
    ("GET", "/pivotal", pivotal),
    ("GET", "/pivotal/rollouts.json", rollouts),
)
