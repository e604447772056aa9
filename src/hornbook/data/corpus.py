"""Corpora on disk: Parquet shards, one `corpus.json`, attributes beside the documents.

A corpus is a folder::

    corpus.json                     schema, rows, bytes, lineage, SHA-256 of every shard
    part-00000.parquet ...          zstd-compressed rows
    attributes/<name>/part-00000.parquet ...   more columns for the same rows in the same order

`corpus.json` is written last: without it the folder is unfinished work. A shard is compared with its hash
the first time it is read; one that is missing or damaged is named, never skipped.

Text is Unicode: NUL and every other character are kept as they are; lone surrogates, which no UTF-8 file
can hold, become U+FFFD and are counted (`repaired` in `corpus.json`).
"""

import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from hornbook.data.corpus_writer import CorpusWriter, content_id, repair
from hornbook.data.shards import FORMAT, MANIFEST, SCHEMAS, check_size, damaged, write_shard
from hornbook.errors import HornbookError
from hornbook.lab.files import sha256_file, write_atomic

__all__ = ["SCHEMAS", "Corpus", "CorpusWriter", "content_id", "repair"]


class Corpus:
    """A finished corpus, open for reading.

    Attributes:
        folder: where it lies.
        schema: "documents", "conversations" or "preferences".
        rows: number of rows.
        bytes: UTF-8 bytes of all texts, uncompressed.
        lineage: what made it, from what, as the maker wrote it.
        shards: names of its shard files, in order.
        sha256: one hash over all shards: equal for equal contents in equal shards.
    """

    def __init__(self, folder: Path, manifest: Mapping[str, Any]):
        self.folder = folder
        self.manifest = dict(manifest)
        self.schema: str = manifest["schema"]
        self.rows: int = int(manifest["rows"])
        self.bytes: int = int(manifest["bytes"])
        self.lineage: dict[str, Any] = dict(manifest["lineage"])
        self._shards: dict[str, dict[str, Any]] = {shard["name"]: shard for shard in manifest["shards"]}
        self.shards = tuple(self._shards)
        hashes = [shard["sha256"] for shard in self._shards.values()]
        self.sha256 = hashlib.sha256("\n".join([self.schema, *hashes]).encode()).hexdigest()
        self._verified: set[Path] = set()

    @classmethod
    def open(cls, folder: str | Path, *, allow_empty: bool = False) -> "Corpus":
        """Open the corpus in `folder`.

        Args:
            allow_empty: accept a corpus of no rows, which is otherwise an error.

        Raises:
            HornbookError: missing, unfinished, empty, of another format, or a shard is missing or cut short.
        """
        folder = Path(folder)
        if not folder.is_dir():
            raise HornbookError(f"There is no corpus at {folder}: the folder does not exist.")
        try:
            manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
            if manifest["format"] != FORMAT:
                raise HornbookError(
                    f"{folder} is a corpus of format {manifest['format']}, written by Hornbook"
                    f" {manifest.get('hornbook', '?')}; this one reads format {FORMAT}."
                )
            corpus = cls(folder, manifest)
            known = corpus.schema in SCHEMAS
        except FileNotFoundError:
            raise HornbookError(
                f"{folder} is not a finished corpus: it has no {MANIFEST}. Run the step that makes it again."
            ) from None
        except (ValueError, KeyError, TypeError) as error:
            raise HornbookError(
                f"{folder / MANIFEST} is damaged ({error!r}). Restore the file or make the corpus again."
            ) from None
        if not known:
            raise HornbookError(
                f"{folder} has the schema {corpus.schema!r}; Hornbook knows {', '.join(SCHEMAS)}."
            )
        corpus._check_sizes()
        if corpus.rows == 0 and not allow_empty:
            raise HornbookError(f"The corpus {folder} is empty: it holds no rows. Check what was to fill it.")
        return corpus

    def iter_batches(
        self, columns: Sequence[str] | None = None, rows: int = 4096
    ) -> Iterator[pa.RecordBatch]:
        """Record batches of at most `rows` rows, in order, with `columns` (all by default).

        Raises:
            HornbookError: an unknown column; a damaged or missing shard, by name.
        """
        if rows < 1:
            raise HornbookError(f"rows is {rows}; a batch has at least 1 row.")
        names = self._columns(columns)
        for shard in self.shards:
            yield from self._read_shard(self.folder / shard, self._shards[shard], names, rows)

    def iter_rows(self, columns: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
        """Rows as dictionaries, in order."""
        for batch in self.iter_batches(columns):
            yield from batch.to_pylist()

    def read(self, columns: Sequence[str] | None = None) -> pa.Table:
        """The whole corpus, or some columns of it, in memory."""
        schema = SCHEMAS[self.schema]
        chosen = pa.schema([schema.field(name) for name in self._columns(columns)])
        return pa.Table.from_batches(self.iter_batches(columns, rows=65536), chosen)

    def verify(self) -> None:
        """Compare every shard, attributes included, with its hash.

        Raises:
            HornbookError: naming the first damaged or missing shard.
        """
        self._verified.clear()
        self._check_sizes()
        for shard in self.shards:
            self._verify_shard(self.folder / shard, self._shards[shard])
        for name in self.attributes:
            for shard in self._attribute_manifest(name)["shards"]:
                self._verify_shard(self._attribute_folder(name) / shard["name"], shard)

    def verified_shards(self) -> Iterator[Path]:
        """Paths of the shards, in order, each compared with its hash: for readers of row groups.

        Raises:
            HornbookError: a damaged or missing shard, by name.
        """
        for shard in self.shards:
            self._verify_shard(self.folder / shard, self._shards[shard])
            yield self.folder / shard

    @cached_property
    def sources(self) -> dict[str, int]:
        """Rows by source, most first."""
        counts: dict[str, int] = {}
        for batch in self.iter_batches(["source"], rows=65536):
            for pair in batch.column("source").value_counts().to_pylist():
                counts[pair["values"]] = counts.get(pair["values"], 0) + pair["counts"]
        return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))

    # Attributes

    @property
    def attributes(self) -> tuple[str, ...]:
        """Names of the attribute sets that lie beside the rows."""
        folder = self.folder / "attributes"
        if not folder.is_dir():
            return ()
        return tuple(sorted(p.name for p in folder.iterdir() if (p / "attributes.json").is_file()))

    def write_attributes(self, name: str, batches: Iterable[pa.RecordBatch | pa.Table]) -> None:
        """Write an attribute set: columns for the rows of this corpus, in its order, in batches of any size.

        It appears whole or not at all, and replaces one of the same name.

        Raises:
            HornbookError: the batches do not have as many rows as the corpus.
        """
        folder = self._attribute_folder(name)
        partial = folder.with_name(f"{name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        try:
            tables = [b if isinstance(b, pa.Table) else pa.Table.from_batches([b]) for b in batches]
            table = pa.concat_tables(tables) if tables else pa.table({})
            if table.num_rows != self.rows:
                raise HornbookError(
                    f"The attributes {name!r} have {table.num_rows} rows;"
                    f" the corpus {self.folder} has {self.rows}."
                )
            shards, row = [], 0
            for shard in self.shards:
                count = self._shards[shard]["rows"]
                shards.append(write_shard(partial / shard, table.slice(row, count)))
                row += count
            manifest = {
                "format": FORMAT,
                "corpus": self.sha256,
                "columns": table.column_names,
                "shards": shards,
            }
            write_atomic(partial / "attributes.json", json.dumps(manifest, indent=2))
            shutil.rmtree(folder, ignore_errors=True)
            partial.rename(folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def read_attributes(self, name: str, columns: Sequence[str] | None = None) -> pa.Table:
        """The attribute set `name`: as many rows as the corpus, in its order."""
        folder, manifest = self._attribute_folder(name), self._attribute_manifest(name)
        if manifest["corpus"] != self.sha256:
            raise HornbookError(
                f"The attributes {folder} were made for other contents of this corpus."
                " Delete them and make them again."
            )
        names = list(columns) if columns is not None else manifest["columns"]
        for column in names:
            if column not in manifest["columns"]:
                raise HornbookError(
                    f"{folder} has no column {column!r}; it has {', '.join(manifest['columns'])}."
                )
        batches = [
            b for s in manifest["shards"] for b in self._read_shard(folder / s["name"], s, names, 65536)
        ]
        return pa.Table.from_batches(batches)

    def _attribute_folder(self, name: str) -> Path:
        if not name or not all(c.isalnum() or c in "-_" for c in name):
            raise HornbookError(f"An attribute set is named with letters, digits, - and _, not {name!r}.")
        return self.folder / "attributes" / name

    def _attribute_manifest(self, name: str) -> dict[str, Any]:
        path = self._attribute_folder(name) / "attributes.json"
        if not path.is_file():
            has = ", ".join(self.attributes) or "none"
            raise HornbookError(f"The corpus {self.folder} has no attributes {name!r}; it has {has}.")
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return manifest

    # Reading

    def _columns(self, columns: Sequence[str] | None) -> list[str]:
        known = SCHEMAS[self.schema].names
        for name in columns or ():
            if name not in known:
                raise HornbookError(
                    f"A corpus of {self.schema} has no column {name!r}; it has {', '.join(known)}."
                )
        return list(known if columns is None else columns)

    def _check_sizes(self) -> None:
        for name, shard in self._shards.items():
            check_size(self.folder / name, shard)

    def _verify_shard(self, path: Path, shard: Mapping[str, Any]) -> None:
        if path in self._verified:
            return
        check_size(path, shard)
        found = sha256_file(path)
        if found != shard["sha256"]:
            raise damaged(path, f"its SHA-256 is {found[:16]}..., not {shard['sha256'][:16]}... as written")
        self._verified.add(path)

    def _read_shard(
        self, path: Path, shard: Mapping[str, Any], columns: list[str], rows: int
    ) -> Iterator[pa.RecordBatch]:
        self._verify_shard(path, shard)
        try:
            with pq.ParquetFile(path) as file:
                for batch in file.iter_batches(batch_size=rows, columns=columns):
                    yield batch.select(columns)
        except (OSError, pa.ArrowException) as error:
            raise damaged(path, str(error)) from error
