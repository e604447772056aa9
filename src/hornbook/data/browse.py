"""Looking into a corpus without reading it whole: pages, single rows, search, coverage.

Only the row groups that hold what is asked for are read, and no shard is hashed: looking is not verifying
(`Corpus.verify` is). So the first page of a corpus of any size opens at once.
"""

import bisect
import itertools
import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from hornbook.data.corpus import Corpus
from hornbook.data.shards import damaged
from hornbook.errors import HornbookError

_SAMPLED_GROUPS = 8
_SAMPLED_ROWS = 20_000


@dataclass(frozen=True, kw_only=True)
class RowGroup:
    """A row group on disk: its shard, its number in it, and the number of its first row in the corpus."""

    shard: str
    number: int
    first: int
    rows: int


@dataclass(frozen=True, kw_only=True)
class Search:
    """What a search found: (number, row) pairs, and where to go on, None at the end of the corpus."""

    rows: list[tuple[int, dict[str, Any]]]
    next: int | None
    looked_at: int


def row_groups(corpus: Corpus) -> tuple[RowGroup, ...]:
    """Every row group in order. Only the ends of the files are read, once for each state of the files."""
    stamps = tuple((name, (corpus.folder / name).stat().st_mtime_ns) for name in corpus.shards)
    return _row_groups(corpus.folder, stamps)


@lru_cache(maxsize=256)
def _row_groups(folder: Path, stamps: tuple[tuple[str, int], ...]) -> tuple[RowGroup, ...]:
    found: list[RowGroup] = []
    first = 0
    for shard, _ in stamps:
        try:
            metadata = pq.read_metadata(folder / shard)
        except (OSError, pa.ArrowException) as error:
            raise damaged(folder / shard, str(error)) from error
        for number in range(metadata.num_row_groups):
            rows = metadata.row_group(number).num_rows
            found.append(RowGroup(shard=shard, number=number, first=first, rows=rows))
            first += rows
    return tuple(found)


def page(corpus: Corpus, *, offset: int = 0, rows: int = 20) -> list[dict[str, Any]]:
    """Rows `offset`, `offset + 1`, ... of the corpus: at most `rows` of them."""
    return _slice(corpus, corpus.folder, offset, rows)


def rows_at(corpus: Corpus, numbers: Sequence[int]) -> list[dict[str, Any]]:
    """The rows with these numbers, in ascending order of the numbers; each row group is read once."""
    found: list[dict[str, Any]] = []
    wanted = sorted(numbers)
    if wanted and not 0 <= wanted[0] <= wanted[-1] < corpus.rows:
        raise HornbookError(f"{corpus.folder} has rows 0 to {corpus.rows - 1}.")
    for group in row_groups(corpus):
        left = bisect.bisect_left(wanted, group.first)
        right = bisect.bisect_left(wanted, group.first + group.rows)
        if left < right:
            places = [number - group.first for number in wanted[left:right]]
            found += _read(corpus.folder, group).take(places).to_pylist()
    return found


def attributes_page(corpus: Corpus, name: str, *, offset: int = 0, rows: int = 20) -> list[dict[str, Any]]:
    """The attributes `name` of the same rows as `page` gives."""
    if name not in corpus.attributes:
        raise HornbookError(f"The corpus {corpus.folder} has no attributes {name!r}.")
    return _slice(corpus, corpus.folder / "attributes" / name, offset, rows)


def _slice(corpus: Corpus, folder: Path, offset: int, rows: int) -> list[dict[str, Any]]:
    if rows < 1 or offset < 0:
        raise HornbookError(f"rows is {rows} and offset {offset}; show at least 1 row, from 0 on.")
    groups = row_groups(corpus) if folder == corpus.folder else _groups_of(corpus, folder)
    found: list[dict[str, Any]] = []
    at = max(0, bisect.bisect_right([group.first for group in groups], offset) - 1)
    for group in groups[at:]:
        if len(found) == rows:
            break
        begin = max(0, offset - group.first)
        if begin >= group.rows:
            continue
        table = _read(folder, group)
        found += table.slice(begin, rows - len(found)).to_pylist()
    return found


def _groups_of(corpus: Corpus, folder: Path) -> tuple[RowGroup, ...]:
    stamps = tuple((name, (folder / name).stat().st_mtime_ns) for name in corpus.shards)
    return _row_groups(folder, stamps)


def _read(folder: Path, group: RowGroup, columns: Sequence[str] | None = None) -> pa.Table:
    try:
        with pq.ParquetFile(folder / group.shard) as file:
            return file.read_row_group(group.number, columns=None if columns is None else list(columns))
    except (OSError, pa.ArrowException) as error:
        raise damaged(folder / group.shard, str(error)) from error


