"""Pivotal token search: tokens drawn for each accepted pivot, beside the common way, on the same student.

    python bench/pivotal_tokens.py --home runs --out bench/results/pivotal-tokens.json

The common way estimates the chance of success behind a prefix from a fixed number of rollouts (ten is usual),
cuts a segment in the middle of its length where the two ends differ by the gap, and knows nothing else. Both
search the same answers of the same student to the same questions with the same verifier, and both are given
the filter's rollouts. Whether a token accepted by either is a pivot is told by rollouts that neither has seen
(`--truth` on each side). The common way is run with several numbers of rollouts, so that tokens a pivot can
be read off at equal precision. The student is the one that `hornbook run pivotal_tokens` raises (kept in
--home). Token counts do not depend on the machine's load. The last line is JSON.
"""

import argparse
import math
import pathlib
from itertools import pairwise
from statistics import fmean

from hornbook.align.pivotal import Pivot, SearchSettings, Walk
from hornbook.align.pivotal_search import Draw, ModelRoller, Searched, choose_questions, search_chosen
from hornbook.align.pivotal_steps import read_questions
from hornbook.infer.open import open_local
from hornbook.lab.run import Run
from hornbook.lm.base import Sampling
from hornbook.papers import pivotal_tokens as recipe
from interleaved import finish

GAP = 0.2
FRESH = 10_000_000
"""Numbers of the rollouts that tell the truth: no search draws them."""


class Counting:
    """A roller that counts the tokens it draws."""

    def __init__(self, roller, offset):
        self.roller, self.offset, self.tokens = roller, offset, 0

    def __call__(self, draws):
        moved = [Draw(d.question, d.prefix, d.first + self.offset, d.count) for d in draws]
        found = self.roller(moved)
        self.tokens += sum(len(r.tokens) - r.start for own in found for r in own)
        return found


def fixed_search(chosen, roll, count):
    """[(question, tokens, Pivot)]: `count` rollouts at every prefix tested, cut in the middle."""
    found = []
    chances, waiting = {}, []
    for searched in chosen:
        for walk in searched.walks:
            known = {0: searched.chance}
            if walk.right is not None:
                known[len(walk.tokens)] = float(walk.right)
            chances[id(walk)] = known
            waiting.append((searched.question, walk, 0, len(walk.tokens)))
    while waiting:
        wanted = {}
        for question, walk, *ends in waiting:
            for place in ends:
                if place not in chances[id(walk)]:
                    wanted[question, walk.tokens[:place]] = None
        draws = [Draw(question, prefix, 0, count) for question, prefix in wanted]
        shares = {
            (d.question, d.prefix): fmean(r.right for r in own)
            for d, own in zip(draws, roll(draws), strict=True)
        }
        coming = []
        for question, walk, start, end in waiting:
            known = chances[id(walk)]
            for place in (start, end):
                known.setdefault(place, shares.get((question, walk.tokens[:place])))
            if abs(known[end] - known[start]) < GAP:
                continue
            if end - start == 1:
                pivot = Pivot(
                    position=start, token=walk.tokens[start], before=known[start], after=known[end],
                    draws_after=count, draws_elsewhere=count,
                )  # fmt: skip
                found.append((question, walk.tokens, pivot))
                continue
            middle = (start + end) // 2
            coming += [(question, walk, start, middle), (question, walk, middle, end)]
        waiting = coming
    return found


def our_search(chosen, roll, settings, filtered):
    """The same for the search of the recipe; it may count the filter's rollouts wherever they pass."""
    fresh = []
    for searched in chosen:
        walks = []
        for number, walk in enumerate(searched.walks):
            own = Walk(tokens=walk.tokens, logprobs=walk.logprobs, right=walk.right, settings=settings)
            for other, rollout in enumerate(searched.rollouts[:filtered]):
                if other != number:
                    own.add(0, rollout.tokens, rollout.right)
            walks.append(own)
        fresh.append(Searched(question=searched.question, rollouts=searched.rollouts[:filtered], walks=walks))
    search_chosen(fresh, roll, filter_rollouts=filtered)
    return [(s.question, walk.tokens, p) for s in fresh for walk in s.walks for p in walk.pivots]


class Truth:
    """The change of a token by fresh rollouts on both sides, each prefix once."""

    def __init__(self, roller, count):
        self.roller, self.count, self.known = roller, count, {}

    def changes(self, found):
        places = {
            (question, tokens[:end]): None
            for question, tokens, pivot in found
            for end in (pivot.position, pivot.position + 1)
        }
        missing = [place for place in places if place not in self.known]
        drawn = self.roller([Draw(question, prefix, FRESH, self.count) for question, prefix in missing])
        for place, rollouts in zip(missing, drawn, strict=True):
            self.known[place] = fmean(rollout.right for rollout in rollouts)
        return [
            self.known[question, tokens[: pivot.position + 1]]
            - self.known[question, tokens[: pivot.position]]
            for question, tokens, pivot in found
        ]


