"""Documents from anywhere: this Python installation, files and folders, the hub.

Every reader yields rows {id, text, source, meta} (meta is JSON), ready for a `CorpusWriter`.
"""

import gzip
import hashlib
import io
import json
import os
import random
import zlib
from collections.abc import Callable, Iterator, MutableMapping
from pathlib import Path
from typing import IO, Any

from hornbook.data.html_text import decode_html, html_text
from hornbook.data.python_source import read_python
from hornbook.data.warc import read_warc
from hornbook.errors import HornbookError

TEXT_FIELDS = (
    "text",
    "content",
    "body",
    "raw_content",
    "article",
    "story",
    "document",
    "markdown",
    "code",
    "page_text",
)
"""Names a field of text usually has, tried in this order."""

SUFFIXES = (
    *(".txt", ".txt.gz", ".md", ".rst", ".py", ".html", ".htm"),
    *(".jsonl", ".jsonl.gz", ".jsonl.zst", ".parquet", ".warc", ".warc.gz"),
)
"""Kinds of files that are read."""

_KEPT_FIELDS = ("url", "title", "license", "lang", "language", "date")
_END = "<|endoftext|>"
_BAD_CHARACTERS = 1 / 1000

Row = dict[str, Any]


def read_source(
    spec: str | Path,
    *,
    limit_bytes: int | None = None,
    seed: int = 0,
    text_field: str | None = None,
    skipped: MutableMapping[str, str] | None = None,
) -> Iterator[Row]:
    """Documents of a source.

    Args:
        spec: `python` (this installation), `hub:OWNER/NAME[:CONFIG[:SPLIT]]`, or a path: a file of one of
        `SUFFIXES`,
            a folder (read recursively), or a corpus.
        limit_bytes: stop after so many UTF-8 bytes of text (the last document is whole).
        seed: decides which files come first under a limit.
        text_field: which field of JSON, Parquet or hub rows is the text; found by name when not given.
        skipped: filled with {file: reason} for files in a folder that are not text.

    Raises:
        HornbookError: missing, unreadable, of unknown kind, damaged (naming the line), or without any text.
    """
    if limit_bytes is not None and limit_bytes < 1:
        raise HornbookError(f"limit_bytes is {limit_bytes}; it must be at least 1.")
    name = str(spec)
    limited = limit_bytes is not None
    if name == "python":
        rows = read_python(seed=seed)
    elif name.startswith("hub:"):
        rows = _read_hub(name.removeprefix("hub:"), text_field)
    else:
        path = Path(spec).expanduser()
        if not path.exists():
            raise HornbookError(
                f"There is no file or folder {path}."
                " A source is `python`, `hub:OWNER/NAME` or a path that exists."
            )
        rows = _read_path(path, seed if limited else None, text_field, {} if skipped is None else skipped)
    return _limited(rows, name, limit_bytes)


def _limited(rows: Iterator[Row], name: str, limit_bytes: int | None) -> Iterator[Row]:
    total, count = 0, 0
    for row in rows:
        if not row["text"].strip():
            continue
        yield row
        count += 1
        total += len(row["text"].encode("utf-8", "surrogatepass"))
        if limit_bytes is not None and total >= limit_bytes:
            return
    if count == 0:
        raise HornbookError(f"The source {name} holds no text: nothing in it could be read as a document.")


def _read_path(
    path: Path, seed: int | None, text_field: str | None, skipped: MutableMapping[str, str]
) -> Iterator[Row]:
    if (path / "corpus.json").is_file():
        yield from _read_corpus(path)
        return
    if path.is_file():
        yield from _reader(path)(path, path.name, text_field)
        return
    files = sorted(_files_below(path))
    if seed is not None:
        random.Random(seed).shuffle(files)
    for file in files:
        relative = file.relative_to(path).as_posix()
        if _suffix(file) is None:
            skipped[str(file)] = "not a kind of file that is read"
            continue
        try:
            yield from _reader(file)(file, relative, text_field)
        except _NotTextError as error:
            skipped[str(file)] = str(error)


def _files_below(folder: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".") and name != "__pycache__"]
        yield from (Path(parent, name) for name in names if not name.startswith("."))


