"""Prompts by a language model: what it may change, what throws a plan away, what a failed call leaves."""

import json
from dataclasses import replace
from random import Random

import pytest

from hornbook.evals.concept_mix.protocol import PAPER, Plan, Relation, Thing, draw_plan
from hornbook.evals.concept_mix.writer import ATTEMPTS, read_filled, scene_json, write_prompts
from hornbook.lm.base import Failure, Request
from hornbook.lm.simulated import SimulatedModel

CAT = Thing(name="cat", values={"size": "tiny"})
OPEN = Plan(k=2, things=(CAT,), relations=(Relation(name="left"),))


def filled(**changes) -> dict:
    scene = {
        "objects": [{"id": 1, "item": "cat", "size": "tiny"}, {"id": 2, "item": "dog"}],
        "relation": [{"name": "left", "ObjectA_id": 1, "ObjectB_id": 2}],
    }
    return {**scene, **changes}


def test_a_filled_scene_keeps_the_plan_and_grades_nothing_new() -> None:
    plan = read_filled(OPEN, filled())
    assert [thing.name for thing in plan.things] == ["cat", "dog"]
    assert plan.things[0] == CAT
    assert plan.things[1].added
    assert plan.relations == (Relation(name="left", first=0, second=1),)
    assert [p.category for p in plan.properties] == ["object", "size", "spatial"]
    twice = read_filled(OPEN, filled(objects=[{"id": 1, "item": "cat"}, {"id": 2, "item": "cat"}]))
    assert twice.things[1].name == "another cat"


@pytest.mark.parametrize(
    "scene",
    [
        [],
        {"objects": "cat"},
        filled(objects=[{"id": 1, "item": "dog"}, {"id": 2, "item": "cat"}]),
        filled(objects=[{"id": 1}]),
        filled(relation=[]),
        filled(relation=[{"name": "left", "ObjectA_id": 1, "ObjectB_id": "?"}]),
        filled(relation=[{"name": "left", "ObjectA_id": 1, "ObjectB_id": 1}]),
        filled(relation=["left"]),
        filled(objects=[{"id": i, "item": "cat" if i == 1 else f"dog {i}"} for i in range(1, 9)]),
    ],
)
def test_a_scene_that_changes_the_plan_is_refused(scene) -> None:
    with pytest.raises(ValueError, match=r"object|relation"):
        read_filled(OPEN, scene)


def test_an_open_scene_is_written_with_question_marks_and_ids_from_one() -> None:
    scene = scene_json(OPEN)
    assert scene["objects"] == [{"id": 1, "item": "cat", "size": "tiny"}]
    assert scene["relation"] == [{"name": "left", "ObjectA_id": "?", "ObjectB_id": "?"}]
    for seed in range(20):  # what is filled by ids comes back as it was meant
        plan = draw_plan(6, PAPER, Random(seed))
        closed = replace(plan, relations=tuple(replace(r, first=0, second=1) for r in plan.relations))
        if len(plan.things) > 1:
            assert read_filled(plan, json.loads(json.dumps(scene_json(closed)))) == closed


def author(request: Request, *, wrong: str = "", lines: int | None = None) -> str:
    """Fills with what is there or a dog, describes by repeating, and asks as it is told."""
    text = (request.messages or ())[-1].content
    if 'Every "?"' in text:
        scene = json.loads(text[text.index("{") : text.rindex("}") + 1])
        if len(scene["objects"]) == 1:
            scene["objects"].append({"id": 2, "item": "kettle"})
        for relation in scene.get("relation", []):
            relation |= {"ObjectA_id": 1, "ObjectB_id": 2}
        return f"Here it is:\n```json\n{json.dumps(scene)}\n```"
    bullets = [line[2:] for line in text.splitlines() if line.startswith("- ")]
    if "Describe the picture" in text:
        return "A picture: " + "; ".join(bullets)
    if "drawn at all" in text:
        return "WRONG" if wrong and wrong in text else "It can be done.\nFINE"
    asked = [f"{number}. Is it so that {line}?" for number, line in enumerate(bullets, 1)]
    return "\n".join(asked[:lines])


def test_prompts_have_a_question_for_every_property_in_order() -> None:
    found = write_prompts(SimulatedModel("author", author), 5, 8, PAPER, seed=0)
    assert len(found.prompts) == 8
    assert not found.missing
    for prompt in found.prompts:
        assert len(prompt.questions) == 6
        for asked, words in zip(prompt.plan.properties, prompt.questions):
            assert words.startswith("Is it so that")
            assert asked.category == "spatial" or asked.value in words
        assert all(r.first >= 0 and r.second >= 0 for r in prompt.plan.relations)
    again = write_prompts(SimulatedModel("author", author), 5, 8, PAPER, seed=0)
    assert again == found


def test_what_the_model_calls_wrong_is_drawn_anew_and_counted() -> None:
    free = write_prompts(SimulatedModel("author", author), 3, 20, PAPER, seed=1)
    strict = SimulatedModel("strict", lambda request: author(request, wrong="the style of the picture:"))
    found = write_prompts(strict, 3, 20, PAPER, seed=1)
    assert len(found.prompts) == 20
    assert found.rejected > free.rejected
    assert not any(prompt.plan.style for prompt in found.prompts)  # a selection, which the count shows


def test_too_few_questions_and_no_end_are_given_up_in_words() -> None:
    short = SimulatedModel("short", lambda request: author(request, lines=1))
    found = write_prompts(short, 2, 2, PAPER, seed=0)
    assert found.prompts == ()
    assert len(found.missing) == 2
    assert f"{ATTEMPTS} plans were thrown away" in found.missing[0]


def test_a_failed_call_leaves_its_prompt_open_and_the_others_as_they_are() -> None:
    whole = write_prompts(SimulatedModel("author", author), 2, 6, PAPER, seed=3)
    broken = whole.prompts[2].caption

    def fails(request: Request):
        text = (request.messages or ())[-1].content
        if "drawn at all" in text and broken in text:
            return Failure(kind="server", message="status 500")
        return author(request)

    found = write_prompts(SimulatedModel("fails", fails), 2, 6, PAPER, seed=3)
    assert found.prompts == whole.prompts[:2] + whole.prompts[3:]
    assert found.missing == ("prompt 3: server: status 500",)
