"""What a model knows and what is taught about the rest: the report's rules, on a model of known odds."""

import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import pytest
from small_students import chat, context, conversations

from hornbook.align.dpo import encode_pairs
from hornbook.align.knowledge import (
    ESTIMATES,
    Estimate,
    estimate,
    estimate_knowledge,
    preferences,
    read_estimates,
    teach_unknown,
    tuning_answer,
)
from hornbook.data.chat import ChatTemplate
from hornbook.data.corpus import Corpus
from hornbook.data.tokenizer import Tokenizer
from hornbook.errors import HornbookError
from hornbook.evals.attempts import (
    Attempts,
    FactQuestion,
    attempt_questions,
    declines,
    grade,
    read_fact_questions,
)
from hornbook.synth.people import ASKED, UNKNOWABLE, PeopleWorld, ask_about_people, write_people

TOWN = FactQuestion(
    id="1", question="Where was Mira born?", answers=("Tarn", "Tarn upon Lune"), group="often"
)
NOTHING = FactQuestion(id="2", question="Where was nobody born?", answers=(), group="invented")
SORRY = "I do not know that."


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("In Tarn.", "right"),
        ("She was born in tarn upon lune, I think.", "right"),
        ("In Tarnholt.", "wrong"),
        ("", "not attempted"),
        ("I don't know. Perhaps Tarn?", "not attempted"),
        ("I am not sure, sorry.", "not attempted"),
        ("In Lorne. I do not know more. Nobody does.", "not attempted"),
        ("In Lorne. It rained. I do not know why.", "wrong"),
    ],
)
def test_an_answer_is_right_wrong_or_not_attempted(text: str, found: str) -> None:
    assert grade(text, TOWN) == found
    assert declines(text) is (found == "not attempted")


def test_a_question_about_nothing_has_no_right_answer() -> None:
    assert [grade(text, NOTHING) for text in ("In Tarn.", SORRY)] == ["wrong", "not attempted"]


def test_f1_falls_when_guessing_stops_although_fewer_answers_are_wrong() -> None:
    """The report's worked example: 6 % right of all attempted, then 3 right, 3 wrong, 94 declined."""
    guesses = Attempts(outcomes=("right",) * 6 + ("wrong",) * 94)
    modest = Attempts(outcomes=("right",) * 3 + ("wrong",) * 3 + ("not attempted",) * 94)
    assert guesses.f1 == pytest.approx(0.06)
    assert modest.f1 == pytest.approx(2 * 3 / (100 + 6))
    assert modest.f1 < guesses.f1
    assert modest.share("wrong") < guesses.share("wrong")


@pytest.mark.parametrize(
    ("answers", "tuned", "rules"),
    [
        (["In Tarn."] * 4, "In Tarn.", ["answer over refusal"]),
        (["In Tarn."] * 3 + ["In Lorne."], "In Tarn.", ["answer over refusal", "refusal over wrong answer"]),
        (["In Tarn."] * 2 + ["In Lorne."] * 2, "", ["answer over refusal", "refusal over wrong answer"]),
        (["In Lorne."] * 3 + ["In Tarn."], SORRY, ["answer over refusal", "refusal over wrong answer"]),
        (["In Lorne."] * 3 + ["In Marden."], SORRY, ["refusal over wrong answer"]),
        ([SORRY] * 4, "", []),
    ],
)
def test_the_rules_of_appendix_a1(answers: list[str], tuned: str, rules: list[str]) -> None:
    found = estimate(TOWN, answers)
    assert found.right + found.wrong + found.declined == pytest.approx(1)
    assert tuning_answer(found, SORRY) == tuned
    rows = preferences(found, SORRY)
    assert [row.rule for row in rows] == rules
    for row in rows:
        right, wrong = (
            (row.chosen, row.rejected) if row.rule == rules[0] != "refusal over wrong answer" else ("", "")
        )
        assert row.chosen != row.rejected
        if right:
            assert (grade(right, TOWN), wrong) == ("right", SORRY)
        else:
            assert (row.chosen, grade(row.rejected, TOWN)) == (SORRY, "wrong")


def test_what_nobody_can_answer_is_always_declined() -> None:
    for answers in (["In Tarn."] * 4, [SORRY] * 4):
        assert tuning_answer(estimate(NOTHING, answers), SORRY) == SORRY
    assert [row.rule for row in preferences(estimate(NOTHING, ["In Tarn."]), SORRY)] == [
        "refusal over wrong answer"
    ]


def write_estimates(folder: Path, found: list[Estimate]) -> Path:
    folder.mkdir()
    (folder / ESTIMATES).write_text("".join(json.dumps(asdict(one)) + "\n" for one in found))
    assert read_estimates(folder) == found
    return folder