class _NotTextError(HornbookError):
    """A file whose bytes are not text: an error when it was named, left out when it lies in a folder."""


_Reader = Callable[[Path, str, str | None], Iterator[Row]]


def _suffix(path: Path) -> str | None:
    name = path.name.lower()
    return next((suffix for suffix in sorted(SUFFIXES, key=len, reverse=True) if name.endswith(suffix)), None)


def _reader(path: Path) -> _Reader:
    suffix = _suffix(path)
    if suffix is None:
        raise HornbookError(
            f"{path} is of a kind that is not read. Hornbook reads {', '.join(SUFFIXES)} and folders."
        )
    return _READERS[suffix]


def _read_text(path: Path, name: str, text_field: str | None) -> Iterator[Row]:
    text = _text_of(path)
    pieces = text.split(_END) if _END in text and _suffix(path) in (".txt", ".txt.gz") else [text]
    for number, piece in enumerate(pieces):
        if len(pieces) == 1:
            yield _row(name, piece, name)
        elif piece.strip():
            yield _row(f"{name}#{number}", piece.strip(), name)


def _read_html(path: Path, name: str, text_field: str | None) -> Iterator[Row]:
    title, text = html_text(decode_html(_bytes_of(path)))
    yield _row(name, text, name, {"title": title} if title else None)


def _read_warc(path: Path, name: str, text_field: str | None) -> Iterator[Row]:
    for page in read_warc(path):
        if page.status != 200 or page.content_type not in (
            "text/html",
            "application/xhtml+xml",
            "text/plain",
        ):
            continue
        title, text = "", decode_html(page.body, page.charset)
        if page.content_type != "text/plain":
            title, text = html_text(text)
        meta = {"url": page.url, "date": page.date} | ({"title": title} if title else {})
        yield _row(hashlib.sha256(f"{page.url} {page.date}".encode()).hexdigest()[:16], text, name, meta)


def _read_jsonl(path: Path, name: str, text_field: str | None) -> Iterator[Row]:
    field = text_field
    with _opened(path) as stream:
        number = 0
        try:
            for number, line in enumerate(stream, 1):
                if not line.strip():
                    continue
                try:
                    value = json.loads(line)
                except ValueError as error:
                    raise HornbookError(f"{path}, line {number}, is not JSON: {error}.") from None
                if not isinstance(value, dict):
                    raise HornbookError(
                        f"{path}, line {number}, is not a JSON object but a {type(value).__name__}."
                    )
                field = field or _text_field(value, f"{path}, line {number}")
                if not isinstance(value.get(field), str):
                    raise HornbookError(f"{path}, line {number}, has no text in the field {field!r}.")
                yield _record(value, field, name, number - 1)
        except (OSError, EOFError, zlib.error) as error:
            raise HornbookError(
                f"{path} is damaged after line {number}: {error}. Restore it from a copy."
            ) from None


def _read_parquet(path: Path, name: str, text_field: str | None) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        with pq.ParquetFile(path) as file:
            schema = file.schema_arrow
            sample = {
                f.name: "" for f in schema if pa.types.is_string(f.type) or pa.types.is_large_string(f.type)
            }
            field = text_field or _text_field(sample, str(path))
            if field not in sample:
                raise HornbookError(
                    f"{path} has no column of text {field!r}; it has {', '.join(sample) or 'none'}."
                )
            wanted = [n for n in schema.names if n in (field, "id", "source", *_KEPT_FIELDS)]
            for batch in file.iter_batches(batch_size=1024, columns=wanted):
                for value in batch.to_pylist():
                    if value[field] is not None:
                        yield _record(value, field, name, number)
                    number += 1
    except (OSError, pa.ArrowException) as error:
        raise HornbookError(f"{path} is not Parquet or is damaged after row {number}: {error}.") from None


def _read_corpus(path: Path) -> Iterator[Row]:
    from hornbook.data.corpus import Corpus

    corpus = Corpus.open(path)
    if corpus.schema != "documents":
        raise HornbookError(f"The corpus {path} holds {corpus.schema}, not documents.")
    yield from corpus.iter_rows()


