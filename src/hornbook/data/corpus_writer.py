"""Writing corpora: rows and tables into shards, the manifest last."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa

import hornbook
from hornbook.data.shards import CONTENT, FORMAT, MANIFEST, SCHEMAS, content_bytes, write_shard
from hornbook.errors import HornbookError
from hornbook.lab.files import write_atomic

_SHARD_BYTES = 256 * 2**20


class CorpusWriter:
    """Writes a corpus; a context manager.

    The corpus appears when the `with` block ends without an error; otherwise its shards are removed. What a
    killed process left in `folder` is removed by the next writer. A finished corpus is never overwritten.

    Args:
        folder: created if missing; may be a step's folder.
        schema: "documents", "conversations" or "preferences".
        lineage: JSON saying what makes it from what; may be filled until the block ends.
        shard_rows: rows a shard; a shard is also closed when it holds 256 MiB of text.

    Attributes:
        rows, bytes: what was written so far.
        repaired: how many texts had lone surrogates replaced.
    """

    def __init__(
        self,
        folder: str | Path,
        schema: str,
        lineage: Mapping[str, Any] | None = None,
        shard_rows: int = 50_000,
    ):
        if schema not in SCHEMAS:
            raise HornbookError(f"schema is {schema!r}; it must be one of {', '.join(SCHEMAS)}.")
        if shard_rows < 1:
            raise HornbookError(f"shard_rows is {shard_rows}; a shard has at least 1 row.")
        self.folder = Path(folder)
        self.schema = schema
        self.lineage: dict[str, Any] = dict(lineage or {})
        self.shard_rows = shard_rows
        self.rows = 0
        self.bytes = 0
        self.repaired = 0
        self._tables: list[pa.Table] = []
        self._held_rows = 0
        self._held_bytes = 0
        self._shards: list[dict[str, Any]] = []
        self._open = False

    def __enter__(self) -> Self:
        if (self.folder / MANIFEST).exists():
            raise HornbookError(
                f"{self.folder} already holds a corpus. Delete it first or choose another folder."
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        self._clean()
        self._open = True
        return self

    def write_rows(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Append rows given as mappings.

        `id` defaults to the SHA-256 of the content (16 digits), `source` to "", `meta` (a mapping or a JSON
        string) to {}.

        Raises:
            HornbookError: a row without its text, or with a column the schema does not have, by number and
            id.
        """
        names = SCHEMAS[self.schema].names
        columns: dict[str, list[Any]] = {name: [] for name in names}
        held, start = 0, self.rows
        for number, row in enumerate(rows):
            held += _append_row(columns, row, self.schema, start + number)
            if held >= _SHARD_BYTES // 4 or len(columns["id"]) >= self.shard_rows:
                self._write_columns(columns)
                columns, held = {name: [] for name in names}, 0
        if columns["id"]:
            self._write_columns(columns)

    def write_table(self, table: pa.Table | pa.RecordBatch) -> None:
        """Append an Arrow table with the columns of the schema, in any order."""
        schema = SCHEMAS[self.schema]
        if isinstance(table, pa.RecordBatch):
            table = pa.Table.from_batches([table])
        missing = [name for name in schema.names if name not in table.column_names]
        more = [name for name in table.column_names if name not in schema.names]
        if missing or more:
            wrong = f"lacks {', '.join(missing)}" if missing else f"has the unknown columns {', '.join(more)}"
            raise HornbookError(
                f"A table of {self.schema} has the columns {', '.join(schema.names)}; this one {wrong}."
            )
        try:
            table = table.select(schema.names).cast(schema)
        except pa.ArrowException as error:
            raise HornbookError(f"A table does not fit the schema {self.schema}: {error}.") from None
        for name in schema.names:
            if table.column(name).null_count:
                raise HornbookError(f"A table of {self.schema} has empty values in the column {name!r}.")
        self._hold(table)

    def _write_columns(self, columns: dict[str, list[Any]]) -> None:
        schema = SCHEMAS[self.schema]
        try:
            arrays = [pa.array(columns[name], schema.field(name).type) for name in schema.names]
        except UnicodeEncodeError:
            for name in schema.names:
                columns[name] = [self._repaired(value) for value in columns[name]]
            arrays = [pa.array(columns[name], schema.field(name).type) for name in schema.names]
        except (pa.ArrowException, TypeError) as error:
            raise HornbookError(f"A row does not fit the schema {self.schema}: {error}.") from None
        self._hold(pa.Table.from_arrays(arrays, schema=schema))

    def _repaired(self, value: Any) -> Any:
        if isinstance(value, list):
            return [{key: self._repaired(text) for key, text in message.items()} for message in value]
        try:
            value.encode()
        except UnicodeEncodeError:
            self.repaired += 1
            return repair(value)
        return value

    def _hold(self, table: pa.Table) -> None:
        if not self._open:
            raise ValueError("CorpusWriter is a context manager: write inside its with block")
        size = content_bytes(table, self.schema)
        self.rows += table.num_rows
        self.bytes += size
        while self._held_rows + table.num_rows >= self.shard_rows:
            take = self.shard_rows - self._held_rows
            self._tables.append(table.slice(0, take))
            self._flush()
            table = table.slice(take)
            size = content_bytes(table, self.schema)
        if table.num_rows:
            self._tables.append(table)
            self._held_rows += table.num_rows
            self._held_bytes += size
        if self._held_bytes >= _SHARD_BYTES:
            self._flush()

    def _flush(self) -> None:
        if self._tables:
            path = self.folder / f"part-{len(self._shards):05d}.parquet"
            self._shards.append(write_shard(path, pa.concat_tables(self._tables)))
        self._tables, self._held_rows, self._held_bytes = [], 0, 0

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open = False
        if kind is not None:
            self._tables = []
            self._clean()
            return
        try:
            self._flush()
            manifest = {
                "format": FORMAT,
                "hornbook": hornbook.__version__,
                "schema": self.schema,
                "rows": self.rows,
                "bytes": self.bytes,
                "repaired": self.repaired,
                "lineage": self.lineage,
                "shards": self._shards,
            }
            write_atomic(self.folder / MANIFEST, json.dumps(manifest, indent=2, ensure_ascii=False))
        except OSError as problem:
            self._clean()
            raise HornbookError(
                f"Could not write the corpus {self.folder}: {problem.strerror or problem}."
            ) from problem
        except BaseException:
            self._clean()
            raise

    def _clean(self) -> None:
        for pattern in ("part-*.parquet", "part-*.parquet.partial"):
            for path in self.folder.glob(pattern):
                path.unlink()


