"""Conversations and preference pairs: form, truth, split, and what is verified."""

import json
import re

import pytest

from hornbook.errors import HornbookError
from hornbook.sandbox import Job, run_many
from hornbook.synth.dialogue import SHARES, dialogue_rows, write_dialogue
from hornbook.synth.policy import is_refusal
from hornbook.synth.preferences import preference_rows, write_preference
from hornbook.synth.problem_steps import is_held_out

DIALOGUES = [write_dialogue(1, index) for index in range(1500)]


def test_turns_alternate_and_nothing_is_left_open() -> None:
    for dialogue in DIALOGUES:
        roles = [message["role"] for message in dialogue.messages]
        assert roles == ["user", "assistant"] * (len(roles) // 2)
        for message in dialogue.messages:
            assert message["content"].strip() == message["content"] != ""
            if dialogue.kind in ("story", "smalltalk", "restricted"):
                assert not re.search(r"[{}|\[\]]", message["content"]), message["content"]


def test_kinds_occur_as_often_as_asked() -> None:
    for kind, share in SHARES.items():
        found = sum(dialogue.kind == kind for dialogue in DIALOGUES) / len(DIALOGUES)
        assert abs(found - share) < 0.045, kind
    only = [write_dialogue(1, i, shares={"story": 1.0}).kind for i in range(20)]
    assert set(only) == {"story"}
    with pytest.raises(HornbookError, match="poems"):
        write_dialogue(1, 1, shares={"poems": 1.0})


def test_refusals_come_exactly_where_the_policy_asks_for_them() -> None:
    for dialogue in DIALOGUES:
        assert is_refusal(dialogue.messages[-1]["content"]) == (dialogue.kind == "restricted")


def test_programs_in_conversations_are_right() -> None:
    problems = [d for d in DIALOGUES if d.kind == "problem"][:150]
    texts = [next(m["content"] for m in d.messages if m["content"].startswith("def ")) for d in problems]
    outcomes = run_many([Job(source=text, entry="solution") for text in texts])
    assert [o.value for o in outcomes] == [d.facts["answer"] for d in problems]
    for dialogue in problems:
        if "answer is" in dialogue.messages[-1]["content"]:
            assert str(dialogue.facts["answer"]) in dialogue.messages[-1]["content"]


def test_readings_are_exact() -> None:
    readings = [d for d in DIALOGUES if d.kind == "reading"]
    assert len(readings) > 80
    numbered = 0
    for dialogue in readings:
        question, answer = dialogue.facts["question"], dialogue.messages[-1]["content"]
        assert question in dialogue.messages[-2]["content"]
        if answer != question:
            numbered += 1
            assert answer.split(", ") == [word.strip(".,?") for word in question.split() if word[0].isdigit()]
    assert 0.3 < numbered / len(readings) < 0.7


def test_functions_in_conversations_pass_their_cases() -> None:
    functions = [d for d in DIALOGUES if d.kind == "function"][:60]
    jobs, truths = [], []
    for dialogue in functions:
        source = dialogue.messages[-1]["content"]
        for value, truth in dialogue.facts["cases"]:
            jobs.append(Job(source=source, entry=dialogue.facts["name"], args=(value,)))
            truths.append(truth)
    assert [o.value for o in run_many(jobs)] == truths


def test_stories_fulfil_their_request() -> None:
    for dialogue in DIALOGUES:
        if dialogue.kind != "story":
            continue
        at = max(range(len(dialogue.messages)), key=lambda i: len(dialogue.messages[i]["content"])) - 1
        request, story = dialogue.messages[at]["content"], dialogue.messages[at + 1]["content"]
        plan = dialogue.facts["plan"]
        if " and " + plan["adjective"] in request:
            assert plan["noun"] in story
            assert plan["adjective"] in story
        for name in re.findall(r"named (\w+)", request):
            assert name in story
        assert ("BadEnding" in plan["features"]) == bool(re.search(r"(sad|bad) ending", request))


def test_held_out_conversations_use_held_out_plans() -> None:
    for index in range(200):
        dialogue = write_dialogue(1, index, held_out=True)
        if dialogue.kind == "problem":
            assert is_held_out(tuple(dialogue.facts["skeleton"].split("|")))


def test_rows_are_the_same_for_a_seed() -> None:
    rows = list(dialogue_rows(3, 20))
    assert rows[7:] == list(dialogue_rows(3, 20, start=7))
    assert json.loads(rows[0]["meta"])["kind"] in SHARES
    pairs = list(preference_rows(3, 20))
    assert pairs[7:] == list(preference_rows(3, 20, start=7))


def test_preferences_are_verified() -> None:
    pairs = [write_preference(2, index) for index in range(400)]
    programs = [pair for pair in pairs if pair.kind == "program"]
    jobs = [Job(source=text, entry="solution") for pair in programs for text in (pair.chosen, pair.rejected)]
    values = [outcome.value for outcome in run_many(jobs)]
    assert all(isinstance(value, int) for value in values)
    assert all(good != bad for good, bad in zip(values[::2], values[1::2]))
    for pair in pairs:
        if pair.kind == "policy":
            assert is_refusal(pair.chosen)
            assert not is_refusal(pair.rejected)
        if pair.kind == "helpful":
            assert not is_refusal(pair.chosen)
            assert is_refusal(pair.rejected)
    assert {pair.kind for pair in pairs} == {"program", "policy", "helpful"}
