"""ConceptMix: the sampler's rules by brute force, scores by closed form, corrections by simulation."""

import itertools
import math
from collections import Counter
from random import Random

import numpy as np
import pytest

from hornbook.errors import HornbookError
from hornbook.evals.concept_mix.protocol import (
    CATEGORIES,
    OF_OBJECTS,
    PAPER,
    Plan,
    Relation,
    Thing,
    Vocabulary,
    categories_of,
    contradicts,
    draw_categories,
    draw_plan,
    draw_plans,
    fill,
)
from hornbook.evals.concept_mix.score import Marked, expected_full, judge_errors, score
from hornbook.evals.concept_mix.words import caption, plural, questions
from hornbook.evals.concept_mix.world import WORLD, answers, brief, draw_scenes, place
from hornbook.evals.judges import Rate, correct
from hornbook.evals.prediction_powered import prediction_powered
from hornbook.synth.scenes import Look, Scene, paint, see

# ------------------------------------------------------------------ the sampler


def exact_categories(objects: int, others: int) -> dict[tuple[str, ...], float]:
    """The law of the categories drawn, by writing down every draw and throwing away what the rules forbid."""
    kept = [
        tuple(sorted(draw))
        for draw in itertools.product(CATEGORIES[1:], repeat=others)
        if all(draw.count(c) <= objects for c in draw) and draw.count("style") <= 1
    ]
    return {multiset: count / len(kept) for multiset, count in Counter(kept).items()}


def test_the_draw_of_categories_has_the_law_of_the_rules() -> None:
    k, draws, random = 3, 40_000, Random(0)
    seen = Counter()
    for _ in range(draws):
        objects, drawn = draw_categories(k, random)
        seen[objects, tuple(sorted(drawn))] += 1
    expected = {}
    for objects in range(1, k + 2):
        share = math.comb(k, objects - 1) * 0.25 ** (objects - 1) * 0.75 ** (k + 1 - objects)
        for multiset, chance in exact_categories(objects, k + 1 - objects).items():
            expected[objects, multiset] = share * chance
    assert sum(expected.values()) == pytest.approx(1)
    assert set(seen) <= set(expected)  # nothing that the rules forbid
    chi = sum((seen[at] - draws * p) ** 2 / (draws * p) for at, p in expected.items())
    assert chi < len(expected) + 5 * math.sqrt(2 * len(expected))


def test_every_plan_keeps_the_rules() -> None:
    for k, seed in itertools.product(range(1, 8), range(60)):
        plan = fill(draw_plan(k, PAPER, Random(seed)), PAPER, Random(seed))
        assert len(plan.properties) == k + 1
        asked = [thing for thing in plan.things if not thing.added]
        assert len({thing.name for thing in plan.things}) == len(plan.things)
        assert len(plan.relations) <= len(asked)
        assert sum(p.category == "style" for p in plan.properties) <= 1
        for thing in plan.things:
            assert set(thing.values) <= set(OF_OBJECTS)
            assert not (thing.added and thing.values)
        for p in plan.properties:
            assert p.value in PAPER.values[p.category]
        for r in plan.relations:
            assert r.first != r.second
            assert {r.first, r.second} <= set(range(len(plan.things)))
        assert sum(thing.added for thing in plan.things) == int(bool(plan.relations) and len(asked) == 1)


def test_the_released_draw_loses_a_concept_where_a_second_style_overwrites_the_first() -> None:
    random = Random(1)
    kept = [draw_plan(6, PAPER, random) for _ in range(400)]
    released = [draw_plan(6, PAPER, random, released=True) for _ in range(400)]
    assert {len(plan.properties) for plan in kept} == {7}
    assert min(len(plan.properties) for plan in released) < 7


def test_relations_that_go_round_in_a_circle_are_found() -> None:
    things = tuple(Thing(name=name) for name in ("cat", "dog", "pig"))

    def plan(*relations: tuple[str, int, int]) -> Plan:
        made = tuple(Relation(name=n, first=a, second=b) for n, a, b in relations)
        return Plan(k=3, things=things, relations=made)

    assert contradicts(plan(("left", 0, 1), ("left", 1, 0)))
    assert contradicts(plan(("left", 0, 1), ("right", 0, 1)))
    assert contradicts(plan(("above", 0, 1), ("above", 1, 2), ("below", 0, 2)))
    assert not contradicts(plan(("left", 0, 1), ("right", 1, 0), ("above", 1, 0)))
    assert not contradicts(plan(("left", 0, 1), ("left", 1, 2), ("left", 0, 2)))


def test_plans_are_the_same_for_the_same_seed_and_rejections_are_counted() -> None:
    drawn = draw_plans(7, 200, PAPER, seed=5)
    assert drawn == draw_plans(7, 200, PAPER, seed=5)
    assert drawn.plans != draw_plans(7, 200, PAPER, seed=6).plans
    assert not any(contradicts(plan) for plan in drawn.plans)
    counts = categories_of(drawn.plans)
    assert min(counts) >= 2
    assert max(counts) <= 8


