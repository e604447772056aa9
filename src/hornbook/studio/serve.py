"""Serves the studio until Ctrl-C."""

import socket
import sys
import threading
import webbrowser

from hornbook.errors import HornbookError
from hornbook.studio.settings import StudioSettings

_LEAVE_SECONDS = 3
"""How long answers in the making may go on after Ctrl-C."""


def serve(settings: StudioSettings, *, open_browser: bool = False) -> None:
    """Serves until Ctrl-C; says where on standard error.

    Raises:
        HornbookError: the extra `studio` is not installed, or the port is taken.
    """
    try:
        import uvicorn

        from hornbook.studio.app import create_app
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "hornbook":
            raise
        raise HornbookError(
            f"The studio needs {error.name}, which is not installed: python -m pip install 'hornbook[studio]'"
        ) from error
    listening = _listen(settings.host, settings.port)
    port = listening.getsockname()[1]
    address = f"http://{_shown(settings.host)}:{port}/"
    if settings.token is not None:
        address += f"?token={settings.token}"
    print(
        f"The studio is at {address}\nCtrl-C ends it; runs that it started go on.",
        file=sys.stderr,
        flush=True,
    )
    if open_browser:
        threading.Timer(1.0, webbrowser.open, (address,)).start()
    config = uvicorn.Config(
        create_app(settings),
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=_LEAVE_SECONDS,
    )
    with listening:
        uvicorn.Server(config).run(sockets=[listening])


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind((host.strip("[]"), port))
        made.listen(256)
    except OSError as error:
        made.close()
        raise HornbookError(
            f"The studio cannot listen on {host}:{port} ({error.strerror or error}). "
            "Is it running already? Otherwise choose another port: --port 8018"
        ) from error
    return made


def _shown(host: str) -> str:
    if host in ("0.0.0.0", "::"):
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host
