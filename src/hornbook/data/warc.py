"""Pages in a WARC file (ISO 28500), plain or gzip with one member a record, as crawlers write them."""

import gzip
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from hornbook.errors import HornbookError

_LARGEST_HEADER = 64 * 1024


@dataclass(frozen=True)
class Page:
    """One HTTP response.

    Attributes:
        url: WARC-Target-URI.
        date: WARC-Date.
        status: HTTP status, such as 200.
        content_type: media type in small letters, without parameters.
        charset: the charset the server declared, or None.
        body: decoded from chunks and compression.
    """

    url: str
    date: str
    status: int
    content_type: str
    charset: str | None
    body: bytes


def read_warc(path: Path) -> Iterator[Page]:
    """HTTP responses in the order of the file; records of other types are passed over.

    Raises:
        HornbookError: the file is not WARC or is damaged, naming the record.
    """
    with path.open("rb") as raw:
        packed = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        stream: IO[bytes] = gzip.GzipFile(fileobj=raw) if packed else raw  # type: ignore[assignment]
        number = 0
        try:
            while True:
                record = _record(stream)
                if record is None:
                    return
                number += 1
                header, block = record
                if header.get("warc-type") == "response":
                    page = _page(header, block)
                    if page is not None:
                        yield page
        except (ValueError, OSError, EOFError, zlib.error) as error:
            raise HornbookError(
                f"{path} is damaged at record {number + 1}: {error}. Restore the file from a copy."
            ) from None


def _record(stream: IO[bytes]) -> tuple[dict[str, str], bytes] | None:
    line = stream.readline(_LARGEST_HEADER)
    while line in (b"\r\n", b"\n"):
        line = stream.readline(_LARGEST_HEADER)
    if not line:
        return None
    if not line.startswith(b"WARC/"):
        raise ValueError("no WARC header where a record should begin")
    header = _headers(iter(lambda: stream.readline(_LARGEST_HEADER), b""))
    length = int(header.get("content-length", "-1"))
    if length < 0:
        raise ValueError("the record has no Content-Length")
    block = stream.read(length)
    if len(block) != length:
        raise ValueError(f"the file ends after {len(block)} of the record's {length} bytes")
    return header, block


def _headers(lines: Iterator[bytes]) -> dict[str, str]:
    header: dict[str, str] = {}
    name = ""
    for line in lines:
        text = line.decode("utf-8", "replace").rstrip("\r\n")
        if not text:
            break
        if text[0] in " \t" and name:
            header[name] += " " + text.strip()
        else:
            name, _, value = text.partition(":")
            name = name.strip().lower()
            header[name] = value.strip()
    return header


def _page(warc: dict[str, str], block: bytes) -> Page | None:
    head, _, body = block.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    status = lines[0].split()
    if len(status) < 2 or not status[0].startswith(b"HTTP/") or not status[1].isdigit():
        return None
    header = _headers(iter(lines[1:]))
    if "chunked" in header.get("transfer-encoding", "").lower():
        body = _unchunked(body)
    encoding = header.get("content-encoding", "").lower()
    if encoding in ("gzip", "deflate") and body:
        with suppress(zlib.error):  # crawls that store bodies unpacked leave the header in place
            body = zlib.decompress(body, 47)
    kind, _, parameters = header.get("content-type", "").partition(";")
    charset = None
    for parameter in parameters.split(";"):
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "charset":
            charset = value.strip().strip("\"'") or None
    return Page(
        url=warc.get("warc-target-uri", "").strip("<>"),
        date=warc.get("warc-date", ""),
        status=int(status[1]),
        content_type=kind.strip().lower(),
        charset=charset,
        body=body,
    )


def _unchunked(body: bytes) -> bytes:
    """The body without its chunk lengths; unchanged when it is not chunked after all."""
    parts: list[bytes] = []
    at = 0
    while True:
        end = body.find(b"\r\n", at)
        try:
            size = int(body[at:end].split(b";")[0], 16) if end >= 0 else -1
        except ValueError:
            size = -1
        if size < 0:
            return body if not parts else b"".join(parts)
        if size == 0:
            return b"".join(parts)
        parts.append(body[end + 2 : end + 2 + size])
        at = end + 2 + size + 2
