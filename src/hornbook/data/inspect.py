"""What a corpus holds, as plain values: the functions behind `hornbook data ls|show|stats|diff`."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hornbook.data.corpus import Corpus
from hornbook.errors import HornbookError

QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)


def list_corpora(folder: str | Path) -> list[dict[str, Any]]:
    """Every corpus at or below `folder`: path, schema, rows, bytes, shards, attributes; a broken one has
    `error`.

    Raises:
        HornbookError: the folder does not exist.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise HornbookError(f"There is no folder {folder}.")
    found: list[dict[str, Any]] = []
    for manifest in sorted(folder.rglob("corpus.json")):
        entry: dict[str, Any] = {"path": str(manifest.parent)}
        try:
            corpus = Corpus.open(manifest.parent, allow_empty=True)
        except HornbookError as error:
            entry["error"] = str(error)
        else:
            entry |= {
                "schema": corpus.schema,
                "rows": corpus.rows,
                "bytes": corpus.bytes,
                "shards": len(corpus.shards),
                "attributes": list(corpus.attributes),
            }
        found.append(entry)
    return found


def show(
    corpus: Corpus, *, rows: int = 5, offset: int = 0, ids: tuple[str, ...] = (), search: str | None = None
) -> list[dict[str, Any]]:
    """Some rows: those with `ids`, or those whose text contains `search` (any case), or simply the next ones.

    Args:
        rows: at most so many.
        offset: leave out so many that would have been shown.

    Raises:
        HornbookError: an id that no row has, or a number that makes no sense.
    """
    if rows < 1 or offset < 0:
        raise HornbookError(f"rows is {rows} and offset {offset}; show at least 1 row, from 0 on.")
    wanted, shown = set(ids), []
    needle = search.casefold() if search is not None else None
    for row in corpus.iter_rows():
        if wanted and row["id"] not in wanted:
            continue
        if needle is not None and needle not in row_text(row).casefold():
            continue
        if offset:
            offset -= 1
            continue
        shown.append(row)
        if len(shown) == rows and not wanted:
            break
    missing = wanted - {row["id"] for row in shown}
    if missing and search is None:
        raise HornbookError(f"The corpus {corpus.folder} has no row with id {', '.join(sorted(missing))}.")
    return shown


def statistics(corpus: Corpus, tokenizer: Any = None) -> dict[str, Any]:
    """Rows, bytes, sources, lengths and exact duplicates of a corpus.

    Args:
        tokenizer: a `Tokenizer`; with it tokens and bytes per token are counted, over all and by source.

    Returns:
        rows, bytes, shards; `sources`: {name: {rows, bytes, tokens?, bytes_per_token?}}; `bytes_quantiles`:
        {quantile: bytes of a row}; `duplicate_share`: share of rows whose content stood in an earlier row;
        `repeated_ids`: rows whose id stood in an earlier row; tokens and bytes_per_token when asked for.
    """
    lengths: list[int] = []
    contents: set[bytes] = set()
    ids: set[str] = set()
    sources: dict[str, Counter[str]] = {}
    for batch in corpus.iter_batches():
        rows = batch.to_pylist()
        texts = [row_text(row) for row in rows]
        tokens = (
            [len(t) for t in tokenizer.encode_batch(texts)] if tokenizer is not None else [0] * len(texts)
        )
        for row, text, count in zip(rows, texts, tokens, strict=True):
            data = text.encode()
            lengths.append(len(data))
            contents.add(hashlib.sha256(data).digest()[:16])
            ids.add(row["id"])
            source = sources.setdefault(row["source"], Counter())
            source.update(rows=1, bytes=len(data), tokens=count)
    quantiles = np.quantile(lengths, QUANTILES) if lengths else np.zeros(len(QUANTILES))
    result: dict[str, Any] = {
        "schema": corpus.schema,
        "rows": corpus.rows,
        "bytes": sum(lengths),
        "shards": len(corpus.shards),
        "sources": {},
        "bytes_quantiles": {str(q): float(v) for q, v in zip(QUANTILES, quantiles, strict=True)},
        "duplicate_share": 1 - len(contents) / len(lengths) if lengths else 0.0,
        "repeated_ids": len(lengths) - len(ids),
        "attributes": list(corpus.attributes),
        "lineage": corpus.lineage,
    }
    for name, source in sorted(sources.items(), key=lambda item: (-item[1]["bytes"], item[0])):
        result["sources"][name] = {
            "rows": source["rows"],
            "bytes": source["bytes"],
            **_token_facts(source, tokenizer),
        }
    total = Counter({"bytes": sum(lengths), "tokens": sum(s["tokens"] for s in sources.values())})
    return result | _token_facts(total, tokenizer)


def compare(a: Corpus, b: Corpus, *, examples: int = 5) -> dict[str, Any]:
    """What two corpora have and have not in common, by id and by content.

    Returns:
        `same`: rows with equal id and content; `changed`: ids in both whose content differs; `only_a`,
        `only_b`: ids in one alone; `moved`: rows of `only_b` whose content stands in `a` under another id;
        of each list the number, and under `examples` the first few ids.

    Raises:
        HornbookError: the corpora have different schemas.
    """
    if a.schema != b.schema:
        raise HornbookError(
            f"{a.folder} holds {a.schema} and {b.folder} holds {b.schema}: they cannot be compared."
        )
    first, second = dict(_digests(a)), dict(_digests(b))
    contents = set(first.values())
    lists = {
        "changed": [i for i, digest in first.items() if i in second and second[i] != digest],
        "only_a": [i for i in first if i not in second],
        "only_b": [i for i in second if i not in first],
        "moved": [i for i, digest in second.items() if i not in first and digest in contents],
    }
    return {
        "rows_a": a.rows,
        "rows_b": b.rows,
        "same": sum(1 for i, digest in first.items() if second.get(i) == digest),
        **{name: len(ids) for name, ids in lists.items()},
        "examples": {name: ids[:examples] for name, ids in lists.items()},
    }


def row_text(row: Mapping[str, Any]) -> str:
    """The text of a row of any schema: what is searched, counted and compared."""
    if "text" in row:
        return str(row["text"])
    parts = [f"{message['role']}: {message['content']}" for message in row["messages"]]
    parts += [f"{name}: {row[name]}" for name in ("chosen", "rejected") if name in row]
    return "\n".join(parts)


def _digests(corpus: Corpus) -> Iterator[tuple[str, bytes]]:
    seen: Counter[str] = Counter()
    for row in corpus.iter_rows():
        seen[row["id"]] += 1
        # Rows that share an id are told apart by their order.
        name = row["id"] if seen[row["id"]] == 1 else f"{row['id']} ({seen[row['id']]})"
        yield name, hashlib.sha256(row_text(row).encode()).digest()[:16]


def _token_facts(counts: Mapping[str, int], tokenizer: Any) -> dict[str, Any]:
    if tokenizer is None:
        return {}
    return {"tokens": counts["tokens"], "bytes_per_token": counts["bytes"] / max(1, counts["tokens"])}