def repair(text: str) -> str:
    """`text` with lone surrogates replaced by U+FFFD: text that UTF-8 can hold."""
    return text.encode("utf-8", "surrogatepass").decode("utf-8", "replace") if not text.isascii() else text


def content_id(*parts: str) -> str:
    """An id made of the content: 16 hexadecimal digits of its SHA-256."""
    joined = "\x00".join(parts).encode("utf-8", "surrogatepass")
    return hashlib.sha256(joined).hexdigest()[:16]


def _append_row(columns: dict[str, list[Any]], row: Mapping[str, Any], schema: str, number: int) -> int:
    """Append one row to `columns`; returns its characters."""
    name = f"Row {number}" + (f" (id {row['id']})" if "id" in row else "")
    unknown = row.keys() - columns.keys()
    if unknown:
        raise HornbookError(
            f"{name} has the column {sorted(unknown)[0]!r}; a row of {schema} has {', '.join(columns)}."
        )
    characters = 0
    texts: list[str] = []
    for column in CONTENT[schema]:
        value = row.get(column)
        if column == "messages":
            value = _messages(value, name)
            texts += [part for message in value for part in (message["role"], message["content"])]
        elif isinstance(value, str):
            texts.append(value)
        else:
            raise HornbookError(f"{name} of a corpus of {schema} has no {column}: it is {value!r}.")
        columns[column].append(value)
    characters = sum(map(len, texts))
    columns["id"].append(str(row["id"]) if "id" in row else content_id(*texts))
    columns["source"].append(str(row.get("source", "")))
    meta = row.get("meta", "{}")
    columns["meta"].append(meta if isinstance(meta, str) else json.dumps(meta, ensure_ascii=False))
    return characters


def _messages(value: Any, name: str) -> list[dict[str, str]]:
    try:
        messages = [{"role": message["role"], "content": message["content"]} for message in value]
        if messages and all(isinstance(text, str) for message in messages for text in message.values()):
            return messages
    except (TypeError, KeyError):
        pass
    raise HornbookError(
        f"{name} has no messages: they must be a list of {{role, content}}, not {str(value)[:80]!r}."
    )
