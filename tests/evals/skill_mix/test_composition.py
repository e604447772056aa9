"""Composition: sides that do not meet, texts that survive tokens and notes, full marks alone are kept."""

import json
from random import Random

import numpy as np
import pytest

from hornbook.data.corpus import Corpus
from hornbook.errors import HornbookError
from hornbook.evals.skill_mix.checkable import CHECKABLE, TOPIC_WORDS, compose, exact_points
from hornbook.evals.skill_mix.composition import (
    ALPHABET,
    as_lines,
    clauses,
    cut,
    graded,
    in_order,
    line,
    recital,
    split,
    text_of,
)
from hornbook.evals.skill_mix.composition_steps import Composer, write_compositions
from hornbook.evals.skill_mix.protocol import Combination
from hornbook.lab.run import Run


def tasks(skills, topics, count, seed=0):
    rng = Random(seed)
    for i in range(count):
        k = 1 + i % 5
        yield Combination(id=f"{i}", skills=tuple(rng.sample(skills, k)), topic=rng.choice(topics))


def test_skills_are_split_by_category_and_topics_in_halves():
    sides = split(seed=3)
    assert {s.category for s in sides.skills} == {"literary", "rhetorical"}
    assert not {s.category for s in sides.skills} & {s.category for s in sides.held_skills}
    assert len(sides.all_skills) == len(CHECKABLE)
    assert not set(sides.topics) & set(sides.held_topics)
    assert set(sides.all_topics) == set(TOPIC_WORDS)
    assert split(seed=4).topics != sides.topics
    with pytest.raises(HornbookError, match="at least five on each side"):
        split(seed=0, categories=("physical knowledge",))


def test_every_text_is_the_same_after_tokens_and_notes_and_has_full_marks():
    sides = split(seed=0)
    for task in tasks(sides.all_skills, sides.all_topics, 150):
        text = compose(task, Random(task.id))
        prompt, answer = line(task, text)
        assert prompt[0] == f"#{task.topic}"
        assert answer.count("; ") >= task.k
        notes = [token[1:-1] for token in answer if token.startswith("<")]
        assert notes == [skill.name for skill in task.skills]
        assert "".join(cut(text)) == text
        learned = text_of(ALPHABET.encode(answer))
        assert learned == "; ".join(in_order(clause, task.topic) for _, clause in clauses(text, notes))
        assert graded(task, text).full == graded(task, learned).full == 1


def test_nouns_are_put_in_the_order_of_the_topic_clause_by_clause():
    clause = "the veil is older than the hive, the hive is older than the frames"
    assert in_order(clause, "beekeeping") == (
        "the hive is older than the smoker, the smoker is older than the keepers"
    )
    assert in_order("the ship and the hive", "sailing") == "the ship and the hive"


def test_a_text_that_lacks_a_skill_is_not_learned_from_and_what_is_left_goes_to_the_last():
    text = (
        "The hive stood beside the veil; the hive was not unusual; it was a long, long way to the veil; "
        "so it was."
    )
    assert clauses(text, ["litotes", "simile"]) is None
    assert clauses(text, ["epizeuxis", "litotes"]) is None  # not in this order
    assert clauses(text, ["litotes", "epizeuxis"]) == [
        ("", "The hive stood beside the veil"),
        ("litotes", "the hive was not unusual"),
        ("epizeuxis", "it was a long, long way to the veil; so it was."),
    ]


def test_a_skill_counts_only_where_the_text_shows_it():
    sides = split(seed=0)
    simile, litotes = (CHECKABLE[name].skill for name in ("simile", "litotes"))
    task = Combination(id="", skills=(simile, litotes), topic="beekeeping")
    text = "The hive stood beside the veil; the hive was as still as a veil."
    assert graded(task, text).full == 0
    assert graded(task, text).fraction == 0.5
    assert exact_points(text, ["simile"], "beekeeping", 1) == (1, 1, 1, 1)
    assert graded(task, text[:-1]).fraction == 0  # no full stop: not well formed
    answer = ["The ", "hive", "<simile>", "; ", "<litotes>", ".", "\n", "hive"]
    assert text_of(ALPHABET.encode(answer)) == "The hive; ."
    assert text_of(np.array([len(ALPHABET)], np.uint8)) == "\ufffd"
    assert sides.skills


def test_lines_put_the_answer_behind_the_prompt():
    task = next(tasks(split(seed=0).skills, ["music"], 1))
    row = line(task, compose(task, Random(0)))
    lines = as_lines([row, row])
    prompt, answer = lines.text(0)
    assert prompt == "".join(row[0])
    assert answer + "\n" == "".join(row[1])


def test_only_texts_with_full_marks_are_kept_and_only_of_the_training_side(tmp_path):
    run = Run(tmp_path, recipe="t", scale="smoke", settings={}, quiet=True)
    made = run.step(write_compositions, ks=(1, 3), each=40, seed=2)
    sides = split(seed=2)
    assert made.facts["by_k"]["3"]["kept"] == 40 < made.facts["by_k"]["3"]["asked"]
    rows = list(Corpus.open(made / "k3").iter_rows())
    assert [m["role"] for m in rows[0]["messages"]] == ["user", "assistant", "user", "assistant"]
    for row in rows:
        meta = json.loads(row["meta"])
        assert meta["topic"] in sides.topics
        assert set(meta["skills"]) <= {skill.name for skill in sides.skills}
        assert exact_points(meta["text"], meta["skills"], meta["topic"], 2) == (1,) * 6


def test_a_teacher_that_cannot_write_is_named(tmp_path, monkeypatch):
    from hornbook.evals.skill_mix import composition_steps
    from hornbook.lm.simulated import SimulatedModel

    dull = SimulatedModel("dull", lambda request: "Answer: no.")
    monkeypatch.setattr(composition_steps, "mechanical_student", lambda **told: dull)
    run = Run(tmp_path, recipe="t", scale="smoke", settings={}, quiet=True)
    with pytest.raises(HornbookError, match="full marks on 0 of"):
        run.step(write_compositions, ks=(1,), each=3, seed=0)
    with pytest.raises(HornbookError, match="replay"):
        Composer(replay=1.0)


def test_a_list_said_again_has_its_names_in_order_and_no_text():
    names = ["simile", "addition", "rhyme"]
    prompt, answer = recital(names, "music")
    assert prompt == ["#music", "<simile>", "<addition>", "<rhyme>", "?"]
    assert [token for token in answer if token.startswith("<")] == [f"<{name}>" for name in names]
    assert text_of(ALPHABET.encode(answer)) == "; ; ; ."
