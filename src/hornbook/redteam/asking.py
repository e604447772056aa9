"""Asking a model for a JSON object, with or without a server that constrains answers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hornbook.lm.base import Completion, Failure, FailureKind, LanguageModel, Request
from hornbook.lm.parse import extract_json, schema_problems

UNAVAILABLE: frozenset[FailureKind] = frozenset({"timeout", "connection", "server", "rate_limit"})
"""Failures of the service, not of the text: the same call may well succeed later."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """An answer that is not the object asked for, and why. `service`: none came, try again another day."""

    why: str
    service: bool = False


Answer = Mapping[str, Any] | Unreadable


def ask_objects(
    model: LanguageModel, requests: Sequence[Request], schema: Mapping[str, Any], *, retries: int = 0
) -> list[Answer]:
    """One object for each request, or why there is none; the unreadable are asked `retries` times more."""
    found: list[Answer] = [Unreadable("not asked")] * len(requests)
    waiting = list(range(len(requests)))
    for attempt in range(retries + 1):
        batch = [
            replace(
                requests[i],
                schema=schema if model.capabilities.supports_schema else None,
                sample_index=requests[i].sample_index * (retries + 1) + attempt,
            )
            for i in waiting
        ]
        for i, result in zip(waiting, model.complete(batch), strict=True):
            found[i] = _read(result, schema)
        waiting = [i for i in waiting if isinstance(answer := found[i], Unreadable) and not answer.service]
        if not waiting:
            break
    return found


def _read(result: Completion | Failure, schema: Mapping[str, Any]) -> Answer:
    if isinstance(result, Failure):
        return Unreadable(f"{result.kind}: {result.message}", service=result.kind in UNAVAILABLE)
    value = result.value
    if value is None:
        try:
            value = extract_json(result.text)
        except ValueError as error:
            return Unreadable(str(error))
    problems = schema_problems(value, schema)
    if problems:
        return Unreadable("; ".join(problems[:3]))
    found: Mapping[str, Any] = value
    return found


def object_schema(**properties: Mapping[str, Any]) -> dict[str, Any]:
    """A JSON Schema of an object with exactly these properties, in this order."""
    return {
        "type": "object",
        "properties": {name: dict(value) for name, value in properties.items()},
        "required": list(properties),
        "additionalProperties": False,
    }
