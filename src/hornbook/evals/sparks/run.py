"""Runs probes: conversations in step, graded offline, kept item by item; and the suite's test of itself."""

import base64
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from hornbook.errors import HornbookError
from hornbook.evals.asking import converses
from hornbook.evals.result import Result, both_sides, not_answered, score_of
from hornbook.evals.sample_store import SampleStore, run_key
from hornbook.evals.sparks import drawing, game, judging, making, numbers, people, tools, words
from hornbook.evals.sparks.canvas import pixels
from hornbook.evals.sparks.judging import judged_by_people
from hornbook.evals.sparks.probe import Mark, Probe, Trial, Turns, trials
from hornbook.lab.png import png
from hornbook.lm.base import Advances, Completion, Failure, LanguageModel, Message, Request, Sampling

PREFIX = "sparks-"
PROBES: Mapping[str, Probe] = {
    probe.name: probe
    for probe in (
        drawing.Animal(),
        drawing.Restore(),
        drawing.Layout(),
        drawing.Letters(),
        making.Code(),
        numbers.Execution(),
        making.Altered(),
        numbers.Polynomial(),
        tools.Tools(),
        tools.BrokenTools(),
        tools.Characters(),
        game.HouseMap(),
        game.Treasure(),
        game.Cooking(),
        people.FalseBelief(),
        people.Explanation(),
        people.PersonalData(),
        judging.Judging(),
        numbers.Primes(),
        numbers.SumDirect(),
        numbers.SumSteps(),
        numbers.Hanoi(),
        numbers.OneChange(),
        words.Acrostic(),
        words.Reversal(),
    )
}
"""In the order of the paper's sections."""

_AT_ONCE = 128
_PICTURES = 6
_LONGEST_ANSWER = 8_000
_MOST_TURNS = 60


@dataclass(frozen=True, kw_only=True)
class Line:
    """What has to be said next: a trial, which of its conversations, and the turns so far (ours first)."""

    trial: Trial
    conversation: int
    said: tuple[str, ...]


Actor = Callable[[Sequence[Line]], list[str | Failure]]
"""Says the next turn of every line; a language model, or a program of the suite's test of itself."""


def play(
    probe: Probe, asked: Sequence[Trial], actor: Actor
) -> list[tuple[list[tuple[str, ...]], Failure | None]]:
    """Every conversation of every trial to its end, all of them in step.

    Returns: for each trial the answers of its conversations, and the failure that ended it if one did.
    """
    said: dict[tuple[int, int], list[str]] = {
        (i, c): [opening] for i, trial in enumerate(asked) for c, opening in enumerate(trial.openings)
    }
    failed: dict[int, Failure] = {}
    waiting = list(said)
    while waiting:
        lines = [Line(trial=asked[i], conversation=c, said=tuple(said[i, c])) for i, c in waiting]
        following = []
        for (i, c), answer in zip(waiting, actor(lines), strict=True):
            if isinstance(answer, Failure):
                failed.setdefault(i, answer)
                continue
            said[i, c].append(answer[:_LONGEST_ANSWER])
            turns = said[i, c][1::2]
            reply = probe.reply(asked[i], c, turns) if len(turns) < _MOST_TURNS else None
            if reply is not None:
                said[i, c].append(reply)
                following.append((i, c))
        waiting = [place for place in following if place[0] not in failed]
    return [
        ([tuple(said[i, c][1::2]) for c in range(len(trial.openings))], failed.get(i))
        for i, trial in enumerate(asked)
    ]


def model_actor(
    model: LanguageModel, probe: Probe, *, chat: bool, max_tokens: int, progress: Advances | None = None
) -> Actor:
    """A language model in a probe: greedy, in turns where it can; else it goes on from the text so far."""
    sampling = Sampling(temperature=0.0, max_tokens=max_tokens)

    def answer(lines: Sequence[Line]) -> list[str | Failure]:
        requests = []
        for line in lines:
            if chat:
                turns = tuple(
                    Message("user" if i % 2 == 0 else "assistant", text or " ")
                    for i, text in enumerate(line.said)
                )
                requests.append(Request(messages=turns, sampling=sampling, tag=probe.name))
            else:
                requests.append(
                    Request(prompt="\n".join(line.said) + "\n", sampling=sampling, tag=probe.name)
                )
        first = all(len(line.said) == 1 for line in lines)
        results = model.complete(requests, progress=progress if first else None)
        return [result.text if isinstance(result, Completion) else result for result in results]

    return answer


def run_probe(
    probe: Probe,
    model: LanguageModel,
    *,
    items: int,
    seed: int | Sequence[int],
    max_tokens: int | None = None,
    store: SampleStore | None = None,
    progress: Advances | None = None,
    actor: Actor | None = None,
) -> Result:
    """Measures a model on one probe. What the store knows is not asked again; what failed is.

    Args:
        items: of each seed. max_tokens: of a turn at most; None: as the probe says.
        actor: who answers instead of the model, under the model's identity.

    Raises:
        HornbookError: none of the items was answered.
    """
    began = time.perf_counter()
    asked = items_of(probe, items, seed)
    most = min(probe.max_tokens, max_tokens or probe.max_tokens)
    chat = converses(model)
    told: dict[str, Any] = {
        "model": model.identity,
        "task": PREFIX + probe.name,
        "card": probe.fingerprint,
        "shots": 0,
        "chat": chat,
    }
    if most < probe.max_tokens:
        told["max_tokens"] = most
    run = store.begin(told) if store else ""
    known = store.known(run, [trial.id for trial in asked]) if store else {}
    todo = [trial for trial in asked if trial.id not in known]
    if progress is not None:
        progress.advance(sum(len(t.openings) for t in asked) - sum(len(t.openings) for t in todo))
    who = actor or model_actor(model, probe, chat=chat, max_tokens=most, progress=progress)
    failures: dict[str, Failure] = {}
    for begin in range(0, len(todo), _AT_ONCE):
        part = todo[begin : begin + _AT_ONCE]
        played = play(probe, part, who)
        failures |= {t.id: failure for t, (_, failure) in zip(part, played) if failure is not None}
        done = [(t, answers) for t, (answers, failure) in zip(part, played) if failure is None]
        marks = probe.mark_all([t for t, _ in done], [answers for _, answers in done])
        found = {t.id: _sample(t, answers, mark) for (t, answers), mark in zip(done, marks)}
        known.update(found)
        if store:
            store.put(run, found)
    have = [(trial, known[trial.id]) for trial in asked if trial.id in known]
    if not have:
        first = next(iter(failures.values()), None)
        why = f" ({first.kind}: {first.message})" if first else ""
        raise HornbookError(
            f"{model.identity} answered none of the {len(asked)} items of {PREFIX}{probe.name}{why}."
        )
    return _result(probe, have, failures, told, time.perf_counter() - began)