def at_precision(rows, precision):
    """Tokens a pivot of the common way at a precision: between its rows, on a logarithmic scale.

    Above its best row that row's tokens (a bound from below), below its worst that one's."""
    rows = sorted(rows, key=lambda row: row["precision"])
    if precision >= rows[-1]["precision"]:
        return rows[-1]["tokens_per_pivot"], precision > rows[-1]["precision"]
    for low, high in pairwise(rows):
        if low["precision"] <= precision <= high["precision"]:
            width = high["precision"] - low["precision"]
            share = (precision - low["precision"]) / width if width else 0.0
            logs = [math.log(row["tokens_per_pivot"]) for row in (low, high)]
            return math.exp(logs[0] + share * (logs[1] - logs[0])), False
    return rows[0]["tokens_per_pivot"], False


def measured(name, found, tokens, filter_tokens, truth):
    changes = truth.changes(found)
    held = sum(abs(change) >= GAP for change in changes)
    row = {
        "search": name,
        "accepted": len(found),
        "precision": held / max(1, len(found)),
        "tokens": tokens,
        "tokens_per_pivot": tokens / max(1, len(found)),
        "with_filter_per_pivot": (tokens + filter_tokens) / max(1, len(found)),
    }
    print(row, flush=True)
    return row


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--home", type=pathlib.Path, default=pathlib.Path("runs"), help="folder of runs")
    parser.add_argument("--student", default="", help="a checkpoint; without it the recipe's is raised")
    parser.add_argument("--questions", type=int, default=200)
    parser.add_argument("--answers", type=int, default=2)
    parser.add_argument("--max-tokens", type=int, default=64)
    parser.add_argument("--truth", type=int, default=256, help="fresh rollouts on each side of each pivot")
    parser.add_argument("--fixed", type=int, nargs="+", default=[10, 20, 40, 80, 160])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=pathlib.Path)
    given = parser.parse_args()
    settings = recipe.SCALES["quick"]
    run = Run(given.home, recipe="pivotal_tokens-bench", scale="quick", settings=settings, quiet=True)
    sums, _ = recipe.questions_of(run, settings)
    model = given.student or recipe.students_of(run, settings, sums)[settings.seeds[0]]
    requests, verifier = read_questions(sums, "sum", given.questions, given.seed)
    sampling = Sampling(temperature=1.0, max_tokens=given.max_tokens, seed=given.seed)
    roller = ModelRoller(open_local(model, weights="fp32"), requests, verifier, sampling)
    filtered = 16
    chosen, filtering = choose_questions(
        given.questions, roller, roller.logprobs, stops=roller.stops, settings=SearchSettings(gap=GAP),
        filter_rollouts=filtered, answers=given.answers,
    )  # fmt: skip
    filter_tokens = filtering.tokens
    truth = Truth(roller, given.truth)
    common, ours = [], []
    for number, count in enumerate(given.fixed, 1):
        roll = Counting(roller, 100_000 * number)
        found = fixed_search(chosen, roll, count)
        common.append(measured(f"fixed, {count}", found, roll.tokens, filter_tokens, truth))
    for number, (error, split, first, most) in enumerate(
        ((0.05, 0.5, 8, 64), (0.2, 0.5, 8, 64), (0.5, 0.9, 4, 32)), 50
    ):
        how = SearchSettings(gap=GAP, error=error, split_error=split, first=first, most=most)
        roll = Counting(roller, 100_000 * number)
        found = our_search(chosen, roll, how, filtered)
        name = f"sequential, error {error}, split {split}, {first} to {most}"
        row = measured(name, found, roll.tokens, filter_tokens, truth)
        tokens, bound = at_precision(common, row["precision"])
        row["fewer_at_equal_precision"] = tokens / row["tokens_per_pivot"]
        row["is_lower_bound"] = bound
        ours.append(row)
    finish(
        "pivotal_tokens",
        argparse.Namespace(**{k: str(v) if isinstance(v, pathlib.Path) else v for k, v in vars(given).items()
                              if k != "out"}, out=given.out),
        {"searched_questions": len(chosen), "filter_tokens": filter_tokens, "common": common, "ours": ours,
         "fewer_with_the_recipes_settings": ours[0]["fewer_at_equal_precision"]},
    )  # fmt: skip


if __name__ == "__main__":
    main()
