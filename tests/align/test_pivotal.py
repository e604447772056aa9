"""Pivotal token search: against a policy whose chances are known exactly, and against the laws it rests
on."""

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
from small_students import context, tiny_student

from hornbook.align.known_policy import STOP, KnownPolicy, KnownRoller
from hornbook.align.pivotal import SearchSettings, Tally, Walk, certainty
from hornbook.align.pivotal_search import (
    Draw,
    ModelRoller,
    Rollout,
    RolloutStore,
    Searched,
    coloured,
    pivot_rows,
    search_pivots,
)
from hornbook.data.tokenizer import Tokenizer
from hornbook.errors import HornbookError
from hornbook.infer.language_model import LocalModel
from hornbook.lm.base import Sampling

STOPS = frozenset({STOP})


def policy(length: int = 4) -> KnownPolicy:
    return KnownPolicy.draw(5, length=length, choices=0.6)


def test_known_chances_are_those_of_all_answers_written_out() -> None:
    own = policy()
    for prefix in ((), (2,), (0, 1), (1, 2, 3)):
        total = 0.0
        for rest in itertools.product(range(4), repeat=4 - len(prefix)):
            answer = (*prefix, *rest)
            weight = math.exp(sum(own.logprobs(answer)[len(prefix) :]))
            total += weight * own.chances(answer)[-1]
        assert own.chances(prefix)[-1] == pytest.approx(total)


def test_rollouts_of_the_known_policy_succeed_as_often_as_it_says() -> None:
    own = KnownPolicy.draw(7, length=20)
    [rollouts] = KnownRoller([own])([Draw(0, (1, 2), 0, 4000)])
    share = np.mean([rollout.right for rollout in rollouts])
    expected = own.chances((1, 2))[-1]
    assert abs(share - expected) < 5 * math.sqrt(expected * (1 - expected) / 4000) + 1e-9
    assert all(rollout.right == (own.chances(rollout.tokens)[-1] == 1.0) for rollout in rollouts[:200])


def test_the_bound_is_the_law_of_total_probability() -> None:
    """No token of probability above 1 - gap moves the chance by gap: over every prefix of many policies."""
    checked = 0
    for seed in range(20):
        own = KnownPolicy.draw(seed, length=30)
        [rollouts] = KnownRoller([own], seed)([Draw(0, (), 0, 5)])
        for rollout in rollouts:
            steps = np.abs(np.diff(own.chances(rollout.tokens)))
            left = 1 - np.exp(own.logprobs(rollout.tokens))
            assert (steps <= left + 1e-12).all()
            checked += len(steps)
    assert checked > 2000


def test_strata_give_the_change_over_a_segment() -> None:
    own = KnownPolicy.draw(3, length=12, choices=0.5)
    [answer] = KnownRoller([own], 1)([Draw(0, (), 0, 1)])[0]
    walk = Walk(tokens=answer.tokens, logprobs=own.logprobs(answer.tokens), right=answer.right)
    for rollout in KnownRoller([own], 2)([Draw(0, (), 0, 4000)])[0]:
        walk.add(0, rollout.tokens, rollout.right)
    chances = own.chances(answer.tokens)
    assert walk.change(0, 3) == pytest.approx(chances[3] - chances[0], abs=0.06)
    assert walk.behind(2).chance == pytest.approx(chances[2], abs=0.06)
    for start, end in ((0, 3), (1, 2)):  # together they are all that passed the start
        assert walk.elsewhere(start, end).total + walk.behind(end).total == walk.behind(start).total


def test_certainty_grows_with_draws_and_small_samples_do_not_boast() -> None:
    def sure(k: int, n: int, m: int) -> float:
        return certainty(Tally(k, n), Tally(m, n), 0.2)

    assert sure(0, 40, 40) > sure(0, 10, 10) > sure(0, 4, 4) > 0
    assert sure(20, 40, 20) < sure(10, 20, 10) < 0
    assert certainty(Tally(1, 8), Tally(known=1.0), 0.2) > 2 > certainty(Tally(7, 8), Tally(known=1.0), 0.2)
    # Two samples at the worst truth, exactly gap apart: how often the test errs at 5 %, by enumeration.
    n, worst = 8, 0.0
    table = [[certainty(Tally(i, n), Tally(j, n), 0.2) >= 1.645 for j in range(n + 1)] for i in range(n + 1)]
    for low in np.linspace(0.0, 0.8, 41):
        pa, pb = (
            np.array([math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(n + 1)])
            for p in (low, low + 0.2)
        )
        worst = max(worst, float(pa @ np.array(table, float) @ pb))
    assert 0.005 < worst < 0.05


