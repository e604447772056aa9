"""The patience of an endpoint client, as settings."""

from dataclasses import dataclass

from hornbook.errors import HornbookError


@dataclass(frozen=True, kw_only=True)
class EndpointSettings:
    """How patient to be. Seconds.

    `timeout_seconds` is for one try, `deadline_seconds` for a row with all its
    tries. A 429 is tried again until the deadline; other faults at most
    `max_attempts` times. `max_concurrency` only bounds the search for the
    limit. `serve_failures`: take stored refusals, cut and malformed answers
    from the store too, instead of asking again.
    """

    timeout_seconds: float = 120.0
    deadline_seconds: float = 600.0
    max_attempts: int = 6
    max_concurrency: int = 256
    backoff_seconds: float = 0.5
    max_backoff_seconds: float = 30.0
    serve_failures: bool = False

    def __post_init__(self) -> None:
        for name in ("timeout_seconds", "deadline_seconds", "max_attempts", "max_concurrency"):
            if not getattr(self, name) > 0:
                raise HornbookError(
                    f"EndpointSettings.{name} is {getattr(self, name)!r}; accepted is a positive number."
                )
        for name in ("backoff_seconds", "max_backoff_seconds"):
            if not getattr(self, name) >= 0:
                raise HornbookError(
                    f"EndpointSettings.{name} is {getattr(self, name)!r}; accepted is 0 or more."
                )
