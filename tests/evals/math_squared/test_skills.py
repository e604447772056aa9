"""Skill extraction: every name in one cluster, every question one of the list, whatever a model answers."""

from random import Random

import pytest

from hornbook.errors import HornbookError
from hornbook.evals.math_squared.lexical import lexical_model
from hornbook.evals.math_squared.questions import MATH_SKILLS, single
from hornbook.evals.math_squared.skills import Exemplar, against, cluster, extract, label, relabel
from hornbook.lm.base import Failure
from hornbook.lm.simulated import SimulatedModel

QUESTIONS = [Exemplar(question=f"q{i}", answer=str(i)) for i in range(12)]


def says(function):
    return SimulatedModel("test", lambda request: function(request.messages[-1].content))


def test_names_left_out_named_twice_or_invented_end_in_one_cluster_each():
    answer = {
        "clusters": [
            {"name": "Number Sense!", "members": ["gcd", "lcm", "invented"]},
            {"name": "other", "members": ["lcm", "areas"]},
        ]
    }
    found = cluster(says(lambda prompt: answer), ["gcd", "lcm", "areas", "lonely"])
    assert found == {"gcd": "number_sense", "lcm": "number_sense", "areas": "other", "lonely": "lonely"}


def test_clusters_of_many_requests_are_clustered_again():
    def answer(prompt):
        names = prompt.split("<<<\n")[1].split("\n>>>")[0].split("\n")
        groups = {}
        for name in names:
            groups.setdefault(name.split("_")[0], []).append(name)
        return {"clusters": [{"name": head, "members": members} for head, members in groups.items()]}

    names = [f"{kind}_{i}" for i in range(20) for kind in ("gcd", "area")]
    found = cluster(says(answer), names, batch=7)
    assert set(found) == set(names)
    assert dict(found.items()) == {name: name.split("_")[0] for name in names}


def test_a_broken_answer_leaves_every_name_alone():
    broken = SimulatedModel("broken", lambda request: Failure(kind="malformed", message="no"))
    assert cluster(broken, ["a", "b"]) == {"a": "a", "b": "b"}
    assert label(broken, ["q"]) == [None]
    with pytest.raises(HornbookError, match="named the skill of none"):
        extract(broken, QUESTIONS)


def test_an_answer_off_the_list_is_asked_again_and_then_becomes_the_nearest_name():
    asked = []

    def answer(prompt):
        asked.append(prompt)
        if "q1" in prompt and "Your last answer" in prompt:
            return {"skill": "areas", "reason": ""}
        return {"skill": "gcds" if "q1" in prompt or "q2" in prompt else "areas", "reason": ""}

    found, nearest = relabel(says(answer), ["q0", "q1", "q2"], ["areas", "gcd"])
    assert found == ["areas", "areas", "gcd"]
    assert nearest == 1
    assert len(asked) == 5


def test_skills_with_too_few_questions_are_dropped_from_the_repository_and_named():
    def answer(prompt):
        if "Put names" in prompt:
            return {"clusters": []}
        return {"skill": "rare" if "q7" in prompt else "usual", "reason": ""}

    found = extract(says(answer), QUESTIONS, least=5)
    assert list(found.repository) == ["usual"]
    assert len(found.repository["usual"]) == 11
    assert found.dropped == ("rare",)


def test_words_alone_find_the_skills_of_our_questions():
    rng = Random(5)
    made = [single(rng.choice(MATH_SKILLS), rng) for _ in range(240)]
    exemplars = [Exemplar(question=q.text, answer=q.answer) for q in made]
    found = extract(lexical_model([e.question for e in exemplars]), exemplars)
    truth = [q.skills[0] for q in made]
    assert against(found.coarse, truth).v_measure > 0.8
    mixed = list(found.coarse)
    rng.shuffle(mixed)
    assert against(mixed, truth).v_measure < 0.6


def test_measures_of_clusters_by_hand():
    scored = against(["a", "a", "b", None], ["x", "y", "z", "x"])
    assert scored.questions == 3
    assert scored.clusters == 2
    assert scored.purity == pytest.approx(2 / 3)
    assert scored.completeness == pytest.approx(1)
    with pytest.raises(HornbookError, match="No question has a label"):
        against([None], ["x"])
