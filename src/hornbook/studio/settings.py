"""What the studio serves, to whom, and how much."""

import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path

from hornbook.errors import HornbookError
from hornbook.serve.api.guard import LOOPBACK, SHORTEST_TOKEN, is_loopback

_TOKEN = re.compile(rf"[A-Za-z0-9_-]{{{SHORTEST_TOKEN},}}")


@dataclass(frozen=True, kw_only=True)
class StudioSettings:
    """How the studio is served.

    Attributes:
        home: the folder of runs.
        host, port: where it listens; anything but loopback needs a `token`.
        token: whoever knows it may enter; None lets every program of this machine in.
        names: host names, besides this machine's own, under which browsers may call it.
        data: folders outside `home` whose corpora may be looked at.
        models: models to offer in the chat besides those of runs: folders, .gguf files, endpoints.
        streams: answers that are written at once; further ones wait in a queue.
        queue: answers that may wait; beyond that the studio says that it is full.
        upload_bytes: largest body of a request.
    """

    home: Path
    host: str = "127.0.0.1"
    port: int = 8017
    token: str | None = None
    names: tuple[str, ...] = ()
    data: tuple[Path, ...] = ()
    models: tuple[str, ...] = ()
    streams: int = 50
    queue: int = 200
    upload_bytes: int = 16 << 20

    def __post_init__(self) -> None:
        if not is_loopback(self.host) and not self.token:
            raise HornbookError(
                f"The studio would listen on {self.host}, where others can reach it. "
                "Give it a token (--token SECRET), or leave --host out: it is 127.0.0.1 then."
            )
        if self.token is not None and not _TOKEN.fullmatch(self.token):
            raise HornbookError(
                f"The studio's token must be at least {SHORTEST_TOKEN} letters, digits, - and _ "
                "(for example from `openssl rand -hex 16`)."
            )
        if not 0 <= self.port <= 65535:
            raise HornbookError(f"The port is {self.port}; accepted is 0 to 65535 (0: any free one).")
        for name, value in (("streams", self.streams), ("upload_bytes", self.upload_bytes)):
            if value < 1:
                raise HornbookError(f"{name} is {value}; it must be at least 1.")
        if self.queue < 0:
            raise HornbookError(f"queue is {self.queue}; it must be at least 0.")

    def host_is_known(self, host: str) -> bool:
        """Whether a request's Host header (without the port) names this server.

        A page of another site can point a name of its own at 127.0.0.1, but cannot change this header.
        With a token an address is accepted too: such a page cannot choose one as its name.
        """
        name = host.lower().strip("[]").rstrip(".")
        if name in LOOPBACK or name in {known.lower() for known in self.names}:
            return True
        if self.token is None:
            return False
        return name == self.host.lower() or is_address(name)


def is_address(host: str) -> bool:
    """Whether `host` is an IP address rather than a name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
