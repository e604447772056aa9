"""The world of phi-1.5's recipe holds what it promises, and the recipe runs whole at a scale of seconds."""

import json
from dataclasses import replace
from pathlib import Path

from hornbook.lab.run import Run
from hornbook.papers import phi1_5
from hornbook.synth import commonsense as world


def test_no_text_tells_of_what_the_items_ask() -> None:
    texts = [row["text"] for row in world.textbook_rows(0, 1500)] + [
        row["text"] for row in world.web_rows(0, 3000)
    ]
    told = " ".join(texts)
    known = {f.member for f in world.facts("things", True)}
    for fact in world.facts("things", True):
        for event in fact.domain.events[fact.question]:
            for people in ({"n": name, "k": ""} for name in world.NAMES[:6]):
                assert event.format_map({**people, "m": fact.member}) not in told
        # It is known what the thing is made of: what becomes of it can be concluded.
        assert f"{fact.member} of {fact.cls}" in told or f"{fact.member} is made of {fact.cls}" in told
    assert len(known) > 40


def test_exercises_ask_for_what_their_page_does_not_tell() -> None:
    plain, exercised = (list(world.textbook_rows(0, 300, exercises=count)) for count in (0, 3))
    foreign = 0
    for one, other in zip(plain, exercised, strict=True):
        page, _, exercises = other["text"].partition(" Exercises. ")
        assert page == one["text"]
        assert exercises.count(".") == 6  # an event and its end, three times
        foreign += not any(name in page for name in [exercises.split(" ")[-1]])
    assert foreign > 200  # the last one's end is not to be copied from the page


def test_items_have_one_right_end_which_is_wrong_elsewhere() -> None:
    items = world.items(400, 1)
    right, wrong = {item.right for item in items}, {item.wrong for item in items}
    assert all(item.right != item.wrong for item in items)
    assert wrong <= right | {f" {o}." for d in world.DOMAINS for t in d.outcomes.values() for o in t.values()}
    assert len(right & wrong) > 15
    assert {item.kind for item in items} == {"things", "deeds"}


def test_the_web_is_skewed_wrong_at_times_and_seldom_explains() -> None:
    rows = [json.loads(row["meta"]) for row in world.web_rows(0, 2000)]
    share = sum(row["educational"] for row in rows) / len(rows)
    assert abs(share - world.INSTRUCTIVE) < 0.04
    topics = {tuple(json.loads(row["meta"])["topic"]) for row in world.textbook_rows(0, 3000, topics_used=7)}
    assert len(topics) == 7
    assert len(world.topics()) == 1116


def test_the_recipe_runs_from_web_to_report(tmp_path: Path) -> None:
    settings = replace(phi1_5.SCALES["smoke"], tokens=4096)
    made = Run(tmp_path, recipe="phi1_5", scale="smoke", settings=settings, quiet=True)
    phi1_5.recipe(made, settings)
    made.finish()
    assert {claim.id for claim in made.claims} == {
        "textbooks-beat-web",
        "web-adds",
        "exercises-teach",
        "exercised-beat-web",
        "filtering",
        "topics",
    }
    page = (tmp_path / "phi1_5-smoke" / "report.html").read_text()
    for words in ("filtered web", "few topics", "Right ends"):
        assert words in page
