from random import Random

import pytest

from hornbook.errors import HornbookError
from hornbook.evals.skill_mix.checkable import (
    CHECKABLE,
    TOPIC_WORDS,
    about,
    compose,
    exact_grade,
    exact_points,
    mechanical_judge,
    mechanical_student,
    well_formed,
)
from hornbook.evals.skill_mix.protocol import (
    Combination,
    Piece,
    combinations,
    count_sentences,
    grade,
    names_skill,
    write,
)
from hornbook.evals.skill_mix.score import corrected_full_marks, judge_errors, score

SKILLS = [item.skill for item in CHECKABLE.values()]
PLAIN = "The old ferry crossed at noon. Nobody looked up from the long table."


@pytest.mark.parametrize("name", CHECKABLE)
def test_a_program_sees_its_skill_in_the_example_and_in_every_clause_and_not_in_plain_text(name):
    item = CHECKABLE[name]
    assert item.shows(item.skill.example)
    assert not item.shows(PLAIN)
    assert not names_skill(item.skill.example, item.skill)
    rng = Random(1)
    for clause in item.clauses:
        for nouns in TOPIC_WORDS.values():
            a, b, c = rng.sample(nouns, 3)
            assert item.shows(clause.format(a=a, b=b, c=c)), clause


@pytest.mark.parametrize(
    ("name", "text"),
    [  # nearly the skill: what a careless program would let through
        ("addition", "They had 3 + 4 = 8 chairs."),
        ("addition", "They had 3 + 4 = 7 chairs and 1 + 1 = 3 tables."),
        ("countdown", "They called 3, 1, 2 and ran."),
        ("unit conversion", "It took 2 hours or 100 minutes."),
        ("modus ponens", "If it rains, then we stay; we stay, so it rains."),
        ("modus tollens", "If tea is hot, then a cup is warm; tea is not hot, so a cup is not warm."),
        ("hypothetical syllogism", "If it is, then she is; if he is, then we go; so if it is, then we go."),
        ("disjunctive syllogism", "It is either the cat or the wind; it is not the cat, so it is the dog."),
        ("transitive inference", "Ann is older than Ben, Ben is older than Cy, so Cy is older than Ann."),
        ("categorical syllogism", "All ravens are black, this is black, so this is a raven."),
        ("anaphora", "We came early, we came hungry, they left."),
        ("epistrophe", "He sold the cow, I fed the cow, they miss the goat."),
        ("chiasmus", "It is work before rest, never work before rest."),
        ("alliteration", "Seven seven seven."),
        ("alliteration", "Seven, silent swans."),
        ("palindrome", "Anna met Otto. aaaaa"),
        ("epizeuxis", "It was a long longer way."),
        ("polysyndeton", "Bread and salt; milk and honey and tea."),
        ("tricolon", "He counted the cups and the plates."),
        ("litotes", "It was not an uncle."),
        ("rhyme", "We met at night, the same night."),
        ("parenthesis", "The door (open) stood there."),
        ("antithesis", "It was not here. But they came."),
        ("counterfactual reasoning", "If we know, we will wait."),
        ("anadiplosis", "He gave us time, time."),
        ("simile", "As soon as he came."),
    ],
)  # fmt: skip
def test_near_misses(name, text):
    assert not CHECKABLE[name].shows(text)


def test_topic_and_form():
    assert about("Two hives and a veil.", "beekeeping")
    assert not about("A hive, a hive, two hives.", "beekeeping")  # one noun, however often
    assert not about("The beehives unveil.", "beekeeping")
    good = ("A plain text.", 'He said "no" twice.', "3, 2, 1 and go!")
    assert all(map(well_formed, good))
    bad = (
        "no capital.",
        "No end",
        "Go go go now.",
        "It is so. It is so.",
        'An "open quote.',
        "An (open bracket.",
        "",
    )
    assert not any(map(well_formed, bad))


