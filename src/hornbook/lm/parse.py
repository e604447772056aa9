"""From a model's words to values: fenced code, JSON, schemas, verdicts.

What cannot be read is never guessed: a verdict off the menu is None (unscored,
to be counted), JSON that breaks its schema is a `Failure`.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hornbook.lm.base import (
    Completion,
    Failure,
    FailureKind,
    FinishReason,
    Json,
    Request,
    TokenLogprob,
    Usage,
)

_FENCE = re.compile(r"^([ \t]*)(`{3,}|~{3,})[ \t]*([^\n`]*)\n(.*?)(?:^[ \t]*\2[`~]*[ \t]*$|\Z)", re.M | re.S)


@dataclass(frozen=True, slots=True)
class Fence:
    """A fenced block: its language word (lower case, may be empty), its body, whether it was closed."""

    language: str
    body: str
    closed: bool


def fences(text: str) -> list[Fence]:
    """Every fenced block of `text`, in order. An unclosed last fence runs to the end."""
    found = []
    for match in _FENCE.finditer(text):
        indent, mark, info, body = match.groups()
        closed = match.group(0)[match.end(4) - match.start() :].strip().startswith(mark)
        if indent:
            body = "\n".join(line.removeprefix(indent) for line in body.split("\n"))
        found.append(Fence(info.strip().split(" ")[0].lower(), body, closed))
    return found


def extract_code(text: str, *, language: str = "python") -> str | None:
    """The program in an answer: the longest fence of `language`, else the longest
    fence without a language, else the whole text when it has no fence at all.

    Returns None when the only fences are of other languages.
    """
    blocks = fences(text)
    if not blocks:
        return text.strip() or None
    names = {language, {"python": "py"}.get(language, language), f"{language}3"}
    for wanted in (names, {""}):
        bodies = [block.body for block in blocks if block.language in wanted and block.body.strip()]
        if bodies:
            return max(bodies, key=len)
    return None


def extract_json(text: str) -> Json:
    """The JSON value in an answer: a whole-text value, a fence, or the first
    balanced object or array in prose.

    Raises `ValueError` with a sentence a model can act on when there is none.
    """
    candidates = [text.strip()]
    candidates += [block.body for block in fences(text) if block.language in ("json", "")]
    problem = "the answer holds no JSON"
    for candidate in candidates:
        try:
            return _loads(candidate)
        except ValueError as error:
            if candidate.lstrip().startswith(("{", "[")):
                problem = f"the JSON does not parse: {error}"
    decoder = json.JSONDecoder(parse_constant=_no_constant)
    for start in (match.start() for match in re.finditer(r"[{\[]", text)):
        try:
            return decoder.raw_decode(text, start)[0]
        except ValueError:
            continue
        except RecursionError:  # every bracket inside would say the same, slowly
            problem = "the JSON is nested too deeply"
            break
    raise ValueError(problem)


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _loads(text: str) -> Json:
    try:
        return json.loads(text, parse_constant=_no_constant)
    except RecursionError:
        raise ValueError("the JSON is nested too deeply") from None


def verdict(text: str, menu: Sequence[str] | Mapping[str, Iterable[str]]) -> str | None:
    """The one item of `menu` that the answer's last line that names any names; else None.

    `menu` is a list of words or a mapping from each verdict to the words that
    mean it. Case and punctuation around the word do not count. Two different
    verdicts on that line, or none anywhere, is None: unscored, never a guess.
    """
    words = menu if isinstance(menu, Mapping) else {item: (item,) for item in menu}
    patterns = {
        name: re.compile(r"(?<!\w)(?:" + "|".join(re.escape(s) for s in spellings) + r")(?!\w)", re.I)
        for name, spellings in words.items()
    }
    for line in reversed(text.strip().splitlines()):
        spans = sorted(
            ((m.start(), -m.end()), name)
            for name, pattern in patterns.items()
            for m in pattern.finditer(line)
        )
        named: set[str] = set()
        covered = -1
        for (start, minus_end), name in spans:
            # "not supported" covers "supported": the longer spelling wins where both match.
            if start >= covered:
                named.add(name)
                covered = -minus_end
        if named:
            return named.pop() if len(named) == 1 else None
    return None


@dataclass(frozen=True, slots=True)
class Verdicts:
    """Read verdicts with the count of the unreadable beside them."""

    values: tuple[str | None, ...]

    @property
    def unscored(self) -> int:
        return sum(value is None for value in self.values)

    def count(self, name: str) -> int:
        return sum(value == name for value in self.values)


def read_verdicts(
    results: Iterable[Completion | Failure], menu: Sequence[str] | Mapping[str, Iterable[str]]
) -> Verdicts:
    """One verdict for each result; a `Failure` is unscored as well."""
    return Verdicts(tuple(verdict(r.text, menu) if isinstance(r, Completion) else None for r in results))


_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int, float),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}


def _is_type(value: Json, name: str) -> bool:
    if isinstance(value, bool):
        return name == "boolean"
    if name == "integer":
        return isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    return isinstance(value, _TYPES.get(name, (object,)))


def _same(a: Json, b: Json) -> bool:
    # JSON tells true from 1; Python's == does not.
    return isinstance(a, bool) == isinstance(b, bool) and bool(a == b)


def schema_problems(value: Json, schema: Json, where: str = "$", root: Json = None) -> list[str]:
    """Why `value` breaks a JSON Schema, one sentence a problem; [] when it does not.

    Covers what answers are asked for: type, enum, const, properties, required,
    additionalProperties, items, prefixItems, sizes, ranges, pattern, anyOf,
    oneOf, allOf, not and local `$ref`. Other keywords (such as format) do not constrain.
    """
    root = schema if root is None else root
    if schema is True or schema == {}:
        return []
    if schema is False:
        return [f"{where}: nothing is allowed here"]
    problems: list[str] = []
    if "$ref" in schema:
        target = root
        for part in str(schema["$ref"]).removeprefix("#").strip("/").split("/"):
            if part:
                target = target[part.replace("~1", "/").replace("~0", "~")]
        problems += schema_problems(value, target, where, root)
    if "type" in schema:
        names = [schema["type"]] if isinstance(schema["type"], str) else list(schema["type"])
        if not any(_is_type(value, name) for name in names):
            return [*problems, f"{where}: expected {' or '.join(names)}, got {_short(value)}"]
    if "enum" in schema and not any(_same(value, item) for item in schema["enum"]):
        problems.append(f"{where}: expected one of {json.dumps(schema['enum'])}, got {_short(value)}")
    if "const" in schema and not _same(value, schema["const"]):
        problems.append(f"{where}: expected {json.dumps(schema['const'])}, got {_short(value)}")
    for name, wanted in (("anyOf", "at least one"), ("oneOf", "exactly one")):
        if name in schema:
            fits = sum(not schema_problems(value, option, where, root) for option in schema[name])
            if fits == 0 or (name == "oneOf" and fits != 1):
                problems.append(f"{where}: fits {fits} of the alternatives, {wanted} is needed")
    for option in schema.get("allOf", ()):
        problems += schema_problems(value, option, where, root)
    if "not" in schema and not schema_problems(value, schema["not"], where, root):
        problems.append(f"{where}: is what the schema forbids")
    if isinstance(value, dict):
        problems += _object_problems(value, schema, where, root)
    elif isinstance(value, list):
        problems += _array_problems(value, schema, where, root)
    elif isinstance(value, str):
        problems += _size_problems(len(value), schema, "Length", where, "characters")
        if "pattern" in schema and not re.search(schema["pattern"], value):
            problems.append(f"{where}: {_short(value)} does not match {schema['pattern']!r}")
    elif isinstance(value, int | float) and not isinstance(value, bool):
        problems += _range_problems(value, schema, where)
    return problems


def _object_problems(value: dict[str, Json], schema: Json, where: str, root: Json) -> list[str]:
    problems = [f"{where}: needs the key {key!r}" for key in schema.get("required", ()) if key not in value]
    properties = schema.get("properties", {})
    extra = schema.get("additionalProperties", True)
    for key, item in value.items():
        inner = f"{where}.{key}"
        if key in properties:
            problems += schema_problems(item, properties[key], inner, root)
        elif extra is False:
            problems.append(f"{where}: the key {key!r} is not allowed")
        else:
            problems += schema_problems(item, extra, inner, root)
    return problems + _size_problems(len(value), schema, "Properties", where, "keys")


def _array_problems(value: list[Json], schema: Json, where: str, root: Json) -> list[str]:
    problems = _size_problems(len(value), schema, "Items", where, "items")
    first = schema.get("prefixItems", [])
    for i, item in enumerate(value):
        inner = first[i] if i < len(first) else schema.get("items", True)
        problems += schema_problems(item, inner, f"{where}[{i}]", root)
    if schema.get("uniqueItems") and len({json.dumps(item, sort_keys=True) for item in value}) < len(value):
        problems.append(f"{where}: items repeat")
    return problems


def _size_problems(size: int, schema: Json, name: str, where: str, unit: str) -> list[str]:
    problems = []
    if size < schema.get(f"min{name}", 0):
        problems.append(f"{where}: has {size} {unit}, at least {schema[f'min{name}']} are needed")
    if size > schema.get(f"max{name}", size):
        problems.append(f"{where}: has {size} {unit}, at most {schema[f'max{name}']} are allowed")
    return problems


def _range_problems(value: float, schema: Json, where: str) -> list[str]:
    problems = []
    checks = (
        ("minimum", value >= schema.get("minimum", value), "at least"),
        ("maximum", value <= schema.get("maximum", value), "at most"),
        ("exclusiveMinimum", "exclusiveMinimum" not in schema or value > schema["exclusiveMinimum"], "above"),
        ("exclusiveMaximum", "exclusiveMaximum" not in schema or value < schema["exclusiveMaximum"], "below"),
    )
    for name, fits, words in checks:
        if not fits:
            problems.append(f"{where}: {value} must be {words} {schema[name]}")
    step = schema.get("multipleOf")
    if step and abs(value / step - round(value / step)) > 1e-9:
        problems.append(f"{where}: {value} must be a multiple of {step}")
    return problems


def _short(value: Json) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."


def answer_in_schema(
    request: Request,
    text: str,
    *,
    finish_reason: FinishReason = "stop",
    usage: Usage | None = None,
    raw: Json = None,
    logprobs: tuple[TokenLogprob, ...] | None = None,
    latency_seconds: float = 0.0,
) -> Completion | Failure:
    """A completion whose `value` is checked JSON when the request has a schema, else a `Failure`.

    Cut JSON (finish reason "length") is `truncated`, the rest `malformed`; both
    keep the text in `raw`.
    """
    usage = usage or Usage()
    value: Json = None
    if request.schema is not None:
        try:
            value = extract_json(text)
            problems = schema_problems(value, request.schema)
        except ValueError as error:
            problems = [str(error)]
        if problems:
            kept = text if raw is None else raw
            kind: FailureKind = "truncated" if finish_reason == "length" else "malformed"
            message = "; ".join(problems[:5])
            if kind == "truncated":
                message = f"cut off at max_tokens = {request.sampling.max_tokens}; allow more ({message})"
            return Failure(kind=kind, message=message, raw=kept, usage=usage)
    return Completion(
        text=text,
        finish_reason=finish_reason,
        usage=usage,
        raw=raw,
        logprobs=logprobs,
        value=value,
        latency_seconds=latency_seconds,
    )
