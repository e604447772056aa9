"""`hornbook serve`: one model, an address, until Ctrl-C."""

import contextlib
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from hornbook.errors import HornbookError
from hornbook.infer.weights import Weights

_UNSPEAKING = ("model", "checkpoint", "student", "hf")
"""Folder names that say nothing of the model inside."""


def model_name(spec: str) -> str:
    """What clients call the model that `spec` names: its folder's or file's name."""
    path = Path(spec)
    return path.resolve().parent.name if path.name in _UNSPEAKING else path.name.removesuffix(".gguf")


def bound(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one.

    Raises:
        HornbookError: no such address here, or the port is taken.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(256)
    except (OSError, OverflowError) as error:
        listener.close()
        reason = getattr(error, "strerror", None) or error
        raise HornbookError(f"{host}:{port} cannot be listened on: {reason}. Try another --port.") from None
    return listener


def serve(
    spec: str,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    token: str | None = None,
    name: str | None = None,
    weights: Weights = "auto",
    max_rows: int = 64,
    max_waiting: int = 256,
    default_max_tokens: int = 512,
    allow_hosts: Sequence[str] = (),
    allow_origins: Sequence[str] = (),
    say: Callable[[str], None] = lambda sentence: print(sentence, file=sys.stderr, flush=True),
) -> None:
    """Serves the model that `spec` names until it is stopped (Ctrl-C).

    Args:
        spec: a checkpoint folder, a .gguf, "smollm2".
        host, port: where to listen; port 0 takes a free one. Beyond loopback a `token` is needed.
        name: what clients call the model; default its folder's name.
        weights, max_rows: see `Engine`. max_waiting: answers that may wait for a row.
        default_max_tokens: of a chat answer whose client gives no limit.
        allow_hosts, allow_origins: see `Guard`.

    Raises:
        HornbookError: no such model, an address that cannot be had, or the extra is not installed.
    """
    try:
        import uvicorn

        from hornbook.serve.api.app import ApiSettings, Served, create_api
        from hornbook.serve.api.guard import Guard, check_exposure
    except ModuleNotFoundError as error:
        raise HornbookError(
            f"Serving needs the package {error.name}: pip install 'hornbook[studio]'."
        ) from None
    from hornbook.infer.open import open_local
    from hornbook.infer.service import Service

    check_exposure(host, token)
    settings = ApiSettings(default_max_tokens=default_max_tokens)
    if spec.startswith(("http://", "https://")):
        raise HornbookError(f"{spec} is served elsewhere already; name a model that lies here.")
    with contextlib.closing(bound(host, port)) as listener:
        model = open_local(spec, weights=weights, max_rows=max_rows, say=say)
        service = Service(model.engine, max_waiting=max_waiting)
        try:
            served = Served(name=name or model_name(spec), model=model, service=service)
            app = Guard(
                create_api([served], settings),
                host=host,
                token=token,
                allow_hosts=allow_hosts,
                allow_origins=allow_origins,
            )
            config = uvicorn.Config(
                app, log_level="warning", access_log=False, timeout_graceful_shutdown=2, server_header=False
            )
            shown = f"[{host}]" if ":" in host else host
            say(f"{served.name} at http://{shown}:{listener.getsockname()[1]}/v1 (Ctrl-C stops it)")
            with contextlib.suppress(KeyboardInterrupt):
                uvicorn.Server(config).run(sockets=[listener])
        finally:
            service.close()