def _read_hub(name: str, text_field: str | None) -> Iterator[Row]:
    dataset, _, rest = name.partition(":")
    config, _, split = rest.partition(":")
    try:
        import datasets
    except ImportError:
        raise HornbookError(
            f"Reading hub:{name} needs the package datasets. Install it: pip install 'hornbook[hub]'"
        ) from None
    try:
        stream = datasets.load_dataset(dataset, config or None, split=split or "train", streaming=True)
        field = text_field
        for number, value in enumerate(stream):
            field = field or _text_field(value, f"hub:{dataset}")
            if not isinstance(value.get(field), str):
                raise HornbookError(f"hub:{dataset}, row {number}, has no text in the field {field!r}.")
            yield _record(value, field, f"hub:{dataset}", number)
    except HornbookError:
        raise
    except Exception as error:  # the library raises a dozen kinds: offline, not found, gated, wrong split
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise HornbookError(
            f"Could not read hub:{name}: {reason}."
            " Check the name, and that this machine reaches huggingface.co; or use a local path or `python`."
        ) from None


_READERS: dict[str, _Reader] = {
    **dict.fromkeys((".txt", ".txt.gz", ".md", ".rst", ".py"), _read_text),
    **dict.fromkeys((".html", ".htm"), _read_html),
    **dict.fromkeys((".jsonl", ".jsonl.gz", ".jsonl.zst"), _read_jsonl),
    **dict.fromkeys((".warc", ".warc.gz"), _read_warc),
    ".parquet": _read_parquet,
}


def _text_field(value: dict[str, Any], where: str) -> str:
    """The field of text: one of the usual names, else the only string."""
    strings = [key for key, item in value.items() if isinstance(item, str)]
    for name in TEXT_FIELDS:
        if name in strings:
            return name
    if len(strings) == 1:
        return strings[0]
    raise HornbookError(
        f"{where}: which field is the text? It has {', '.join(map(repr, value)) or 'none'};"
        f" Hornbook looks for {', '.join(TEXT_FIELDS)}. Name it with text_field."
    )


def _record(value: dict[str, Any], field: str, name: str, number: int) -> Row:
    identity = value.get("id")
    source = value.get("source")
    meta = {key: value[key] for key in _KEPT_FIELDS if isinstance(value.get(key), str | int | float)}
    return _row(
        str(identity) if isinstance(identity, str | int) else f"{name}#{number}",
        value[field],
        source if isinstance(source, str) and source else name,
        meta or None,
    )


def _row(identity: str, text: str, source: str, meta: dict[str, Any] | None = None) -> Row:
    return {
        "id": identity,
        "text": text,
        "source": source,
        "meta": json.dumps(meta, ensure_ascii=False) if meta else "{}",
    }


def _text_of(path: Path) -> str:
    """The text of a file: UTF-8 (or UTF-16 by its mark), line ends as \\n.

    A few broken characters become U+FFFD; a file with NUL bytes or with many of them is not text.
    """
    data = _bytes_of(path)
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        text = data.decode("utf-16", "replace")
    elif b"\x00" in data:
        raise _NotTextError(f"{path} is not a text file: it has NUL bytes.")
    else:
        text = data.decode("utf-8-sig", "replace")
    if text.count("\ufffd") > max(1, _BAD_CHARACTERS * len(text)):
        raise _NotTextError(f"{path} is not UTF-8 text. Convert it first, for instance with iconv -t UTF-8.")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _bytes_of(path: Path) -> bytes:
    try:
        with _opened(path) as stream:
            return stream.read()
    except (OSError, EOFError, zlib.error) as error:
        raise HornbookError(f"Could not read {path}: {error}.") from None


def _opened(path: Path) -> IO[bytes]:
    try:
        if path.name.endswith(".gz"):
            return gzip.open(path)  # type: ignore[return-value]
        if path.name.endswith(".zst"):
            import zstandard

            return io.BufferedReader(zstandard.open(path, "rb"))
        return path.open("rb")
    except OSError as error:
        raise HornbookError(f"Could not read {path}: {error.strerror or error}.") from None