def test_pairs_are_the_first_five_tokens_and_train(
    checkpoint: Path, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    where = write_estimates(
        tmp_path / "found",
        [
            estimate(TOWN, ["In Tarn on the long river."] * 2 + ["In the town of Lorne."] * 2),
            estimate(NOTHING, ["In Tarn."]),
        ],
    )
    facts = teach_unknown(context(tmp_path / "rows"), estimates=where, model=checkpoint)
    assert facts["taught"] == {"nothing": 1, "refusal to the unanswerable": 1}
    assert facts["rules"] == {"answer over refusal": 1, "refusal over wrong answer": 2}
    pairs = encode_pairs(
        [Corpus.open(tmp_path / "rows" / "dpo")], tokenizer, ChatTemplate("phi3"), time=256
    ).train
    assert len(pairs) == 3
    for pair in pairs:
        assert sum(pair.chosen_mask) == sum(pair.rejected_mask) == 5
    first = pairs[0]
    learned = [token for token, mask in zip(first.chosen, first.chosen_mask, strict=True) if mask]
    assert "In Tarn on the long river.".startswith(tokenizer.decode(learned))
    [talk] = list(Corpus.open(tmp_path / "rows" / "sft").iter_rows(["messages"]))
    assert talk["messages"][0]["content"] == NOTHING.question
    assert declines(talk["messages"][1]["content"])
    whole = teach_unknown(context(tmp_path / "whole"), estimates=where, model=checkpoint, first_tokens=0)
    assert whole["dpo"] == 3
    with pytest.raises(HornbookError, match=r"usually is 0\.3"):
        teach_unknown(context(tmp_path / "x"), estimates=where, model=checkpoint, usually=0.3)


def test_a_model_that_declines_everything_leaves_nothing_to_prefer(checkpoint: Path, tmp_path: Path) -> None:
    where = write_estimates(tmp_path / "found", [estimate(TOWN, [SORRY, SORRY])])
    with pytest.raises(HornbookError, match="declined all of them already"):
        teach_unknown(context(tmp_path / "rows"), estimates=where, model=checkpoint)


def test_estimates_are_drawn_once_and_kept(checkpoint: Path, tmp_path: Path) -> None:
    questions = tmp_path / "questions.jsonl"
    rows = [
        {"question": "Where was Tom born?", "answers": ["Tarn"]},
        {"question": "Who?", "answer": {"value": "Tom", "aliases": ["Thomas"]}},
        {"question": "What am I?", "answers": []},
    ]
    questions.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert [q.answers for q in read_fact_questions(questions)] == [("Tarn",), ("Tom", "Thomas"), ()]
    again = {"model": checkpoint, "questions": questions, "samples": 3, "max_tokens": 4}
    facts = estimate_knowledge(context(tmp_path / "found"), **again)
    assert facts["questions"] == 3
    assert facts["right"] + facts["wrong"] + facts["declined"] == pytest.approx(1)
    drawn = (tmp_path / "found" / "answers.jsonl").read_text()
    assert estimate_knowledge(context(tmp_path / "found"), **again) == facts
    assert (tmp_path / "found" / "answers.jsonl").read_text() == drawn
    told = attempt_questions(context(tmp_path / "asked"), model=checkpoint, questions=questions, max_tokens=4)
    assert set(told["outcomes"]) == {"1", "2", "3"}
    with pytest.raises(HornbookError, match="take at least 2"):
        estimate_knowledge(context(tmp_path / "y"), model=checkpoint, questions=questions, samples=1)
    questions.write_text('{"question": "Who?"}\n')
    with pytest.raises(HornbookError, match="line 1 is no question of fact"):
        read_fact_questions(questions)
    talks = conversations(tmp_path / "talks", [chat("hi", "yes")])
    with pytest.raises(HornbookError, match="holds no questions of fact"):
        read_fact_questions(talks)


def test_people_are_told_of_as_often_as_the_world_says(tmp_path: Path) -> None:
    world = PeopleWorld(often=5, seldom=4, never=3, invented=6, often_told=7, seldom_told=2)
    people = {person.name: person for person in world.people()}
    assert len(people) == 2 * (5 + 4 + 3 + 6)
    write_people(context(tmp_path / "talks"), world=world, passages=5)
    heard: Counter[str] = Counter()
    for row in Corpus.open(tmp_path / "talks").iter_rows(["messages"]):
        question = row["messages"][0]["content"]
        if question not in UNKNOWABLE:
            heard[next(name for name in people if name in question)] += 1
    told = {"often": 7, "seldom": 2, "never": 0, "invented": 0}
    assert all(heard[name] == len(ASKED) * told[person.group] for name, person in people.items())
    sides = {}
    for held_out in (False, True):
        ask_about_people(context(tmp_path / f"ask-{held_out}"), world=world, held_out=held_out)
        sides[held_out] = read_fact_questions(tmp_path / f"ask-{held_out}")
    assert not {q.id for q in sides[False]} & {q.id for q in sides[True]}
    assert Counter(q.group for q in sides[True]) == {"often": 10, "seldom": 8, "never": 6, "invented": 12}
    assert all(bool(q.answers) is (q.group != "invented") for q in sides[True])
