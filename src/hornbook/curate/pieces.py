"""Pieces of a corpus: what one process examines at a time, read by whoever examines it.

A piece names rows of one row group of one shard. It is read where it is examined, so that a pool or a cluster
is sent names and not texts; workers on other machines must see the corpus under the same path.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import pyarrow as pa
import pyarrow.parquet as pq

from hornbook.data.corpus import Corpus
from hornbook.errors import HornbookError

ROWS = 1024
_BYTES = 2 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """Rows of a corpus. number: place among the pieces. path: the shard. group: its row group. start: first
    row in the group. rows: how many. first: first row in the corpus."""

    number: int
    path: str
    group: int
    start: int
    rows: int
    first: int

    def read(self) -> pa.RecordBatch:
        """The column `text` of these rows.

        Raises:
            HornbookError: the shard cannot be read here, by name.
        """
        try:
            group = _row_group(self.path, self.group)
        except (OSError, pa.ArrowException) as error:
            raise HornbookError(
                f"The shard {self.path} could not be read ({error}). Every worker must see the corpus under "
                "this path; on a cluster that is a shared folder."
            ) from None
        return group.slice(self.start, self.rows)


@lru_cache(maxsize=1)
def _row_group(path: str, group: int) -> pa.RecordBatch:
    with pq.ParquetFile(path) as file:
        table = file.read_row_group(group, columns=["text"]).combine_chunks()
        batches = table.to_batches()
        return batches[0] if batches else pa.RecordBatch.from_pylist([], schema=table.schema)


def pieces_of(corpus: Corpus, rows: int = ROWS) -> Iterator[Piece]:
    """The whole corpus in pieces of at most `rows` documents, in order; each shard is verified first."""
    number = first = 0
    for path in corpus.verified_shards():
        with pq.ParquetFile(path) as file:
            sizes = [
                (file.metadata.row_group(i).num_rows, file.metadata.row_group(i).total_byte_size)
                for i in range(file.metadata.num_row_groups)
            ]
        for group, (count, size) in enumerate(sizes):
            # Long documents: fewer in a piece.
            step = max(1, min(rows, int(rows * _BYTES / max(size * rows / max(count, 1), _BYTES))))
            for start in range(0, count, step):
                taken = min(step, count - start)
                yield Piece(
                    number=number, path=str(path), group=group, start=start, rows=taken, first=first + start
                )
                number += 1
            first += count
