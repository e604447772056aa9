"""The model as a judge: against answers of known worth, and against people (sections 1 and 7.2).

A judge is always asked in both orders; a verdict that changes with the order counts for neither answer.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

from hornbook.errors import HornbookError
from hornbook.evals.judges import Case, Judged, Verdict, pair
from hornbook.evals.sparks.probe import Mark, Probe, Trial, Turns
from hornbook.lab.files import sha256_of
from hornbook.lm.parse import verdict as read_verdict

_CAPITALS = {
    "Norway": "Oslo", "Portugal": "Lisbon", "Kenya": "Nairobi", "Peru": "Lima", "Japan": "Tokyo",
    "Egypt": "Cairo", "Cuba": "Havana", "Poland": "Warsaw", "Chile": "Santiago", "Greece": "Athens",
}  # fmt: skip
_OFF_TOPIC = (
    "My favourite season is autumn, because of the colours.",
    "A bicycle has two wheels and a bell.",
    "Please close the window before you leave.",
)


class Judging(Probe):
    """Two answers to one request, one of them with a planted fault."""

    name = "judging"
    section = "1, 7.2"
    sentence = "Which of two answers is better, where one has a planted fault; asked in both orders."
    metric = "agrees with the truth"
    max_tokens = 80

    def draw(self, rng: Random) -> Trial:
        request, good, bad, fault = _planted(rng)
        first_is_good = rng.random() < 0.5
        texts = (good, bad) if first_is_good else (bad, good)
        return trial_of(request, *texts, truth="first" if first_is_good else "second", group=fault)

    def mark(self, trial: Trial, answers: Sequence[Turns]) -> Mark:
        judged = judged_of(trial, answers)
        both = [judged.of_order(0), judged.of_order(1)]
        placed = [list(judged.case.words[v.order]).index(v.value) == 0
                  for v in judged.verdicts if v.value not in (None, "tie")]  # fmt: skip
        return Mark(
            values={
                "agrees with the truth": float(judged.value == trial.told["truth"]),
                "same in both orders": float(both[0] is not None and both[0] == both[1]),
                **({"for the first place": sum(placed) / len(placed)} if placed else {}),
            },
            read=f"{both[0]}, {both[1]}",
            note=f"the truth is {trial.told['truth']}" if judged.value != trial.told["truth"] else "",
        )

    def solve(self, trial: Trial, conversation: int, turns: Turns) -> str:
        truth = trial.told["truth"]
        if truth == "tie":
            return "tie"
        return "1" if (truth == "first") == (conversation == 0) else "2"


def trial_of(request: str, first: str, second: str, *, truth: str, group: str = "") -> Trial:
    """A pair as a trial of two conversations."""
    case = pair("", request, first, second, truth=truth)
    told = {"request": request, "first": first, "second": second, "truth": truth}
    return Trial(id="", openings=case.prompts, told=told, group=group)


def judged_of(trial: Trial, answers: Sequence[Turns]) -> Judged:
    """The verdicts in both orders, as `evals.judges` has them."""
    told = trial.told
    case: Case = pair(trial.id, told["request"], told["first"], told["second"], truth=told["truth"])
    verdicts = tuple(
        Verdict(value=read_verdict(turns[-1], case.words[order]), order=order, text=turns[-1])
        for order, turns in enumerate(answers)
    )
    return Judged(case=case, verdicts=verdicts)


def _planted(rng: Random) -> tuple[str, str, str, str]:
    """(request, good answer, bad answer, the fault's name)."""
    match rng.randrange(4):
        case 0:
            a, b = rng.randint(12, 89), rng.randint(12, 89)
            wrong = a + b + rng.choice([-10, -2, 1, 3, 10])
            return f"What is {a} plus {b}?", f"The sum is {a + b}.", f"The sum is {wrong}.", "wrong number"
        case 1:
            country, city = rng.choice(list(_CAPITALS.items()))
            other = rng.choice([name for name in _CAPITALS.values() if name != city])
            return (
                f"What is the capital of {country}?",
                f"The capital of {country} is {city}.",
                f"The capital of {country} is {other}.",
                "wrong fact",
            )
        case 2:
            numbers = rng.sample(range(10, 99), 4)
            rows = ", ".join(map(str, sorted(numbers))), ", ".join(map(str, sorted(numbers, reverse=True)))
            return f"Sort from small to large: {', '.join(map(str, numbers))}.", *rows, "wrong order"
        case _:
            thing = rng.choice(["kettle", "ladder", "lantern", "basket", "compass", "anchor"])
            good = f"A {thing} is a thing that people use, and I would keep mine in a dry place."
            return f"Write one sentence about a {thing}.", good, rng.choice(_OFF_TOPIC), "off the topic"


class People(Judging):
    """Pairs that people have judged: an export of the studio's blind pairs."""

    name = "judge-people"
    sentence = "The model's verdicts against people's, on pairs exported from the studio (--data FILE.jsonl)."
    metric = "agrees with people"

    def __init__(self, rows: Sequence[Trial] = ()) -> None:
        self.rows = list(rows)

    def mark(self, trial: Trial, answers: Sequence[Turns]) -> Mark:
        mark = super().mark(trial, answers)
        values = dict(mark.values)
        told = {self.metric: values.pop("agrees with the truth"), **values}
        return Mark(values=told, read=mark.read, note=mark.note.replace("the truth is", "people said"))


def judged_by_people(path: Path) -> list[Trial]:
    """Trials out of a file of exported judgements: pairs on which most annotators agree.

    Raises:
        HornbookError: the file cannot be read, or holds no pair with a majority.
    """
    found = [trial for number, row in _rows(path) if (trial := _as_trial(number, row)) is not None]
    if not found:
        raise HornbookError(
            f"{path} holds no pairs that people have judged. Export a queue of pairs in the studio "
            "(Annotate)."
        )
    return found


def _as_trial(number: int, row: Mapping[str, Any]) -> Trial | None:
    content = row.get("content", {})
    if not isinstance(content, dict) or not {"first", "second"} <= set(content):
        return None
    labels = [str(j.get("label")) for j in row.get("judgements", []) if isinstance(j, dict)]
    counts = Counter("tie" if label == "both bad" else label for label in labels).most_common(2)
    if not counts or (len(counts) > 1 and counts[0][1] == counts[1][1]):
        return None
    if counts[0][0] not in ("first", "second", "tie"):
        return None
    request = "\n".join(
        text for name, text in content.items() if name not in ("first", "second") and isinstance(text, str)
    )
    made = trial_of(request, str(content["first"]), str(content["second"]), truth=counts[0][0])
    name = sha256_of([number, made.openings, made.told])[:16]
    return Trial(id=name, openings=made.openings, told=made.told, group=str(row.get("queue", "")))


def _rows(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    try:
        for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
            if line.strip():
                row = json.loads(line)
                if not isinstance(row, dict):
                    raise HornbookError(f"{path}, line {number}: not a JSON object.")
                yield number, row
    except (OSError, ValueError) as error:
        raise HornbookError(f"The judgements {path} cannot be read: {error}") from None
