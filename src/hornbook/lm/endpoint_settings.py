"""The patience of an endpoint client, as settings."""

from dataclasses import dataclass

from hornbook.errors import HornbookError


@dataclass(frozen=True, kw_only=True)
class EndpointSettings:
    """How patient to be. Seconds.

    `timeout_seconds` is for one try, `deadline_seconds` for a row with all its
    tries. A 429 is tried again until the deadline; other faults at most
    `max_attempts` times. `max_concurrency`: so many calls at once from the
    first on, fewer while the server refuses some; None: how many it takes is
    found by asking, from 16 up to `MOST`. `serve_failures`: take stored refusals, cut and malformed answers
    from the store too, instead of asking again.
    """

    timeout_seconds: float = 120.0
    deadline_seconds: float = 600.0
    max_attempts: int = 6
    max_concurrency: int | None = None
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
