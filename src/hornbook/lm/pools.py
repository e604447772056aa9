"""Small HTTP connection pools behind one `send`. The one place that holds httpx clients."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import httpx

CALLS_PER_POOL = 2


@dataclass(slots=True, eq=False)
class _Pool:
    client: "httpx.AsyncClient"
    busy: int = 0


class Pools:
    """As many pools of `CALLS_PER_POOL` connections as the calls in flight need.

    httpx looks at every connection of a pool for every call, so that the CPU
    time of a call grows with the calls in flight; small pools keep it flat. The
    last pool freed is the first reused: its connections are warm.
    """

    def __init__(self, *, timeout_seconds: float, secure: bool) -> None:
        import httpx

        self._httpx, self._timeout = httpx, httpx.Timeout(timeout_seconds)
        # Certificates take 30 ms to load: once for all pools, and not for plain http.
        self._verify = httpx.create_ssl_context() if secure else False
        self._all: list[_Pool] = []
        self._open: list[_Pool] = []

    async def send(self, url: str, headers: Mapping[str, str], content: bytes) -> "httpx.Response":
        """POST and read the whole response."""
        if not self._open:
            limits = self._httpx.Limits(max_connections=None, max_keepalive_connections=CALLS_PER_POOL)
            client = self._httpx.AsyncClient(limits=limits, timeout=self._timeout, verify=self._verify)
            self._open.append(_Pool(client))
            self._all.append(self._open[-1])
        pool = self._open[-1]
        pool.busy += 1
        if pool.busy == CALLS_PER_POOL:
            self._open.pop()
        try:
            return await pool.client.send(self._httpx.Request("POST", url, headers=headers, content=content))
        finally:
            if pool.busy == CALLS_PER_POOL:
                self._open.append(pool)
            pool.busy -= 1

    async def close(self) -> None:
        """Close every connection."""
        for pool in self._all:
            await pool.client.aclose()
