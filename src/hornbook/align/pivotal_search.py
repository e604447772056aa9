"""Pivotal token search on a model: questions filtered, answers searched together, every rollout kept.

All searches go on in step: what they want next is drawn in one stream of batches by the engine, which reads
each prefix once for all its rollouts. Prefixes are token ids, never text that is tokenised anew.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hornbook.align.pivotal import SearchSettings, Walk
from hornbook.errors import HornbookError
from hornbook.lab.files import disk_guard
from hornbook.lm.base import Advances, Sampling

if TYPE_CHECKING:
    from hornbook.infer.language_model import LocalModel

Verifier = Callable[[Sequence[tuple[int, str]]], Sequence[bool]]
"""Says of each (number of the question, text of the whole answer) whether it is right."""


@dataclass(frozen=True, slots=True)
class Rollout:
    """A whole answer: token ids (with the stop token where it ended by itself), drawn behind the first
    `start`."""

    start: int
    tokens: tuple[int, ...]
    right: bool


@dataclass(frozen=True, slots=True)
class Draw:
    """Rollouts wanted: of a question, behind a prefix of its answer, those numbered `first` up to `first +
    count`."""

    question: int
    prefix: tuple[int, ...]
    first: int
    count: int


Roller = Callable[[Sequence[Draw]], list[list[Rollout]]]
"""Draws rollouts, as many for each `Draw` as it says."""


class RolloutStore:
    """Every rollout as a line of a JSON-lines file; a search that is run again is served from it.

    Raises:
        HornbookError: the file holds rollouts of another model, sampling or list of questions.
    """

    def __init__(self, path: Path, identity: str) -> None:
        self.path = path
        self._found: dict[tuple[int, tuple[int, ...]], dict[int, Rollout]] = {}
        self.served = 0
        whole = []
        if path.is_file():
            for line in path.read_text(encoding="utf-8").split("\n"):
                try:
                    row = json.loads(line)
                except ValueError:
                    continue  # torn by a crash
                whole.append(line + "\n")
                if "identity" in row:
                    if row["identity"] != identity:
                        raise HornbookError(
                            f"{path} holds rollouts of another model, sampling or questions. Search into a "
                            f"new "
                            "folder, or delete it."
                        )
                    continue
                rollout = Rollout(row["start"], tuple(row["tokens"]), row["right"])
                key = (row["question"], rollout.tokens[: rollout.start])
                self._found.setdefault(key, {})[row["number"]] = rollout
        if not whole:
            whole = [json.dumps({"identity": identity}) + "\n"]
        with disk_guard(path.parent):
            path.write_text("".join(whole), encoding="utf-8")

    def known(self, draw: Draw) -> dict[int, Rollout]:
        """Those of a draw that are there, by number."""
        own = self._found.get((draw.question, draw.prefix), {})
        return {n: own[n] for n in range(draw.first, draw.first + draw.count) if n in own}

    def add(self, found: Sequence[tuple[Draw, Sequence[Rollout]]]) -> None:
        """Keeps rollouts of draws, numbered from `first`."""
        lines = []
        for draw, rollouts in found:
            own = self._found.setdefault((draw.question, draw.prefix), {})
            for number, rollout in enumerate(rollouts, draw.first):
                own[number] = rollout
                row = {
                    "question": draw.question,
                    "start": rollout.start,
                    "number": number,
                    "tokens": list(rollout.tokens),
                    "right": rollout.right,
                }
                lines.append(json.dumps(row) + "\n")
        with disk_guard(self.path.parent), self.path.open("a", encoding="utf-8") as file:
            file.writelines(lines)


@dataclass(kw_only=True)
class Searched:
    """One question: all its rollouts (those of the filter first), their chance at the start, the answers
    searched."""

    question: int
    rollouts: list[Rollout] = field(default_factory=list)
    walks: list[Walk] = field(default_factory=list)

    @property
    def chance(self) -> float:
        """Share of right answers among those drawn from the start."""
        whole = [rollout.right for rollout in self.rollouts if rollout.start == 0]
        return sum(whole) / max(1, len(whole))


@dataclass(frozen=True, kw_only=True)
class Spent:
    """What a search took: rollouts, and tokens drawn in them (prefixes, which are only read, not counted)."""

    rollouts: int
    tokens: int


def search_pivots(
    questions: int,
    roll: Roller,
    logprobs: Callable[[int, Sequence[int]], Sequence[float]],
    *,
    stops: frozenset[int],
    settings: SearchSettings | None = None,
    filter_rollouts: int = 16,
    keep: tuple[float, float] = (0.2, 0.8),
    answers: int = 1,
    store: RolloutStore | None = None,
    progress: Advances | None = None,
) -> tuple[list[Searched], Spent]:
    """Searches answers to `questions` questions for pivotal tokens.

    Args:
        roll: draws rollouts. logprobs: of an answer's tokens, under the distribution that `roll` draws from.
        stops: ids that end an answer.
        filter_rollouts, keep: answers drawn to each question; only questions whose share of right ones lies
            in `keep` are searched (pivots are rare elsewhere).
        answers: how many of those answers are searched: the first ones, whatever they came to, since choosing
            by outcome would bias the chances that the others estimate. An answer is no evidence in its own
            search.
        store: keeps every rollout; what it holds is not drawn again.
        progress: counts finished questions.
    """
    settings = settings or SearchSettings()
    chosen, filtering = choose_questions(
        questions,
        roll,
        logprobs,
        stops=stops,
        settings=settings,
        filter_rollouts=filter_rollouts,
        keep=keep,
        answers=answers,
        store=store,
        progress=progress,
    )
    searching = search_chosen(chosen, roll, filter_rollouts=filter_rollouts, store=store, progress=progress)
    return chosen, Spent(
        rollouts=filtering.rollouts + searching.rollouts, tokens=filtering.tokens + searching.tokens
    )


def choose_questions(
    questions: int,
    roll: Roller,
    logprobs: Callable[[int, Sequence[int]], Sequence[float]],
    *,
    stops: frozenset[int],
    settings: SearchSettings,
    filter_rollouts: int = 16,
    keep: tuple[float, float] = (0.2, 0.8),
    answers: int = 1,
    store: RolloutStore | None = None,
    progress: Advances | None = None,
) -> tuple[list[Searched], Spent]:
    """The first half of `search_pivots`: the questions that are worth it, with the answers to search.

    `progress` counts the questions left out.
    """
    if not 1 <= answers <= filter_rollouts:
        raise HornbookError(f"answers is {answers}; accepted is 1 up to filter_rollouts ({filter_rollouts}).")
    counter = _Counter()
    drawn = _drawing(
        [Draw(question, (), 0, filter_rollouts) for question in range(questions)], roll, store, counter
    )
    chosen: list[Searched] = []
    for question, rollouts in enumerate(drawn):
        share = sum(rollout.right for rollout in rollouts) / filter_rollouts
        if not keep[0] <= share <= keep[1]:
            if progress is not None:
                progress.advance(1)
            continue
        searched = Searched(question=question, rollouts=list(rollouts))
        for number in range(answers):
            own = rollouts[number]
            if not own.tokens:
                continue
            walk = Walk(
                tokens=own.tokens,
                logprobs=logprobs(question, own.tokens),
                right=own.right if own.tokens[-1] in stops else None,
                settings=settings,
            )
            for other, rollout in enumerate(rollouts):
                if other != number:
                    walk.add(0, rollout.tokens, rollout.right)
            searched.walks.append(walk)
        chosen.append(searched)
    return chosen, counter.spent()


def search_chosen(
    chosen: Sequence[Searched],
    roll: Roller,
    *,
    filter_rollouts: int = 16,
    store: RolloutStore | None = None,
    progress: Advances | None = None,
) -> Spent:
    """The second half: draws what all searches want, wave by wave, until none wants anything."""
    counter = _Counter()
    live = {
        (s, w): walk.search() for s, searched in enumerate(chosen) for w, walk in enumerate(searched.walks)
    }
    next_number: dict[tuple[int, tuple[int, ...]], int] = {
        (searched.question, ()): filter_rollouts for searched in chosen
    }
    left = [len(searched.walks) for searched in chosen]
    while live:
        wanted: dict[tuple[int, tuple[int, ...]], int] = {}
        for (s, w), steps in list(live.items()):
            try:
                places = next(steps)
            except StopIteration:
                del live[s, w]
                left[s] -= 1
                if left[s] == 0 and progress is not None:
                    progress.advance(1)
                continue
            for place, count in places:
                prefix = chosen[s].walks[w].tokens[:place]
                wanted[s, prefix] = max(wanted.get((s, prefix), 0), count)
        draws = []
        for (s, prefix), count in wanted.items():
            key = (chosen[s].question, prefix)
            first = next_number.get(key, 0)
            next_number[key] = first + count
            draws.append(Draw(chosen[s].question, prefix, first, count))
        for (s, prefix), rollouts in zip(wanted, _drawing(draws, roll, store, counter), strict=True):
            for rollout in rollouts:
                chosen[s].rollouts.append(rollout)
                for walk in chosen[s].walks:
                    walk.add(len(prefix), rollout.tokens, rollout.right)
    return counter.spent()


@dataclass
class _Counter:
    rollouts: int = 0
    tokens: int = 0

    def spent(self) -> Spent:
        return Spent(rollouts=self.rollouts, tokens=self.tokens)


def _drawing(
    draws: Sequence[Draw], roll: Roller, store: RolloutStore | None, counter: _Counter
) -> list[list[Rollout]]:
    """Rollouts of every draw, from the store where it has them all."""
    found: list[list[Rollout] | None] = [None] * len(draws)
    if store is not None:
        for n, draw in enumerate(draws):
            known = store.known(draw)
            if len(known) == draw.count:
                found[n] = [known[i] for i in range(draw.first, draw.first + draw.count)]
                store.served += draw.count
    missing = [n for n, rollouts in enumerate(found) if rollouts is None]
    if missing:
        made = roll([draws[n] for n in missing])
        for n, rollouts in zip(missing, made, strict=True):
            found[n] = rollouts
        if store is not None:
            store.add([(draws[n], rollouts) for n, rollouts in zip(missing, made, strict=True)])
    whole = [rollouts for rollouts in found if rollouts is not None]
    for rollouts in whole:
        counter.rollouts += len(rollouts)
        counter.tokens += sum(len(rollout.tokens) - rollout.start for rollout in rollouts)
    return whole


class ModelRoller:
    """Rollouts of a model on this machine, verified as they come. `requests` are user messages.

    Raises:
        HornbookError: a request that leaves no room for an answer.
    """

    def __init__(
        self, model: "LocalModel", requests: Sequence[str], verify: Verifier, sampling: Sampling
    ) -> None:
        if sampling.top_k or sampling.top_p < 1 or sampling.min_p or sampling.temperature != 1:
            raise HornbookError(
                "Pivotal tokens are searched with plain sampling (temperature 1, no top_k, top_p or min_p): "
                "anything "
                "else changes the probabilities that the search reckons with."
            )
        self.model, self.verify, self.sampling = model, verify, sampling
        self.requests = list(requests)
        self.prompts = [model.chat.encode([{"role": "user", "content": text}]) for text in requests]
        self._verdicts: dict[tuple[int, str], bool] = {}

    @property
    def stops(self) -> frozenset[int]:
        """Ids that end an answer."""
        return self.model.engine.stop_tokens

    def __call__(self, draws: Sequence[Draw]) -> list[list[Rollout]]:
        from dataclasses import replace

        found: list[list[tuple[int, ...]]] = [[] for _ in draws]
        finished = {n for n, draw in enumerate(draws) if draw.prefix and draw.prefix[-1] in self.stops}
        by_size: dict[int, list[int]] = {}
        for n, draw in enumerate(draws):
            if n in finished or len(draw.prefix) >= self.sampling.max_tokens:
                found[n] = [draw.prefix] * draw.count
            else:
                by_size.setdefault(draw.count, []).append(n)
        for size, numbers in by_size.items():
            made = self.model.engine.generate(
                [[*self.prompts[draws[n].question], *draws[n].prefix] for n in numbers],
                [
                    replace(self.sampling, max_tokens=self.sampling.max_tokens - len(draws[n].prefix))
                    for n in numbers
                ],
                size,
                numbers=[range(draws[n].first, draws[n].first + size) for n in numbers],
            )
            for n, generations in zip(numbers, made, strict=True):
                for generation in generations:
                    stop = (generation.stopped_by,) if isinstance(generation.stopped_by, int) else ()
                    found[n].append((*draws[n].prefix, *generation.tokens, *stop))
        self._judge(
            [(draw.question, tokens) for draw, own in zip(draws, found, strict=True) for tokens in own]
        )
        return [
            [
                Rollout(len(draw.prefix), tokens, self._verdicts[draw.question, self.text(tokens)])
                for tokens in own
            ]
            for draw, own in zip(draws, found, strict=True)
        ]

    def text(self, tokens: Sequence[int]) -> str:
        """The answer's words."""
        return self.model.tokenizer.decode(token for token in tokens if token not in self.stops)

    def _judge(self, answers: Sequence[tuple[int, tuple[int, ...]]]) -> None:
        """Verdicts on answers not seen before."""
        keys = dict.fromkeys((question, self.text(tokens)) for question, tokens in answers)
        fresh = [key for key in keys if key not in self._verdicts]
        if fresh:
            self._verdicts.update(zip(fresh, self.verify(fresh), strict=True))

    def logprobs(self, question: int, tokens: Sequence[int]) -> list[float]:
        """Of an answer's tokens, as the model draws them."""
        [[score]] = self.model.engine.score([self.prompts[question]], [[list(tokens)]])
        return list(score.token_logprobs)