def items_of(probe: Probe, items: int, seed: int | Sequence[int]) -> list[Trial]:
    """What is asked: `items` variants of each seed; of what people judged, the first ones."""
    if isinstance(probe, judging.People):
        return probe.rows[:items]
    return [
        trial for one in ([seed] if isinstance(seed, int) else seed) for trial in trials(probe, items, one)
    ]


def _sample(trial: Trial, answers: Sequence[Turns], mark: Mark) -> dict[str, Any]:
    """What is kept of one item."""
    sample: dict[str, Any] = {
        "asked": "\n\n---\n\n".join(trial.openings)[-4_000:],
        "text": "\n\n---\n\n".join("\n>\n".join(turns) for turns in answers),
        "read": mark.read,
        "note": mark.note,
        "values": dict(mark.values),
        "reference": "",
    }
    if mark.picture is not None:
        sample["png"] = base64.b64encode(png(pixels(mark.picture))).decode()
    return sample


def _result(
    probe: Probe,
    have: Sequence[tuple[Trial, Mapping[str, Any]]],
    failures: Mapping[str, Failure],
    told: Mapping[str, Any],
    seconds: float,
) -> Result:
    names = list(dict.fromkeys(name for _, sample in have for name in sample["values"]))
    names.sort(key=lambda name: name != probe.metric)
    everywhere = [name for name in names if all(name in sample["values"] for _, sample in have)]
    outcomes = {name: [float(s["values"][name]) for _, s in have if name in s["values"]] for name in names}
    groups: dict[str, list[float]] = {}
    for trial, sample in have:
        if trial.group:
            groups.setdefault(trial.group, []).append(float(sample["values"].get(probe.metric, 0.0)))
    samples = tuple(
        {
            "request": sample["asked"],
            "answer": sample["text"],
            "right": sample["values"].get(probe.metric, 0.0) > 0.5,
            "note": sample["note"] or sample["read"],
            **({"png": sample["png"]} if "png" in sample else {}),
        }
        for _, sample in have
    )
    pictures = [{"item": trial.id, "png": s["png"], "note": s["note"]} for trial, s in have if "png" in s]
    details: dict[str, Any] = {
        **told,
        "run": run_key(told),
        "section": probe.section,
        "sentence": probe.sentence,
        "groups": {name: sum(values) / len(values) for name, values in sorted(groups.items())},
    }
    if pictures:
        details["pictures"] = pictures[:_PICTURES]
    unfinished = ""
    if failures:
        unfinished = not_answered(failures, len(failures) + len(have))
    return Result(
        task=PREFIX + probe.name,
        items=len(have),
        seconds=seconds,
        scores=tuple(score_of(name, outcomes[name]) for name in names),
        outcomes={name: outcomes[name] for name in everywhere},
        samples=both_sides(samples),
        details=details,
        unfinished=unfinished,
        ids=tuple(trial.id for trial, _ in have),
    )


def find_probe(name: str, data: Path | None = None) -> Probe:
    """A probe by its name, with or without "sparks-".

    Raises:
        HornbookError: there is none; or "judge-people" without the file of what people said.
    """
    short = name.removeprefix(PREFIX)
    if short == judging.People.name:
        if data is None or not data.is_file():
            raise HornbookError(
                f"{name} needs pairs that people have judged: --data FILE.jsonl, an export of the studio."
            )
        return judging.People(judged_by_people(data))
    if short not in PROBES:
        raise HornbookError(f"there is no probe {name!r}; probes: {', '.join(PROBES)}")
    return PROBES[short]


def program(kind: str, probe: Probe, seed: int) -> Actor:
    """A program that plays a probe: "reference" knows the answers, "null" knows nothing, "memorizer" gives
    the answers to one variant to all, "noisy:0.1" slips into them so often.

    Raises:
        HornbookError: another kind.
    """
    name, _, share = kind.partition(":")
    if name not in ("reference", "null", "memorizer", "noisy"):
        raise HornbookError(f"the program is {kind!r}; accepted: reference, null, memorizer, noisy:SHARE")
    first = trials(probe, 1, seed + 1)[0]
    slips = float(share or 0.1) if name == "noisy" else 0.0

    def answer(lines: Sequence[Line]) -> list[str | Failure]:
        found: list[str | Failure] = []
        for line in lines:
            turns = line.said[1::2]
            if name == "null":
                found.append("I do not know.")
                continue
            lost = Random(f"{seed} {line.trial.id} slips").random() < slips
            who = first if name == "memorizer" or lost else line.trial
            try:
                found.append(probe.solve(who, line.conversation, turns))
            except IndexError:  # the plan of another variant has come to its end
                found.append("I do not know.")
        return found

    return answer
