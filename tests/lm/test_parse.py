import pytest

from hornbook.lm.base import Completion, Failure
from hornbook.lm.parse import extract_code, extract_json, fences, read_verdicts, schema_problems, verdict


def test_code_in_fences_and_without():
    text = "Sure!\n```python\ndef f():\n    return 1\n```\nand\n```sh\nrm -rf /\n```\n"
    assert extract_code(text) == "def f():\n    return 1\n"
    assert extract_code("```\nx = 1\n```") == "x = 1\n"
    assert extract_code("x = 1") == "x = 1"
    assert extract_code("```sh\nls\n```") is None
    assert extract_code("```python\ncut off") == "cut off"
    assert [f.closed for f in fences("```a\n1\n```\n```b\n2")] == [True, False]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": 1}', {"a": 1}),
        ('Here you are:\n```json\n{"a": [1, 2]}\n```', {"a": [1, 2]}),
        ('I think {"a": {"b": "}"}} is right.', {"a": {"b": "}"}}),
        ("The list is [1, 2, 3].", [1, 2, 3]),
        ("{not json} but {\"a\": 1}", {"a": 1}),
    ],
)  # fmt: skip
def test_json_wherever_it_stands(text, value):
    assert extract_json(text) == value


@pytest.mark.parametrize("text", ["", "no", '{"a": 1', '{"a": NaN}', "[" * 100_000])
def test_what_is_not_json_raises_a_sentence(text):
    with pytest.raises(ValueError, match="JSON"):
        extract_json(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Reasons...\nVerdict: YES", "yes"),
        ("yes or no? I say\nno.", "no"),
        ("yes and no", None),
        ("maybe", None),
        ("", None),
        ("nothing is known", None),  # "no" inside a word is not a verdict
        ("yesterday: no", "no"),
    ],
)
def test_a_verdict_off_the_menu_is_unscored(text, expected):
    assert verdict(text, ["yes", "no"]) == expected


def test_the_longer_spelling_wins_and_unscored_are_counted():
    menu = {"right": ["supported"], "wrong": ["not supported"]}
    assert verdict("It is not supported.", menu) == "wrong"
    results = [
        Completion(text="supported"),
        Completion(text="hm"),
        Failure(kind="timeout", message="supported"),
    ]
    verdicts = read_verdicts(results, menu)
    assert verdicts.values == ("right", None, None)
    assert (verdicts.unscored, verdicts.count("right")) == (2, 1)


SCHEMA = {
    "type": "object",
    "properties": {
        "n": {"type": "integer", "minimum": 1},
        "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "maxItems": 2},
        "next": {"anyOf": [{"type": "null"}, {"$ref": "#"}]},
    },
    "required": ["n"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ({"n": 1, "tags": ["a"], "next": {"n": 2, "next": None}}, None),
        ({"n": 1.0}, None),
        ({"n": True}, "expected integer"),
        ({"n": 0}, "at least 1"),
        ({}, "needs the key 'n'"),
        ({"n": 1, "m": 1}, "'m' is not allowed"),
        ({"n": 1, "tags": ["c"]}, r"tags\[0\]: expected one of"),
        ({"n": 1, "tags": ["a", "b", "a"]}, "at most 2"),
        ({"n": 1, "next": {"n": 0}}, "alternatives"),
        ([], "expected object"),
    ],
)
def test_schema(value, problem):
    problems = schema_problems(value, SCHEMA)
    if problem is None:
        assert problems == []
    else:
        import re

        assert any(re.search(problem, text) for text in problems), problems
