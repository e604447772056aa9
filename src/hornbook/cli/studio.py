"""studio: the web pages."""

import argparse
import os
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `hornbook studio`."""
    parser.add_argument("--host", default="127.0.0.1", help="where to listen (default: this machine alone)")
    parser.add_argument("--port", type=int, default=8017, help="default: 8017; 0 takes any free one")
    parser.add_argument(
        "--token",
        default=os.environ.get("HORNBOOK_TOKEN") or None,
        help="asked of every visitor; needed with any other --host (default: $HORNBOOK_TOKEN)",
    )
    parser.add_argument(
        "--name", action="append", default=[], metavar="HOST", help="a host name browsers may call it by"
    )
    parser.add_argument(
        "--data", action="append", default=[], type=Path, metavar="FOLDER", help="more corpora to look at"
    )
    parser.add_argument(
        "--model",
        action="append",
        default=[],
        metavar="MODEL",
        help="offer this too: a folder, a .gguf, smollm2, or http://host/v1#name",
    )
    parser.add_argument("--open", action="store_true", help="open it in the browser")


def studio(args: argparse.Namespace) -> None:
    """Serves the studio until Ctrl-C."""
    from hornbook.studio.serve import require_extra, serve

    require_extra()
    from hornbook.studio.settings import StudioSettings

    settings = StudioSettings(
        home=args.home,
        host=args.host,
        port=args.port,
        token=args.token,
        names=tuple(args.name),
        data=tuple(args.data),
        models=tuple(args.model),
    )
    serve(settings, open_browser=args.open)
