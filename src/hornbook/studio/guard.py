"""The door: who may come in, from which page, with how much; and what a page may load.

A plain ASGI wrapper around the whole application, so that no route can be forgotten.
"""

import secrets
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from starlette.exceptions import HTTPException

from hornbook.studio.settings import StudioSettings

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

COOKIE = "hornbook-studio"
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self' 'unsafe-inline'",  # the charts set sizes and colours on elements
        "img-src 'self' data: blob:",
        "font-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)

_HEADERS = (
    (b"content-security-policy", CONTENT_SECURITY_POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), microphone=(), geolocation=()"),
)


class Guard:
    """Lets a request through when it names this host, comes from this site and knows the token.

    Args:
        app: the application behind it.
        settings: host names, token and the largest body.
    """

    def __init__(self, app: App, settings: StudioSettings) -> None:
        self._app, self._settings = app, settings
        self._too_large = f"At most {settings.upload_bytes:,} bytes are accepted at once."

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return  # no web sockets here
        headers = {
            name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]
        }
        refusal = self._refusal(scope, headers)
        if refusal is not None:
            await _answer(send, *refusal)
            return
        if self._settings.token is not None and not self._knows_token(headers):
            await self._at_the_door(scope, send)
            return
        await self._serve(scope, receive, send)

    def _refusal(self, scope: Scope, headers: Mapping[str, str]) -> tuple[int, str] | None:
        """Status and sentence when the request is not for this site, from elsewhere, or too large."""
        host = headers.get("host", "")
        if not self._settings.host_is_known(_without_port(host)):
            return 421, f"This server does not go by the name {host!r}."
        if scope["method"] not in _SAFE:
            origin = headers.get("origin")
            if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
                return 403, "Only the studio's own pages may send this."
            if headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
                return 403, "Only the studio's own pages may send this."
        length = headers.get("content-length", "0")
        if not length.isdigit() or int(length) > self._settings.upload_bytes:
            return 413, self._too_large
        return None

    def _knows_token(self, headers: Mapping[str, str]) -> bool:
        assert self._settings.token is not None
        given = [part.partition("=")[2] for part in headers.get("cookie", "").split("; ") if _is_ours(part)]
        scheme, _, bearer = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            given.append(bearer.strip())
        wanted = self._settings.token.encode()
        return any(secrets.compare_digest(value.encode("latin-1"), wanted) for value in given)

    async def _at_the_door(self, scope: Scope, send: Send) -> None:
        """A visitor without the cookie: `?token=` in the address sets it, anything else is refused."""
        assert self._settings.token is not None
        query = parse_qs(scope["query_string"].decode("latin-1"))
        given = query.pop("token", [""])[0]
        if scope["method"] == "GET" and secrets.compare_digest(given.encode(), self._settings.token.encode()):
            where = scope["path"] + ("?" + urlencode(query, doseq=True) if query else "")
            where = "/" + where.lstrip("/\\")  # never another site's address
            cookie = f"{COOKIE}={self._settings.token}; HttpOnly; SameSite=Strict; Path=/"
            await _answer(send, 303, "", location=where, **{"set-cookie": cookie})
            return
        await _answer(
            send,
            401,
            "This studio asks for its token: open the address that `hornbook studio` printed, or send the "
            "header Authorization: Bearer TOKEN.",
            **{"www-authenticate": "Bearer"},
        )

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        taken = 0

        async def limited() -> MutableMapping[str, Any]:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > self._settings.upload_bytes:
                raise HTTPException(413, self._too_large)
            return message

        async def sealed(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                present = {name.lower() for name, _ in message["headers"]}
                extra = [pair for pair in _HEADERS if pair[0] not in present]
                if b"cache-control" not in present:
                    extra.append((b"cache-control", b"no-store"))
                message = {**message, "headers": [*message["headers"], *extra]}
            await send(message)

        await self._app(scope, limited, sealed)


def _is_ours(part: str) -> bool:
    return part.partition("=")[0].strip() == COOKIE


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0]


async def _answer(send: Send, status: int, sentence: str, **headers: str) -> None:
    body = sentence.encode()
    pairs = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode())]
    pairs += [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": [*pairs, *_HEADERS]})
    await send({"type": "http.response.body", "body": body})
