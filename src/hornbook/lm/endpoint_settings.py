"""The patience of an endpoint client, as settings."""

import os
from dataclasses import dataclass, field

from hornbook.errors import HornbookError


def _told() -> int | None:
    """What the user says of all endpoints, for those that no program opens with settings of its own."""
    text = os.environ.get("HORNBOOK_AT_ONCE", "").strip()
    if text and not text.isdecimal():
        raise HornbookError(f"HORNBOOK_AT_ONCE is {text!r}; accepted is a number of calls, such as 64.")
    return int(text) if text else None


@dataclass(frozen=True, kw_only=True)
class EndpointSettings:
    """How patient to be. Seconds.

    `timeout_seconds` is for one try, `deadline_seconds` for a row with all its
    tries. A 429 is tried again until the deadline; other faults at most
    `max_attempts` times. `max_concurrency`: so many calls at once from the
    first on, fewer while the server refuses some (default: HORNBOOK_AT_ONCE);
    None: how many it takes is found by asking. `serve_failures`: take stored
    refusals, cut and malformed answers from the store too, instead of asking
    again.
    """

    timeout_seconds: float = 120.0
    deadline_seconds: float = 600.0
    max_attempts: int = 6
    max_concurrency: int | None = field(default_factory=_told)
    backoff_seconds: float = 0.5
    max_backoff_seconds: float = 30.0
    serve_failures: bool = False

    def __post_init__(self) -> None:
        for name in ("timeout_seconds", "deadline_seconds", "max_attempts", "max_concurrency"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise HornbookError(f"EndpointSettings.{name} is {value!r}; accepted is a positive number.")
        for name in ("backoff_seconds", "max_backoff_seconds"):
            if not getattr(self, name) >= 0:
                raise HornbookError(
                    f"EndpointSettings.{name} is {getattr(self, name)!r}; accepted is 0 or more."
                )
