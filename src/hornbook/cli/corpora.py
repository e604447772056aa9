"""data: looking at corpora, and choosing from them."""

import argparse
import json
from collections.abc import Iterable, Mapping
from typing import Any

from hornbook.cli import curation
from hornbook.errors import HornbookError


def data(args: argparse.Namespace) -> None:
    """ls, show, stats, diff, curate."""
    if args.action == "curate":
        curation.curate(args)
        return
    from hornbook.data import inspect
    from hornbook.data.corpus import Corpus

    wanted = {"ls": (0, 1), "show": (1, 1), "stats": (1, 1), "diff": (2, 2)}[args.action]
    if not wanted[0] <= len(args.paths) <= wanted[1]:
        raise HornbookError(
            f"`hornbook data {args.action}` takes {wanted[1]} corpus folder{'s' * (wanted[1] > 1)}, "
            f"not {len(args.paths)}. `hornbook data ls` lists the corpora there are."
        )
    if args.action == "ls":
        result: Any = inspect.list_corpora(args.paths[0] if args.paths else args.home)
    elif args.action == "diff":
        result = inspect.compare(*(Corpus.open(path) for path in args.paths))
    elif args.action == "stats":
        result = inspect.statistics(Corpus.open(args.paths[0]))
    else:
        ids = (args.id,) if args.id else ()
        result = inspect.show(Corpus.open(args.paths[0]), rows=args.rows, search=args.search, ids=ids)
    if args.json:
        print(json.dumps(result, indent=2, ensure_ascii=False))
    elif args.action == "ls":
        _print_list(result)
    elif args.action == "show":
        for row in result:
            print_row(row)
    else:
        _print_facts(result)


def _print_list(corpora: Iterable[Mapping[str, Any]]) -> None:
    from hornbook.lab.files import human_bytes

    for entry in corpora:
        if "error" in entry:
            print(f"{entry['path']}\n    damaged: {entry['error']}")
        else:
            shards = f"{entry['shards']} shard{'s' * (entry['shards'] != 1)}"
            size = human_bytes(entry["bytes"])
            print(f"{entry['path']}\n    {entry['rows']:,} {entry['schema']}, {size}, {shards}")


def print_row(row: Mapping[str, Any]) -> None:
    """One row of a corpus, as people read it."""
    print(f"--- {row['id']}  ({row['source']})")
    if "text" in row:
        print(row["text"])
    for message in row.get("messages", []):
        print(f"[{message['role']}] {message['content']}")
    for side in ("chosen", "rejected"):
        if side in row:
            print(f"[{side}] {row[side]}")
    if row.get("meta"):
        print(f"    meta: {row['meta']}")


def _print_facts(facts: Mapping[str, Any], indent: str = "") -> None:
    for name, value in facts.items():
        if isinstance(value, Mapping):
            print(f"{indent}{name}:")
            _print_facts(value, indent + "  ")
        elif isinstance(value, float):
            print(f"{indent}{name}: {value:.4g}")
        elif isinstance(value, int) and not isinstance(value, bool):
            print(f"{indent}{name}: {value:,}")
        else:
            print(f"{indent}{name}: {value}")