def test_the_vocabulary_is_the_papers() -> None:
    assert {c: len(PAPER.values[c]) for c in CATEGORIES} == {
        "object": 52,
        "colour": 11,
        "number": 3,
        "shape": 5,
        "size": 2,
        "texture": 3,
        "spatial": 10,
        "style": 15,
    }
    with pytest.raises(HornbookError, match="from 1 to 7"):
        draw_plan(8, PAPER, Random(0))
    with pytest.raises(HornbookError, match="must have concepts in each"):
        Vocabulary(name="poor", values={"object": ("cat",)}, say={})


# ------------------------------------------------------------------ words


def test_every_graded_concept_is_said_and_every_property_is_asked_once() -> None:
    for plan in draw_plans(6, 80, PAPER, seed=2).plans:
        text, asked = caption(plan, PAPER), questions(plan, PAPER)
        assert len(asked) == len(set(asked)) == 7
        assert all(q.endswith("?") and q[0].isupper() for q in asked)
        for p in plan.properties:
            if p.category in ("colour", "size", "texture", "shape", "style"):
                assert p.value in text
        for thing in plan.things:
            assert thing.name in text or plural(thing.name) in text


def test_orange_may_be_orange() -> None:
    plan = Plan(k=1, things=(Thing(name="orange", values={"colour": "orange"}),))
    assert caption(plan, PAPER) == "A picture of an orange orange."
    assert questions(plan, PAPER) == ["Does the picture contain an orange?", "Is the orange orange?"]


# ------------------------------------------------------------------ the small world


def test_a_scene_of_a_plan_shows_all_of_it_also_through_its_pixels() -> None:
    for k in range(1, 8):
        drawn, scenes = draw_scenes(k, 12, Random(k))
        for plan, scene in zip(drawn.plans, scenes):
            assert all(answers(scene, plan))
            assert see(paint(scene)) == scene
            assert len(brief(plan)) <= 16


def test_what_a_scene_shows_is_checked_by_hand() -> None:
    red, blue = Look(kind="fish", colour="red"), Look(kind="fish", colour="blue")
    key = Look(kind="key")
    plan = Plan(
        k=4,
        things=(Thing(name="fish", values={"colour": "red", "number": "2"}), Thing(name="key")),
        relations=(Relation(name="left", first=0, second=1),),
        style="blueprint",
    )  # properties: fish, red, two, key, left, blueprint

    def shown(style: str, things: dict) -> list[bool]:
        return answers(Scene(style=style, things=things), plan)

    assert shown("blueprint", {(0, 0): red, (2, 1): red, (1, 2): key}) == [True] * 6
    assert shown("newsprint", {(0, 0): red, (2, 1): red, (1, 2): key})[5] is False
    assert shown("blueprint", {(0, 0): red, (2, 1): blue, (1, 2): key})[1] is False  # one of them is not red
    assert shown("blueprint", {(0, 0): red, (2, 2): red, (1, 2): key})[4] is False  # same column
    assert shown("blueprint", {(0, 0): red, (0, 1): red, (2, 0): red, (1, 2): key})[2] is False  # three
    assert shown("blueprint", {(1, 2): key}) == [False, False, False, True, False, True]


def test_a_plan_without_room_is_told_from_one_with() -> None:
    crowd = tuple(Thing(name=name, values={"number": "4"}) for name in ("fish", "key"))
    assert place(Plan(k=3, things=crowd), Random(0)) is None  # eight things
    circle = tuple(Relation(name="left", first=a, second=b) for a, b in ((0, 1), (1, 0)))
    pair = (Thing(name="fish"), Thing(name="key"))
    assert place(Plan(k=3, things=pair, relations=circle), Random(0)) is None
    plan = Plan(k=2, things=pair, relations=circle[:1])
    placed = place(plan, Random(0))
    assert placed is not None
    assert all(answers(see(paint(placed)), plan))


# ------------------------------------------------------------------ scores


def marked(answers_: list[bool | None]) -> Marked:
    things = tuple(Thing(name=name) for name in WORLD.values["object"][: len(answers_)])
    return Marked(plan=Plan(k=len(answers_) - 1, things=things), answers=tuple(answers_))


def test_scores_of_pictures_worked_by_hand() -> None:
    found = score(
        [
            marked([True, True]),
            marked([True, False]),
            marked([None, False]),  # one no decides
            marked([True, None]),  # nothing decides
        ]
    )
    assert (found.full.hits, found.full.trials, found.undecided, found.unanswered) == (1, 3, 1, 2)
    assert found.fraction == pytest.approx(4 / 6)
    assert found.categories["object"] == Rate(hits=4, trials=6)
    assert found.expected == pytest.approx((4 / 6) ** 2)
    assert found.fraction_interval.low <= found.fraction <= found.fraction_interval.high