def search(
    corpus: Corpus,
    text: str,
    *,
    source: str = "",
    start: int = 0,
    rows: int = 20,
    seconds: float = 1.0,
) -> Search:
    """Rows from number `start` on whose text contains `text` (any case), of one source if that is given.

    Looks for at most about `seconds`; `Search.next` is where the next call goes on.
    """
    found: list[tuple[int, dict[str, Any]]] = []
    end, looked = time.monotonic() + seconds, 0
    for group in row_groups(corpus):
        if group.first + group.rows <= start:
            continue
        if looked and time.monotonic() >= end:
            return Search(rows=found, next=group.first, looked_at=looked)
        table = _read(corpus.folder, group)
        places = _matching(table, text, source)
        for place in places:
            number = group.first + place
            if number < start:
                continue
            if len(found) == rows:
                return Search(rows=found, next=number, looked_at=looked)
            found.append((number, table.slice(place, 1).to_pylist()[0]))
        looked += group.rows
    return Search(rows=found, next=None, looked_at=looked)


def _matching(table: pa.Table, text: str, source: str) -> list[int]:
    """Numbers of the rows of `table` that match."""
    kept = set(range(table.num_rows))
    if source:
        kept &= set(pc.indices_nonzero(pc.equal(table.column("source"), source)).to_pylist())
    if text and kept:
        hits: set[int] = set()
        for column in ("text", "chosen", "rejected"):
            if column in table.column_names:
                match = pc.match_substring(table.column(column), text, ignore_case=True)
                hits |= set(pc.indices_nonzero(match).to_pylist())
        if "messages" in table.column_names:
            messages = table.column("messages").combine_chunks()
            content = pc.struct_field(pc.list_flatten(messages), "content")
            match = pc.match_substring(content, text, ignore_case=True)
            owners = pc.list_parent_indices(messages)
            hits |= set(owners.filter(match).to_pylist())
        kept &= hits
    return sorted(kept)


# Coverage


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """How often each pair of values of two fields occurs: `counts[row][column]`; zero where it never does.

    looked_at: rows counted, of `of` in all (large corpora are sampled evenly).
    """

    rows: list[str]
    columns: list[str]
    counts: list[list[int]]
    looked_at: int
    of: int


def fields(corpus: Corpus, *, most_values: int = 40) -> dict[str, int]:
    """Fields of `meta` (and `source`) with 2 to `most_values` different values, and how many those are."""
    values: dict[str, Counter[str]] = {}
    for row in itertools.islice(_sampled(corpus), 1000):
        for name, value in _flat(row):
            values.setdefault(name, Counter())[value] += 1
    return {name: len(seen) for name, seen in sorted(values.items()) if 2 <= len(seen) <= most_values}


def coverage(corpus: Corpus, first: str, second: str, *, most: int = 40) -> Coverage:
    """Crosses two fields: what was written often, seldom, never. The `most` commonest values of each."""
    pairs: Counter[tuple[str, str]] = Counter()
    looked = 0
    for row in _sampled(corpus):
        looked += 1
        across = _values(row, second)
        pairs.update((a, b) for a in _values(row, first) for b in across)
    by_row: Counter[str] = Counter()
    by_column: Counter[str] = Counter()
    for (a, b), count in pairs.items():
        by_row[a] += count
        by_column[b] += count
    rows = [name for name, _ in by_row.most_common(most)]
    columns = [name for name, _ in by_column.most_common(most)]
    counts = [[pairs[a, b] for b in columns] for a in rows]
    return Coverage(rows=rows, columns=columns, counts=counts, looked_at=looked, of=corpus.rows)


def _sampled(corpus: Corpus) -> Iterator[dict[str, Any]]:
    """`source` and parsed `meta` of at most `_SAMPLED_ROWS` rows, from row groups spread evenly."""
    groups = row_groups(corpus)
    stride = max(1, -(-len(groups) // _SAMPLED_GROUPS))
    chosen = groups[::stride]
    each = -(-_SAMPLED_ROWS // max(1, len(chosen)))
    for group in chosen:
        table = _read(corpus.folder, group, ["source", "meta"])
        for row in table.slice(0, each).to_pylist():
            try:
                meta = json.loads(row["meta"] or "{}")
            except ValueError:
                meta = {}
            yield {"source": row["source"], "meta": meta if isinstance(meta, dict) else {}}


def _values(row: Mapping[str, Any], name: str) -> list[str]:
    """The values of one field of a row, as `_flat` gives them."""
    if name == "source":
        return [str(row["source"])]
    level: Any = row["meta"]
    for part in name.split("."):
        if not isinstance(level, Mapping) or part not in level:
            return []
        level = level[part]
    return [value for _, value in _leaf(name, level)]


def _flat(row: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(field, value) pairs of one row; a list gives a pair for each short member."""
    yield "source", str(row["source"])
    waiting = [("", row["meta"])]
    while waiting:
        prefix, level = waiting.pop()
        for name, value in level.items():
            if isinstance(value, Mapping):
                waiting.append((f"{prefix}{name}.", value))
            else:
                yield from _leaf(prefix + name, value)


def _leaf(name: str, value: object) -> Iterator[tuple[str, str]]:
    if isinstance(value, list):
        yield from ((name, str(one)) for one in value[:20] if isinstance(one, str | int | bool))
    elif isinstance(value, str | int | bool) and len(str(value)) <= 60:
        yield name, str(value)