def found_by(settings: SearchSettings, seed: int = 0, questions: int = 20):
    policies = [KnownPolicy.draw(100 + n) for n in range(questions)]
    chosen, spent = search_pivots(
        questions,
        KnownRoller(policies, seed),
        lambda question, tokens: policies[question].logprobs(tokens),
        stops=STOPS,
        settings=settings,
        answers=2,
    )
    accepted, right = 0, 0
    for searched in chosen:
        for walk in searched.walks:
            steps = np.abs(np.diff(policies[searched.question].chances(walk.tokens)))
            accepted += len(walk.pivots)
            right += sum(steps[pivot.position] >= settings.gap for pivot in walk.pivots)
            for pivot in walk.pivots:
                assert pivot.token == walk.tokens[pivot.position]
    return chosen, spent, accepted, right


def test_what_is_called_pivotal_is_pivotal() -> None:
    chosen, spent, accepted, right = found_by(SearchSettings(error=0.05))
    assert accepted >= 3
    assert right >= 0.8 * accepted
    assert all(0.2 <= searched.chance <= 0.8 or len(searched.rollouts) > 16 for searched in chosen)
    assert spent.tokens > spent.rollouts > 0


def test_segments_cover_every_answer_once() -> None:
    chosen, *_ = found_by(SearchSettings(), questions=8)
    for searched in chosen:
        for walk in searched.walks:
            places = [place for segment in walk.segments for place in range(segment.start, segment.end)]
            assert places == list(range(len(walk.tokens)))
            values = coloured(walk, str)
            assert [text for text, _ in values] == [str(token) for token in walk.tokens]
            for segment in walk.segments:
                if segment.change is None:  # the bound: no token inside can be pivotal
                    assert all(walk.logprobs[i] > math.log(0.8) for i in range(segment.start, segment.end))


def test_the_cut_is_at_half_of_the_log_probability() -> None:
    walk = Walk(tokens=(1, 2, 3, 4), logprobs=[-0.1, -0.1, -2.0, -0.1], right=True)
    assert walk._cut(0, 4) in (2, 3)
    even = Walk(tokens=(1, 2, 3, 4), logprobs=[-1.0, -0.1, -0.1, -0.9], right=True)
    assert even._cut(0, 4) == 1 or even._cut(0, 4) == 2
    assert even._cut(0, 2) == 1
    first = Walk(tokens=(1, 2, 3), logprobs=[-5.0, -0.1, -0.1], right=True)
    assert first._cut(0, 3) == 1
    length = Walk(
        tokens=(1, 2, 3, 4), logprobs=[-5.0, 0, 0, 0], right=True, settings=SearchSettings(midpoint="length")
    )
    assert length._cut(0, 4) == 2


def test_an_interrupted_search_draws_no_rollout_twice_and_finds_the_same(tmp_path: Path) -> None:
    policies = [KnownPolicy.draw(100 + n, length=30) for n in range(4)]

    class Counting(KnownRoller):
        calls = 0
        limit = 10**9

        def __call__(self, draws):  # type: ignore[no-untyped-def]
            self.calls += 1
            if self.calls > self.limit:
                raise KeyboardInterrupt
            return super().__call__(draws)

    def search(roller: KnownRoller, store: RolloutStore | None):  # type: ignore[no-untyped-def]
        return search_pivots(
            4, roller, lambda q, t: policies[q].logprobs(t), stops=STOPS, store=store, keep=(0.05, 0.95)
        )

    whole = search(Counting(policies), None)
    stopped = Counting(policies)
    stopped.limit = 3
    path = tmp_path / "rollouts.jsonl"
    with pytest.raises(KeyboardInterrupt):
        search(stopped, RolloutStore(path, "a"))
    with path.open("a") as file:
        file.write('{"question": 0, "start"')  # torn by the crash
    resumed, again = Counting(policies), RolloutStore(path, "a")
    second = search(resumed, again)
    assert second[1] == whole[1]
    assert [[w.pivots for w in s.walks] for s in second[0]] == [[w.pivots for w in s.walks] for s in whole[0]]
    assert again.served > 0
    third = Counting(policies)
    search(third, RolloutStore(path, "a"))
    assert third.calls == 0
    with pytest.raises(HornbookError, match="another model"):
        RolloutStore(path, "b")


