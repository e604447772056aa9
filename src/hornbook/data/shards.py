"""Shards of corpora: their columns, how one is written, how damage is told."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from hornbook.errors import HornbookError
from hornbook.lab.files import sha256_file

FORMAT = 1
MANIFEST = "corpus.json"
_ROW_GROUP = 8192

_TEXT = pa.large_string()
_MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", _TEXT)]))

SCHEMAS: dict[str, pa.Schema] = {
    "documents": pa.schema(
        [("id", pa.string()), ("text", _TEXT), ("source", pa.string()), ("meta", pa.string())],
    ),
    "conversations": pa.schema(
        [("id", pa.string()), ("messages", _MESSAGES), ("source", pa.string()), ("meta", pa.string())],
    ),
    "preferences": pa.schema(
        [
            ("id", pa.string()),
            ("messages", _MESSAGES),
            ("chosen", _TEXT),
            ("rejected", _TEXT),
            ("source", pa.string()),
            ("meta", pa.string()),
        ],
    ),
}
"""Columns of each kind of corpus. `meta` is a JSON object in a string."""

CONTENT = {
    "documents": ("text",),
    "conversations": ("messages",),
    "preferences": ("messages", "chosen", "rejected"),
}


def content_bytes(table: pa.Table, schema: str) -> int:
    """UTF-8 bytes of the texts in `table`."""
    total = 0
    for name in CONTENT[schema]:
        column = table.column(name)
        if name == "messages":
            column = pc.struct_field(pc.list_flatten(column), "content")
        total += pc.sum(pc.binary_length(column)).as_py() or 0
    return total


def write_shard(path: Path, table: pa.Table) -> dict[str, Any]:
    """Write `table` to `path`, whole or not at all; what the manifest records of it."""
    partial = path.with_name(path.name + ".partial")
    try:
        pq.write_table(table, partial, compression="zstd", compression_level=3, row_group_size=_ROW_GROUP)
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.rename(path)
        return {
            "name": path.name,
            "rows": table.num_rows,
            "file_bytes": path.stat().st_size,
            "sha256": sha256_file(path),
        }
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise HornbookError(f"Could not write {path}: {error.strerror or error}.") from error


def check_size(path: Path, shard: Mapping[str, Any]) -> None:
    """Raise HornbookError when the shard is missing or has another size than recorded."""
    if not path.is_file():
        raise HornbookError(
            f"The shard {path} ({shard['rows']} rows) is missing."
            " Restore it, or delete the corpus and make it again."
        )
    size = path.stat().st_size
    if size != shard["file_bytes"]:
        raise damaged(path, f"it has {size} bytes, not {shard['file_bytes']} as written")


def damaged(path: Path, how: str) -> HornbookError:
    """The error that names a damaged shard."""
    return HornbookError(
        f"The shard {path} is damaged: {how}. Restore it from a copy, or delete the corpus and make it again."
    )
