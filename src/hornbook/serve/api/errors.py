"""Errors in the shape OpenAI's clients read: `{"error": {"message", "type", "param", "code"}}`."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError
from starlette.responses import JSONResponse

_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}
_SHOWN = 3
"""Mistakes of one body that are listed."""


class ApiError(Exception):
    """An answer that is an error.

    param: the field of the request that is wrong. code: a word programs can compare.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code
        self.headers = dict(headers or {})

    def body(self) -> dict[str, Any]:
        """The JSON of the answer."""
        kind = _TYPES.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    def response(self) -> JSONResponse:
        """The whole answer."""
        return JSONResponse(self.body(), self.status, self.headers)


def wrong_body(error: ValidationError) -> ApiError:
    """What is wrong with a request's JSON, field by field."""
    found = error.errors(include_url=False, include_context=False)
    if found[0]["type"] == "json_invalid":
        return ApiError(400, f"The body is not JSON: {found[0]['msg']}.", code="invalid_json")
    said: dict[str, str] = {}
    for one in found:
        # A field of several accepted types reports once for each; the name before them is the field's own.
        place = [str(part) for part in one["loc"] if not _is_type_name(str(part))]
        message = "is not a field this server knows" if one["type"] == "extra_forbidden" else one["msg"]
        said.setdefault(".".join(place), message)
    lines = [f"{name or 'body'}: {message}" for name, message in list(said.items())[:_SHOWN]]
    more = f" (and {len(said) - _SHOWN} more)" if len(said) > _SHOWN else ""
    return ApiError(400, "; ".join(lines) + more + ".", param=next(iter(said)) or None, code="invalid_value")


def _is_type_name(part: str) -> bool:
    return part in ("str", "int") or "[" in part