def test_pairs_take_the_pivot_and_what_went_the_other_way() -> None:
    from hornbook.align.pivotal import Pivot

    walk = Walk(tokens=(7, 8, STOP), logprobs=[-1.0, -1.0, 0.0], right=True)
    walk.pivots = [
        Pivot(position=1, token=8, before=0.5, after=0.9, draws_after=4, draws_elsewhere=6),
        Pivot(position=0, token=7, before=0.6, after=0.3, draws_after=4, draws_elsewhere=6),
    ]
    rollouts = [Rollout(0, (7, 9, STOP), right) for right in (True, False, False, False)]
    rollouts += [Rollout(1, (7, 5, STOP), False)] * 2 + [Rollout(0, (6, 1, STOP), True)] * 3
    rows = pivot_rows(Searched(question=3, rollouts=rollouts, walks=[walk]), gap=0.2)
    assert [(row["prefix"], row["chosen"], row["rejected"]) for row in rows] == [([7], 8, 9), ([], 6, 7)]
    assert rows[0]["rejected_chance"] == 0.25  # 5 was seen too seldom to be trusted
    assert not pivot_rows(Searched(question=3, rollouts=rollouts, walks=[walk]), gap=0.75)


def test_settings_that_cannot_be() -> None:
    for wrong, message in (
        ({"gap": 0.0}, "gap"),
        ({"error": 1.0}, "error"),
        ({"first": 9, "most": 8}, "first <= most"),
        ({"midpoint": "middle"}, "accepted: probability, length"),
    ):
        with pytest.raises(HornbookError, match=message):
            SearchSettings(**wrong)  # type: ignore[arg-type]
    assert SearchSettings(first=8, most=64).looks == 4
    with pytest.raises(HornbookError, match="cannot be searched"):
        Walk(tokens=(), logprobs=[], right=None)


def test_a_models_rollouts_go_on_from_token_ids(tokenizer: Tokenizer, tmp_path: Path) -> None:
    model = LocalModel(tiny_student(tokenizer), tokenizer, name="tiny", weights="fp32")
    judged: list[str] = []

    def verify(answers):  # type: ignore[no-untyped-def]
        judged.extend(text for _, text in answers)
        return [len(text) % 2 == 0 for _, text in answers]

    roller = ModelRoller(model, ["one?", "two?"], verify, Sampling(max_tokens=12, seed=3))
    [first] = roller([Draw(0, (), 0, 3)])
    prefix = first[0].tokens[:5]
    [again, more] = roller([Draw(0, prefix, 0, 4), Draw(1, (), 0, 4)])
    assert all(rollout.tokens[:5] == prefix and rollout.start == 5 for rollout in again)
    assert all(len(rollout.tokens) <= 13 for rollout in [*again, *more])
    assert roller([Draw(0, prefix, 2, 2)])[0] == again[2:]  # by number, whatever is drawn beside it
    assert len(judged) == len(set(judged)) or len(judged) <= 11
    logs = roller.logprobs(0, prefix)
    scored = model.engine.score([roller.prompts[0]], [[list(prefix)]])[0][0]
    assert logs == pytest.approx(scored.token_logprobs, abs=1e-4)
    ended = next((r for r in [*first, *again] if r.tokens[-1] in roller.stops), None)
    if ended is not None:
        [same] = roller([Draw(0, ended.tokens, 0, 2)])
        assert [r.tokens for r in same] == [ended.tokens] * 2
    assert json.loads(json.dumps(context(tmp_path / "x").folder.name)) == "x"
