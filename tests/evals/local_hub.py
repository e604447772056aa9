"""A server on this machine that is shaped like the hub: data sets as Parquet files."""

import hashlib
import io
import json
import re
from collections.abc import Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pyarrow as pa
import pyarrow.parquet as parquet

Rows = Sequence[Mapping[str, Any]]
Published = Mapping[str, Mapping[str, Mapping[str, Rows]]]
"""{data set: {configuration: {split: rows}}}; the configuration "" is that of a data set without any."""
REVISION = "0" * 40


class LocalHub:
    """Serves data sets under `address` until the block is left; `asked` holds the requests."""

    def __init__(self, published: Published) -> None:
        self.files = {name: _files(parts) for name, parts in published.items()}
        self.asked: list[str] = []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                hub.answer(self)

            do_HEAD = do_POST = do_GET

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> "LocalHub":
        Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        """What the client asks of a data set: what it is, which files it has, and the files."""
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        path = request.path.split("?")[0]
        self.asked.append(f"{request.command} {path}")
        found = re.match(r"/(?:api/)?datasets/([^/]+/[^/]+)(?:/(\w[\w-]*)/([^/]+)/?(.*))?$", path)
        files = self.files.get(found[1]) if found else None
        if found is None or files is None:
            return _send(request, 404, b"{}", {"X-Error-Code": "RepoNotFound"})
        kind, below = found[2], found[4] or ""
        if path.startswith("/datasets/"):
            content = files.get(below)
            if content is None:
                return _send(request, 404, b"{}", {"X-Error-Code": "EntryNotFound"})
            headers = {"ETag": f'"{hashlib.sha1(content).hexdigest()}"', "X-Repo-Commit": REVISION}
            return _send(request, 200, content, headers)
        if kind == "tree":
            inside = [name for name in files if name.startswith(f"{below}/" if below else "")]
            return _send(request, 200, json.dumps([_entry(name, files[name]) for name in inside]).encode())
        if kind == "paths-info":
            wanted = re.findall(r"paths=([^&]+)", body.decode()) or json.loads(body or b"{}").get("paths", [])
            inside = [name for name in wanted if name in files]
            return _send(request, 200, json.dumps([_entry(name, files[name]) for name in inside]).encode())
        told = {
            "id": found[1], "sha": REVISION, "private": False, "gated": False, "disabled": False, "tags": [],
            "downloads": 0, "likes": 0, "siblings": [{"rfilename": name} for name in files],
        }  # fmt: skip
        return _send(request, 200, json.dumps(told).encode())


def _send(
    request: BaseHTTPRequestHandler, status: int, body: bytes, headers: Mapping[str, str] | None = None
) -> None:
    request.send_response(status)
    for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
        request.send_header(name, value)
    request.send_header("Content-Length", str(len(body)))
    request.end_headers()
    if request.command != "HEAD":
        request.wfile.write(body)


def _entry(name: str, content: bytes) -> dict[str, Any]:
    return {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}


def _files(parts: Mapping[str, Mapping[str, Rows]]) -> dict[str, bytes]:
    """The files of a data set: a table for each part and split, and the card that names them."""
    files: dict[str, bytes] = {}
    card = ["---", "configs:"]
    for config, splits in parts.items():
        card += [f"- config_name: {config or 'default'}", "  data_files:"]
        for split, rows in splits.items():
            name = f"{config or 'data'}/{split}-00000-of-00001.parquet"
            stream = io.BytesIO()
            parquet.write_table(pa.Table.from_pylist(list(rows)), stream)
            files[name] = stream.getvalue()
            card += [f"  - split: {split}", f"    path: {name}"]
    files["README.md"] = "\n".join([*card, "---", ""]).encode()
    return files
