"""Serves the studio until Ctrl-C."""

import importlib.util
import sys
import threading
import webbrowser
from typing import TYPE_CHECKING

from hornbook.errors import HornbookError

if TYPE_CHECKING:
    from hornbook.studio.settings import StudioSettings

_LEAVE_SECONDS = 3
"""How long answers in the making may go on after Ctrl-C."""


def require_extra() -> None:
    """Refuses in words where the extra `studio` is not installed."""
    for name in ("fastapi", "uvicorn", "plotly", "python_multipart"):
        if importlib.util.find_spec(name) is None:
            raise HornbookError(
                f"The studio needs {name}, which is not installed: python -m pip install 'hornbook[studio]'"
            )


def serve(settings: "StudioSettings", *, open_browser: bool = False) -> None:
    """Serves until Ctrl-C; says where on standard error.

    Raises:
        HornbookError: the port is taken.
    """
    import uvicorn

    from hornbook.serve.api.server import bound
    from hornbook.studio.app import create_app

    listening = bound(settings.host, settings.port)
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


def _shown(host: str) -> str:
    if host in ("0.0.0.0", "::"):
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host
