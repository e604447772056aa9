import pytest

from hornbook.errors import HornbookError
from hornbook.lm.base import Completion, Failure, LanguageModel, Message, Request, Sampling, ask
from hornbook.lm.simulated import Faults, SimulatedModel


def test_a_function_is_a_language_model():
    model = SimulatedModel("echo", lambda request: request.messages[-1].content.upper())
    assert isinstance(model, LanguageModel)
    [answer] = model.complete([ask("hello", system="be loud")])
    assert isinstance(answer, Completion)
    assert answer.text == "HELLO"


def test_schema_is_checked():
    schema = {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}}
    good, bad = SimulatedModel("m", lambda r: {"n": 1 if r.salt else "one"}).complete(
        [ask("?", schema=schema, salt="x"), ask("?", schema=schema)]
    )
    assert good.value == {"n": 1}
    assert isinstance(bad, Failure)
    assert bad.kind == "malformed"
    assert "integer" in bad.message


def test_faults_repeat_and_have_their_share():
    model = SimulatedModel("m", lambda r: "fine", faults=Faults(refusals=0.3, server_errors=0.1))
    requests = [ask("?", sample_index=i) for i in range(2000)]
    kinds = [getattr(r, "kind", None) for r in model.complete(requests)]
    assert kinds == [getattr(r, "kind", None) for r in model.complete(requests)]
    assert 500 < kinds.count("refusal") < 700
    assert 140 < kinds.count("server") < 260


def test_wrong_settings_name_the_field_and_value():
    with pytest.raises(HornbookError, match=r"Sampling.top_p is 0"):
        Sampling(top_p=0)
    with pytest.raises(HornbookError, match="exactly one"):
        Request(prompt="a", messages=(Message("user", "b"),))