def coloured(walk: Walk, decode: Callable[[int], str]) -> list[tuple[str, float | None]]:
    """The answer token by token with what each did to the chance of success, for a report's `tokens`.

    A segment that was not cut further gives its change to its last token; where the bound said enough, None.
    """
    values: list[float | None] = [None] * len(walk.tokens)
    for segment in walk.segments:
        if segment.change is not None:
            values[segment.end - 1] = segment.change
    return [(decode(token), value) for token, value in zip(walk.tokens, values, strict=True)]


def pivot_rows(searched: Searched, *, gap: float, least: int = 3) -> list[Mapping[str, Any]]:
    """Pairs of single tokens behind the prefix of each pivot: {question, prefix, chosen, rejected, chances}.

    One side is the pivot, the other the token that rollouts went on with there to the opposite effect: of
    those seen `least` times or more, the one whose share of right answers is farthest to the other side, at
    least `gap` away.
    """
    rows: list[Mapping[str, Any]] = []
    seen: set[tuple[tuple[int, ...], int, int]] = set()
    for walk in searched.walks:
        for pivot in walk.pivots:
            prefix = walk.tokens[: pivot.position]
            counts: dict[int, list[int]] = {}
            for rollout in searched.rollouts:
                if (
                    rollout.start <= len(prefix) < len(rollout.tokens)
                    and rollout.tokens[: len(prefix)] == prefix
                ):
                    own = counts.setdefault(rollout.tokens[len(prefix)], [0, 0])
                    own[0] += rollout.right
                    own[1] += 1
            others = {
                token: right / total
                for token, (right, total) in counts.items()
                if token != pivot.token and total >= least
            }
            if not others:
                continue
            up = pivot.change > 0
            other = min(others, key=lambda t: others[t]) if up else max(others, key=lambda t: others[t])
            if abs(others[other] - pivot.after) < gap:
                continue
            chosen, rejected = (pivot.token, other) if up else (other, pivot.token)
            if (prefix, chosen, rejected) in seen:
                continue
            seen.add((prefix, chosen, rejected))
            rows.append(
                {
                    "question": searched.question,
                    "prefix": list(prefix),
                    "chosen": chosen,
                    "rejected": rejected,
                    "before": pivot.before,
                    "chosen_chance": pivot.after if up else others[other],
                    "rejected_chance": others[other] if up else pivot.after,
                }
            )
    return rows
