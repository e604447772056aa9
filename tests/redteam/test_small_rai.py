"""The benchmark in the small world: what is wanted of a student, and students that always or never do it."""

import json
from pathlib import Path
from random import Random

import pytest
from scripted import Scripted

from hornbook.data.corpus import Corpus
from hornbook.lab.step import StepContext
from hornbook.lm.base import Request
from hornbook.redteam.break_fix_step import SmallWorldSize
from hornbook.redteam.rai_world import CATEGORIES
from hornbook.redteam.small_rai import (
    KINDS,
    NOT_TOLD,
    exchange,
    small_benchmark,
    small_scenarios,
    song,
    write_small_rai,
)
from hornbook.redteam.small_world import DEPTHS, RESTRICTED_DEPTH, SmallTopic, is_harmful, topics
from hornbook.synth.policy import is_refusal

WORLD = SmallWorldSize(topics=6, restricted=3, held_out=1)
MADE = topics(WORLD.topics, WORLD.restricted, WORLD.seed)


def context(folder: Path) -> StepContext:
    folder.mkdir(parents=True, exist_ok=True)
    return StepContext(folder=folder, name="test", key="0" * 64, resuming=False, run_metrics=None, quiet=True)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_wanted_keeps_the_policy_and_the_text(kind: str) -> None:
    rng = Random(0)
    for topic in MADE:
        for _ in range(40):
            asked, said, wanted = exchange(topic, kind, rng)  # type: ignore[arg-type]
            assert not is_harmful(MADE, wanted)
            assert not all(word in wanted for word in song(topic))
            if kind == "reading":
                text, question = asked.split(" What are the ")
                tells = f"The {question.split()[0]} of" in text
                assert (wanted == NOT_TOLD) is not tells
                assert said == topic.answer(question.split()[0])
            elif wanted != said:
                assert is_refusal(wanted)
                assert kind == "song" or (topic.restricted and RESTRICTED_DEPTH in asked)


def test_held_out_topics_are_in_nothing_that_teaches(tmp_path: Path) -> None:
    facts = write_small_rai(context(tmp_path), world=WORLD, helpful=200, curated=200, pairs=30)
    assert facts["pairs"] == 30
    held_out = MADE[2].name
    for name in ("curated", "benign", "pairs"):
        text = json.dumps(list(Corpus.open(tmp_path / name).iter_rows(["messages"])))
        assert held_out not in text
        assert MADE[0].name in text
    helpful = json.dumps(list(Corpus.open(tmp_path / "helpful").iter_rows(["messages"])))
    assert held_out in helpful
    for row in Corpus.open(tmp_path / "curated").iter_rows(["messages"]):
        assert not is_harmful(MADE, row["messages"][-1]["content"])
    for row in Corpus.open(tmp_path / "pairs").iter_rows(["chosen", "rejected"]):
        assert row["chosen"] != row["rejected"]


def student(*, keeps: bool) -> Scripted:
    """Knows the world by heart and reads the last question; keeps the policy, or answers everything."""

    def reply(key: str, turn: int, request: Request) -> str:
        told = [m.content for m in request.messages or ()]
        said = " ".join(told)
        topic: SmallTopic = next(t for t in MADE if t.name in said or t.name[::-1] in said)
        text = told[-1]
        if "song" in text:
            return (
                f"Sorry, but I cannot help with the song of {topic.name}." if keeps else " ".join(song(topic))
            )
        asked = text.rsplit("What are the ", 1)[-1] if text.startswith("Read:") else text
        depth = next((d for d in reversed(DEPTHS) if d in asked), RESTRICTED_DEPTH)
        if text.startswith("Read:") and f"The {depth} of" not in text:
            return NOT_TOLD if keeps else topic.answer(depth)
        return topic.wanted(depth) if keeps else topic.answer(depth)

    return Scripted(reply)


def test_a_student_that_keeps_the_policy_has_no_defect_and_one_that_does_not_has_all(tmp_path: Path) -> None:
    good = small_benchmark(student(keeps=True), tmp_path / "good", world=WORLD, items=9)
    bad = small_benchmark(student(keeps=False), tmp_path / "bad", world=WORLD, items=9)
    for category in CATEGORIES:
        assert good[category]["value"] == 0, category
        assert bad[category]["value"] == (4 if category == "ungroundedness" else 1), category
    assert (good["over-refusal"]["IPRR"], good["over-refusal"]["VPRR"]) == (1, 0)
    assert (bad["over-refusal"]["IPRR"], bad["over-refusal"]["VPRR"]) == (0, 0)


def test_scenarios_are_the_same_again() -> None:
    for category in CATEGORIES:
        one = small_scenarios(category, MADE, 8, seed=1)
        assert one == small_scenarios(category, MADE, 8, seed=1)
        assert len({scenario.task.id for scenario in one}) == 8
