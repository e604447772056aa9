"""Who may speak to the server: names it is called by, pages that may call it, and a token.

A server on loopback is open to every page the user's browser shows: a page may send requests to it, and with
its own domain name pointed at 127.0.0.1 even read the answers. So the `Host` must be one of ours and an
`Origin`, which browsers send and scripts cannot forge, the server's own or one that was named.
"""

import hmac
import ipaddress
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hornbook.errors import HornbookError
from hornbook.serve.api.errors import ApiError

LOOPBACK = ("localhost", "127.0.0.1", "::1")
SHORTEST_TOKEN = 16


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server bound to `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_exposure(host: str, token: str | None) -> None:
    """Refuses a server that others could use without a token, and a token that can be guessed."""
    if token is None and not is_loopback(host):
        raise HornbookError(
            f"Bound to {host}, anyone who reaches this machine could use the server. Set the environment "
            f"variable HORNBOOK_TOKEN (at least {SHORTEST_TOKEN} characters), or bind to 127.0.0.1."
        )
    if token is not None and len(token) < SHORTEST_TOKEN:
        raise HornbookError(f"The token has {len(token)} characters; give at least {SHORTEST_TOKEN}.")


class Guard:
    """An ASGI app in front of another.

    Args:
        app: what is guarded.
        host: the address the server is bound to.
        token: what `Authorization: Bearer ...` must carry; None asks for nothing.
        allow_hosts: further names the server is called by (behind a proxy).
        allow_origins: pages of other origins that may call it, as `https://name:port`.
        open_paths: paths that need no token.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        host: str,
        token: str | None = None,
        allow_hosts: Iterable[str] = (),
        allow_origins: Iterable[str] = (),
        open_paths: Iterable[str] = ("/health",),
    ) -> None:
        check_exposure(host, token)
        self.app, self.token = app, token
        self.hosts = {name.lower() for name in (*LOOPBACK, host, *allow_hosts)}
        # Every address of the machine is a name of a server bound to all of them; the token guards it.
        self.any_host = host in ("0.0.0.0", "::", "")
        self.origins = {origin.rstrip("/").lower() for origin in allow_origins}
        self.open_paths = frozenset(open_paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        origin = headers.get("origin")
        cross = origin.lower() if origin is not None and origin.lower() in self.origins else None
        preflight = scope.get("method") == "OPTIONS" and "access-control-request-method" in headers
        refusal = self.refusal(scope["path"], headers, preflight=preflight and cross is not None)
        if refusal is not None and scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": refusal.message})
        elif refusal is not None:
            await refusal.response()(scope, receive, send)
        elif cross is None:
            await self.app(scope, receive, send)
        elif preflight:
            allowed = headers.get("access-control-request-headers", "")
            answer = {
                "access-control-allow-origin": origin or "",
                "access-control-allow-methods": "GET, POST, OPTIONS",
                "access-control-allow-headers": allowed,
                "access-control-max-age": "600",
                "vary": "origin",
            }
            await Response(status_code=204, headers=answer)(scope, receive, send)
        else:
            await self.app(scope, receive, _letting_read(origin or "", send))

    def refusal(self, path: str, headers: Headers, *, preflight: bool = False) -> ApiError | None:
        """Why a request may not pass; None when it may. A preflight carries no token."""
        host = headers.get("host", "")
        name = (urlsplit(f"//{host}").hostname or "") if _is_plain(host) else ""
        if not (name and (self.any_host or name in self.hosts)):
            return ApiError(
                403,
                f"This server does not answer to the name {host!r}; start it with --allow-host to add one.",
                code="host_not_allowed",
            )
        origin = headers.get("origin")
        if origin is not None and origin.lower() not in self.origins:
            own = urlsplit(origin).netloc.lower() if _is_plain(origin) else ""
            if own != host.lower():
                return ApiError(
                    403,
                    f"Pages of {origin!r} may not call this server; start it with --allow-origin to add one.",
                    code="origin_not_allowed",
                )
        if self.token is None or preflight or path in self.open_paths:
            return None
        scheme, _, given = headers.get("authorization", "").partition(" ")
        # compared as bytes and in constant time: how long it takes tells nothing of the token
        if scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), self.token.encode()):
            return None
        return ApiError(
            401,
            "This server needs its token: send the header Authorization: Bearer TOKEN (api_key in clients).",
            code="invalid_api_key",
            headers={"www-authenticate": "Bearer"},
        )


def _is_plain(text: str) -> bool:
    """Whether `text` can be a host or an origin (urlsplit raises on brackets that do not match)."""
    return text.count("[") == text.count("]") <= 1 and "@" not in text and text.isascii()


def _letting_read(origin: str, send: Send) -> Send:
    async def wrapped(message: Message) -> None:
        if message["type"] == "http.response.start":
            extra = [(b"access-control-allow-origin", origin.encode()), (b"vary", b"origin")]
            message = {**message, "headers": [*message.get("headers", []), *extra]}
        await send(message)

    return wrapped
