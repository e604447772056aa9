"""Games in text: a chest in a house, a dish to cook, a house to map (sections 5.2 and 5.4)."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from hornbook.evals.sparks.probe import Mark, Probe, Trial, Turns

_ROOMS = [
    "kitchen", "cellar", "attic", "library", "hall", "pantry", "study", "garden", "workshop", "bathroom",
]  # fmt: skip
_WAYS = {"north": (0, -1), "south": (0, 1), "east": (1, 0), "west": (-1, 0)}
_BACK = {"north": "south", "south": "north", "east": "west", "west": "east"}
_VERBS = re.compile(
    r"\b(go\s+(?:north|south|east|west)|take\s+(?:the\s+)?key|open\s+(?:the\s+)?chest"
    r"|take\s+(?:the\s+)?\w+|wash\s+(?:the\s+)?\w+|cut\s+(?:the\s+)?\w+|cook\s+(?:the\s+)?\w+|serve)\b"
)


def house(rng: Random, rooms: int) -> dict[str, dict[str, str]]:
    """{room: {way: room}}: a tree of rooms on a grid, so that ways north and back south agree."""
    names = rng.sample(_ROOMS, rooms)
    at = {names[0]: (0, 0)}
    found: dict[str, dict[str, str]] = {name: {} for name in names}
    for name in names[1:]:
        while True:
            base = rng.choice(list(at))
            way = rng.choice(list(_WAYS))
            spot = (at[base][0] + _WAYS[way][0], at[base][1] + _WAYS[way][1])
            if spot not in at.values():
                break
        at[name] = spot
        found[base][way], found[name][_BACK[way]] = name, base
    return found


def command(text: str) -> str:
    """The first command in what a model said, in lower case; empty where there is none."""
    match = _VERBS.search(" ".join(text.lower().split())[:2_000])
    return re.sub(r"\bthe ", "", match[0]) if match else ""


@dataclass
class TreasureState:
    """Where the player is and what has been done."""

    room: str
    key: bool = False
    won: bool = False
    moves: int = 0
    bad: int = 0
    seen: list[str] = field(default_factory=list)


def treasure(told: Any, turns: Turns) -> tuple[TreasureState, str]:
    """Plays the turns; the state, and what the game says last."""
    state = TreasureState(room=told["start"])
    says = _look(told, state)
    for turn in turns:
        order = command(turn)
        state.moves += 1
        ways = told["house"][state.room]
        if order.startswith("go ") and order[3:] in ways:
            state.room = ways[order[3:]]
            says = _look(told, state)
        elif order == "take key" and state.room == told["key"] and not state.key:
            state.key, says = True, "You take the key."
        elif order == "open chest" and state.room == told["chest"]:
            state.won = state.key
            says = "The chest opens. You have won." if state.key else "The chest is locked; you need the key."
        else:
            state.bad += 1
            says = "That does nothing here. " + _look(told, state)
        state.seen.append(state.room)
        if state.won:
            break
    return state, says


def _look(told: Any, state: TreasureState) -> str:
    parts = [f"You are in the {state.room}."]
    if state.room == told["key"] and not state.key:
        parts.append("A key lies here.")
    if state.room == told["chest"]:
        parts.append("A chest stands here.")
    parts.append(f"You can go {', '.join(told['house'][state.room])}.")
    return " ".join(parts)


class Treasure(Probe):
    """Find a key and open the chest that it fits, room by room."""

    name = "treasure"
    section = "5.4"
    sentence = "A text game: find the key, open the chest, in a house that is only seen room by room."
    max_tokens = 16

    def draw(self, rng: Random) -> Trial:
        built = house(rng, rng.choice([4, 5, 6]))
        start, key, chest = rng.sample(list(built), 3)
        told: dict[str, Any] = {"house": built, "start": start, "key": key, "chest": chest}
        told["moves"] = 2 * len(self._plan(told)) + 4
        opening = (
            "This is a game in text. Each of your turns is one command alone: go north, go south, go east, "
            "go west, "
            f"take key, open chest. Find the key, then open the chest.\n\n{treasure(told, ())[1]}"
        )
        return Trial(id="", openings=(opening,), told=told, group=f"{len(built)} rooms")

    def reply(self, trial: Trial, conversation: int, turns: Turns) -> str | None:
        state, says = treasure(trial.told, turns)
        return None if state.won or len(turns) >= trial.told["moves"] else says

    def mark(self, trial: Trial, answers: Sequence[Turns]) -> Mark:
        state, _ = treasure(trial.told, answers[0])
        best = len(self._plan(trial.told))
        return Mark(
            values={
                "solved": float(state.won),
                "has the key": float(state.key),
                "commands that do something": 1 - state.bad / max(1, state.moves),
                "best over moves": best / state.moves if state.won else 0.0,
            },
            read=f"{state.moves} moves, best {best}",
            note="" if state.won else "not won",
        )

    def solve(self, trial: Trial, conversation: int, turns: Turns) -> str:
        return self._plan(trial.told)[len(turns)]

    @staticmethod
    def _plan(told: Any) -> list[str]:
        way = _path(told["house"], told["start"], told["key"])
        back = _path(told["house"], told["key"], told["chest"])
        return [*(f"go {w}" for w in way), "take key", *(f"go {w}" for w in back), "open chest"]


def _path(built: Any, start: str, goal: str) -> list[str]:
    """The shortest way between two rooms."""
    ways: dict[str, list[str]] = {start: []}
    waiting = [start]
    for room in waiting:
        for way, other in built[room].items():
            if other not in ways:
                ways[other] = [*ways[room], way]
                waiting.append(other)
    return ways[goal]


_FOODS = ["carrot", "potato", "leek", "pepper", "onion", "turnip", "pumpkin", "mushroom"]


class Cooking(Probe):
    """A hidden order that costs the game; alone, and after a demonstration with another dish."""

    name = "cooking"
    section = "5.4"
    sentence = "A cooking game with a rule that is told nowhere: alone, and after one demonstration."
    metric = "after a demonstration"
    max_tokens = 16
    _ORDER = ("take", "wash", "cut", "cook")

    def draw(self, rng: Random) -> Trial:
        foods = rng.sample(_FOODS, 3)
        told = {"dish": foods[:2], "shown": foods[2]}
        rules = (
            "This is a cooking game in text. Each of your turns is one command alone: take, wash, cut or "
            "cook with "
            "the name of a food, or serve. A food done in the wrong order is spoiled, and the game is lost."
        )
        game = f"Prepare {foods[0]} and {foods[1]}, then serve. You stand in the kitchen."
        shown = "\n".join(
            line
            for order in self._ORDER
            for line in (f"> {order} {foods[2]}", f"You {order} the {foods[2]}.")
        )
        demonstration = (
            f"Here is a game that was won:\nPrepare {foods[2]}, then serve.\n{shown}\n> serve\nYou have "
            "won.\n\n"
            "Now yours. "
        )
        return Trial(id="", openings=(f"{rules}\n\n{game}", f"{rules}\n\n{demonstration}{game}"), told=told)

    def reply(self, trial: Trial, conversation: int, turns: Turns) -> str | None:
        state = self._play(trial.told["dish"], turns)
        return None if state in ("won", "lost") or len(turns) >= 12 else state

    def _play(self, dish: Sequence[str], turns: Turns) -> str:
        """What the game says after the last turn, or "won" or "lost"."""
        done = dict.fromkeys(dish, 0)
        says = ""
        for turn in turns:
            verb, _, food = command(turn).partition(" ")
            if verb == "serve":
                return "won" if all(n == len(self._ORDER) for n in done.values()) else "lost"
            if food not in done:
                says = "That does nothing."
            elif done[food] < len(self._ORDER) and verb == self._ORDER[done[food]]:
                done[food] += 1
                says = f"You {verb} the {food}."
            else:
                return "lost"
        return says

    def mark(self, trial: Trial, answers: Sequence[Turns]) -> Mark:
        ends = [self._play(trial.told["dish"], turns) for turns in answers]
        return Mark(
            values={"after a demonstration": float(ends[1] == "won"), "alone": float(ends[0] == "won")},
            read="; ".join(end if end in ("won", "lost") else "not ended" for end in ends),
        )

    def solve(self, trial: Trial, conversation: int, turns: Turns) -> str:
        plan = [f"{verb} {food}" for food in trial.told["dish"] for verb in self._ORDER]
        return plan[len(turns)] if len(turns) < len(plan) else "serve"


class HouseMap(Probe):
    """A walk through a house, and the map of it."""

    name = "house-map"
    section = "5.2"
    sentence = "After a walk through a house in words: which rooms are next to each other?"
    max_tokens = 120

    def draw(self, rng: Random) -> Trial:
        built = house(rng, rng.choice([4, 5, 6]))
        room = rng.choice(list(built))
        steps, doors = (
            [f"You start in the {room}."],
            {_door(a, b) for a, o in built.items() for b in o.values()},
        )
        walked: set[str] = set()
        while walked != doors:
            way, other = rng.choice(list(built[room].items()))
            walked.add(_door(room, other))
            steps.append(f"You go {way} and come to the {other}.")
            room = other
        opening = (
            f"{' '.join(steps)}\n\nWhich rooms have a door between them? Write each pair once, one a line, "
            "such as: "
            "hall - cellar"
        )
        told = {"doors": sorted(doors), "house": json.dumps(built)}
        return Trial(id="", openings=(opening,), told=told, group=f"{len(built)} rooms")

    def mark(self, trial: Trial, answers: Sequence[Turns]) -> Mark:
        truth = set(trial.told["doors"])
        said = re.findall(
            r"(?m)^\W*(?:the )?([a-z]+)\s*(?:-|–|to|and)+\s*(?:the )?([a-z]+)\W*$", answers[0][-1].lower()
        )
        found = {_door(a, b) for a, b in said}
        shared = len(found & truth)
        f1 = 2 * shared / (len(found) + len(truth)) if shared else 0.0
        missing = sorted(truth - found)
        return Mark(
            values={"solved": float(found == truth), "doors, F1": f1},
            read="; ".join(sorted(found))[:200],
            note=f"missing {missing[0]}" if missing else "too many" if found != truth else "",
        )

    def solve(self, trial: Trial, conversation: int, turns: Turns) -> str:
        return "\n".join(trial.told["doors"])


def _door(a: str, b: str) -> str:
    return " - ".join(sorted((a, b)))
