"""Answers by a schema, held against the schema by an own reading of it; and what is refused, in sentences."""

import builtins
import json
import re
from typing import Any

import pytest
from engine_helpers import ByteTokenizer, ragged, small

from hornbook.errors import HornbookError
from hornbook.infer.engine import Engine
from hornbook.lm.base import Sampling

SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 8},
        "age": {"type": "integer", "minimum": 3, "maximum": 99},
        "kind": {"enum": ["fox", "hen"]},
        "tags": {"type": "array", "items": {"type": "boolean"}, "maxItems": 2},
    },
    "required": ["name", "age", "kind", "tags"],
    "additionalProperties": False,
}


def engine(**changes: Any) -> Engine:
    return Engine(small(), ByteTokenizer(), weights="fp32", stop_tokens=[0], **changes)


@pytest.mark.oracle
@pytest.mark.parametrize("native", [None, False])
def test_every_answer_satisfies_the_schema(native: bool | None) -> None:
    """A model of random numbers, warm: without the grammar nothing of it would be JSON."""
    sampling = Sampling(temperature=1.5, seed=1, max_tokens=120)
    answers = engine(native=native).generate(ragged(5), sampling, 3, schemas=[SCHEMA] * 5)
    for answer in (a for own in answers for a in own):
        assert answer.finish_reason == "stop"
        value = json.loads(answer.text)
        assert set(value) == {"name", "age", "kind", "tags"}
        assert len(value["name"]) <= 8
        assert 3 <= value["age"] <= 99
        assert value["kind"] in ("fox", "hen")
        assert len(value["tags"]) <= 2
        assert all(isinstance(tag, bool) for tag in value["tags"])


@pytest.mark.oracle
def test_a_schema_does_not_reach_its_neighbours() -> None:
    sampling = Sampling(temperature=1.0, seed=1, max_tokens=30)
    one = engine()
    together = one.generate(ragged(3), sampling, schemas=[None, SCHEMA, {"type": "integer"}])
    assert together[0][0].tokens == one.generate(ragged(3)[:1], sampling)[0][0].tokens
    assert re.fullmatch(r"-?\d+", together[2][0].text)


@pytest.mark.oracle
@pytest.mark.parametrize(
    ("schema", "says"),
    [
        ({"type": "objec"}, "objec"),
        ({"type": "string", "minLength": 5, "maxLength": 2}, "minLength"),
        ({"allOf": [{"type": "string"}, {"type": "integer"}]}, "incompatible"),
        ({"type": "integer", "minimum": 5, "maximum": 2}, "minimum"),
        ({"$ref": "#/nowhere"}, "nowhere"),
        ({"enum": []}, "empty"),
    ],
)
def test_schemas_that_cannot_be_satisfied_are_refused(schema: dict[str, Any], says: str) -> None:
    with pytest.raises(HornbookError, match=f"This JSON Schema cannot be used: .*{says}"):
        engine().generate([[1]], schemas=[schema])


def test_the_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def refuse(name: str, *rest: Any, **more: Any) -> Any:
        if name == "llguidance":
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(HornbookError, match=r"pip install 'hornbook\[schema\]'"):
        engine().generate([[1]], schemas=[{"type": "integer"}])


def test_a_schema_needs_a_tokenizer() -> None:
    with pytest.raises(HornbookError, match="tokenizer"):
        Engine(small(), weights="fp32").generate([[1]], schemas=[{"type": "integer"}])
