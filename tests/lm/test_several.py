"""Several models with weights: shares, stability, and what happens when one of them fails."""

import pytest
from mock_openai import MockOpenAI

from hornbook.errors import HornbookError
from hornbook.lm.base import Message, Request, ask
from hornbook.lm.endpoint import EndpointModel, EndpointSettings
from hornbook.lm.several import SeveralModels, parse_several
from hornbook.lm.simulated import SimulatedModel
from hornbook.lm.store import CallStore


def named(name):
    return SimulatedModel(name, lambda request: name)


def test_shares_follow_the_weights_and_another_model_moves_only_its_share():
    a, b, c = named("a"), named("b"), named("c")
    requests = [ask(f"question {i}") for i in range(4000)]
    two, three = SeveralModels([(a, 3), (b, 1)]), SeveralModels([(b, 1), (a, 3), (c, 1)])
    texts = [x.text for x in two.complete(requests)]
    assert abs(texts.count("a") - 3000) < 5 * (4000 * 0.75 * 0.25) ** 0.5
    after = [x.text for x in three.complete(requests)]
    moved = [new for old, new in zip(texts, after) if old != new]
    assert set(moved) == {"c"}
    assert abs(len(moved) - 800) < 5 * (4000 * 0.2 * 0.8) ** 0.5


def test_a_conversation_stays_with_its_model():
    several = SeveralModels([(named("a"), 1), (named("b"), 1)])
    for i in range(50):
        first = (Message("system", "Be brief."), Message("user", f"question {i}"))
        later = (*first, Message("assistant", "what?"), Message("user", "again"))
        assert several.model_of(Request(messages=first)) is several.model_of(Request(messages=later))


def test_one_that_is_down_costs_nothing_of_the_others(tmp_path):
    settings = EndpointSettings(backoff_seconds=0.01, max_backoff_seconds=0.02, max_attempts=2)
    requests = [ask(f"question {i}") for i in range(40)]
    with CallStore(tmp_path / "c.sqlite") as store, MockOpenAI() as good, MockOpenAI(status=401) as other:
        up = EndpointModel(good.url, "m", store=store, settings=settings)
        down = EndpointModel(other.url, "m", store=store, settings=settings)
        several = SeveralModels([(up, 1), (down, 1)])
        with pytest.raises(HornbookError, match=r"refuses the model .* status 401"):
            several.complete(requests)
        assert 0 < sum(good.answered.values()) < 40
        other.set(status=200)
        answers = several.complete(requests)
        assert [a.text for a in answers] == [f"echo: question {i}" for i in range(40)]
        assert set((good.answered + other.answered).values()) == {1}
        assert several.call_key(requests[0]) == several.model_of(requests[0]).call_key(requests[0])


@pytest.mark.parametrize(
    ("spec", "found"),
    [
        ("http://a/v1#m", None),
        ("runs/model", None),
        ("3*http://a/v1#m, http://b/v1#n", [("http://a/v1#m", 3.0), ("http://b/v1#n", 1.0)]),
        ("0.5*smollm2,http://b/v1#n*", [("smollm2", 0.5), ("http://b/v1#n*", 1.0)]),
        ("2*http://a/v1#m", [("http://a/v1#m", 2.0)]),
    ],
)
def test_specifications(spec, found):
    assert parse_several(spec) == found


@pytest.mark.parametrize("spec", ["x*http://a/v1#m", "0*http://a/v1#m,b", "1*,b", "-1*a,b"])
def test_wrong_specifications_are_refused(spec):
    with pytest.raises(HornbookError, match="no model with a weight"):
        parse_several(spec)


def test_wrong_models_are_refused():
    for models, words in [
        ([], "at least one"),
        ([(named("a"), 0)], "above 0"),
        ([(named("a"), 1)] * 2, "twice"),
    ]:
        with pytest.raises(HornbookError, match=words):
            SeveralModels(models)
    with pytest.raises(HornbookError, match="cannot score"):
        SeveralModels([(named("a"), 1)]).score([("a", "b")])