def test_what_no_program_checks_is_refused():
    with pytest.raises(HornbookError, match="empathy"):
        exact_points("A.", ["empathy"], "sailing", 1)
    with pytest.raises(HornbookError, match="falconry"):
        exact_points("A.", ["simile"], "falconry", 1)


def test_every_skill_can_be_composed_with_every_other_for_full_marks():
    rng = Random(0)
    for first in SKILLS:
        for second in SKILLS:
            if first is not second:
                task = Combination(id="x", skills=(first, second), topic=rng.choice(list(TOPIC_WORDS)))
                text = compose(task, rng)
                assert count_sentences(text) == 1
                assert exact_grade(Piece(task=task, generation=0, text=text)).points == (1,) * 5, text


def test_a_perfect_student_and_an_honest_judge_have_full_marks_at_every_k():
    for k in (1, 2, 3, 5):
        tasks = combinations(SKILLS, list(TOPIC_WORDS), k=k, count=10)
        pieces = write(mechanical_student(success=1.0), tasks, generations=1)
        grades = grade(mechanical_judge(sensitivity=1, specificity=1), pieces, rounds=1)
        assert score(grades).full_marks.value == 1.0
        assert [g.points for g in grades] == [exact_grade(p).points for p in pieces]


def test_full_marks_fall_as_success_to_the_power_of_k_and_the_best_of_three_lifts_them():
    for k in (1, 2, 4):
        tasks = combinations(SKILLS, list(TOPIC_WORDS), k=k, count=200)
        pieces = write(mechanical_student(success=0.7), tasks)
        truth = [exact_grade(piece) for piece in pieces]
        found, single = score(truth), 0.7**k
        # forms overlap a little (a clause may show a second skill), so the share is a little above
        share = found.pieces_full.value
        assert single - 0.06 < share < single + 0.10
        assert found.full_marks.value == pytest.approx(1 - (1 - share) ** 3, abs=0.10)
        assert score(truth, over="mean").full_marks.value == pytest.approx(share)


def test_the_judges_error_is_measured_and_taken_out_of_the_score():
    tasks = combinations(SKILLS, list(TOPIC_WORDS), k=2, count=300)
    student = mechanical_student(success=0.6)
    pieces = write(student, tasks, generations=1)
    judge = mechanical_judge(sensitivity=0.95, specificity=0.5, unreadable=0.1)
    judged = grade(judge, pieces, rounds=1)
    truth = [exact_grade(piece) for piece in pieces]
    errors = judge_errors(judged[:150], truth[:150])
    assert errors["skills"].sensitivity.interval.low < 0.95 < errors["skills"].sensitivity.interval.high
    assert errors["skills"].specificity.interval.low < 0.5 < errors["skills"].specificity.interval.high
    rest, true = score(judged[150:]), score(truth[150:])
    assert rest.unread == rest.unscored_pieces > 0  # a judge that says nothing is counted, not zero
    found = corrected_full_marks(rest, errors)
    assert found.interval.low < true.pieces_full.value < found.interval.high
    assert abs(found.value - true.pieces_full.value) < abs(rest.pieces_full.value - true.pieces_full.value)


def test_the_majority_of_three_gradings_errs_less_than_one():
    tasks = combinations(SKILLS, list(TOPIC_WORDS), k=3, count=60)
    pieces = write(mechanical_student(success=0.5), tasks, generations=1)
    truth = [exact_grade(piece) for piece in pieces]
    judge, wrong = mechanical_judge(sensitivity=0.8, specificity=0.8), []
    for rounds in (1, 3):
        errors = judge_errors(grade(judge, pieces, rounds=rounds), truth)["skills"]
        sides = (errors.sensitivity, errors.specificity)
        wrong.append(sum(side.trials - side.hits for side in sides) / sum(side.trials for side in sides))
    assert wrong[1] < wrong[0]  # 0.2 against 3 * 0.2**2 * 0.8 + 0.2**3 = 0.104
    assert wrong[1] == pytest.approx(0.104, abs=0.07)