def test_independent_properties_have_the_full_marks_that_are_expected() -> None:
    rng = np.random.default_rng(0)
    rates = {c: Rate(hits=round(100 * p), trials=100) for c, p in zip(CATEGORIES, np.linspace(0.6, 0.95, 8))}
    plans = draw_plans(3, 4000, PAPER, seed=1).plans
    full = [all(rng.random() < rates[p.category].value for p in plan.properties) for plan in plans]
    assert expected_full(plans, rates) == pytest.approx(np.mean(full), abs=0.03)
    assert expected_full(plans, {"object": rates["object"]}) is None  # unknown, not zero


def test_scores_of_several_k_or_of_nothing_are_refused() -> None:
    with pytest.raises(HornbookError, match="one k at a time"):
        score([marked([True, True]), marked([True, True, True])])
    with pytest.raises(HornbookError, match="No question"):
        score([marked([None, None])])
    with pytest.raises(HornbookError, match="2 answers to 3 questions"):
        Marked(plan=marked([True, True, True]).plan, answers=(True, True))


def test_a_judge_is_measured_by_category_and_on_full_marks() -> None:
    truth = [marked([True, True]), marked([True, False]), marked([True, True])]
    seen = [marked([True, False]), marked([True, True]), marked([True, None])]
    errors = judge_errors(seen, truth)
    assert errors.categories["object"].sensitivity == Rate(hits=3, trials=4)
    assert errors.categories["object"].specificity == Rate(hits=0, trials=1)
    assert errors.full[1].sensitivity == Rate(hits=0, trials=1)  # the third is undecided
    assert errors.full[1].specificity == Rate(hits=0, trials=1)
    with pytest.raises(HornbookError, match="same order"):
        judge_errors(seen[:2], truth)


# ------------------------------------------------------------------ what a judge's error does, and undoing it


def test_errors_of_single_questions_shrink_full_marks_by_their_power() -> None:
    """False no of 10 % a question leaves .9^(k + 1) of the full marks; the correction gives them back."""
    rng, k, n = np.random.default_rng(3), 4, 3000
    whole = rng.random(n) < 0.5
    said = whole & (rng.random((n, k + 1)) < 0.9).all(axis=1)
    assert said.mean() == pytest.approx(0.5 * 0.9 ** (k + 1), abs=0.03)
    errors = judge_errors(
        [marked([bool(s)] * (k + 1)) for s in said[:1500]],
        [marked([bool(w)] * (k + 1)) for w in whole[:1500]],
    ).full[k]
    found = correct(Rate(hits=int(said[1500:].sum()), trials=1500), errors)
    assert found.interval.low <= whole[1500:].mean() <= found.interval.high
    assert said[1500:].mean() < found.interval.low


@pytest.mark.parametrize(
    ("truth", "sensitivity", "specificity", "labelled", "others"),
    [
        (0.5, 0.9, 0.9, 60, 600),
        (0.05, 0.8, 0.95, 60, 600),
        (0.02, 0.7, 0.99, 40, 300),
        (0.9, 0.5, 0.5, 50, 50),
    ],
)
def test_prediction_powered_intervals_cover_the_truth(
    truth, sensitivity, specificity, labelled, others
) -> None:
    rng = np.random.default_rng(7)
    covered, width, plain, values = 0, [], [], []
    for repeat in range(200):
        real = rng.random(labelled + others) < truth
        seen = np.where(real, rng.random(len(real)) < sensitivity, rng.random(len(real)) >= specificity)
        found = prediction_powered(
            [(bool(a), bool(b)) for a, b in zip(real[:labelled], seen[:labelled])],
            [bool(b) for b in seen[labelled:]],
        )
        covered += found.interval.low <= truth <= found.interval.high
        width.append(found.interval.high - found.interval.low)
        if repeat < 20:
            alone = prediction_powered([(bool(a), True) for a in real[:labelled]], [])
            plain.append(alone.interval.high - alone.interval.low)
        values.append(found.value)
    assert covered / 200 > 0.91
    assert np.mean(values) == pytest.approx(truth, abs=0.02)
    if sensitivity + specificity > 1.7:
        assert np.mean(width) < np.mean(plain)  # a judge that knows something narrows the interval
    else:
        assert np.mean(width) < 1.1 * np.mean(plain)  # one that knows nothing does little harm


def test_prediction_powered_without_others_is_the_share_of_the_labelled() -> None:
    assert prediction_powered([(True, False), (False, False), (True, True)], []).value == pytest.approx(2 / 3)
    with pytest.raises(HornbookError, match="at least two"):
        prediction_powered([(True, True)], [True])
