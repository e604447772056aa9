"""Evaluation sets to hold a corpus against: from corpora, from files of JSON lines, or given as items."""

import gzip
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hornbook.curate.decontaminate import EvaluationItem
from hornbook.data.corpus import Corpus
from hornbook.errors import HornbookError
from hornbook.lab.step import Artifact

EvaluationSource = Artifact | Path | Sequence[EvaluationItem]
# Names that fields of public evaluation sets have, tried in this order.
_FIELDS: Mapping[str, tuple[str, ...]] = {
    "question": ("question", "prompt", "problem", "instruction", "input", "text", "query"),
    "answer": ("answer", "output", "response", "target", "solution"),
    "passage": ("passage", "context", "article"),
    "code": ("code", "canonical_solution", "program"),
    "id": ("id", "task_id", "src_index"),
}


def read_evaluation_set(source: EvaluationSource) -> list[EvaluationItem]:
    """The questions of an evaluation set.

    A corpus of documents: the text is the question; `answer`, `passage` and `code` are taken from its meta.
    A corpus of conversations: what users say is the question, the last assistant message the answer.
    A file of JSON lines (.jsonl, .jsonl.gz): see `_FIELDS` for the names of fields that are understood.

    Raises:
        HornbookError: nothing there, a line that is not JSON, or one without a question, by its number.
    """
    if not isinstance(source, Artifact | Path):
        return list(source)
    path = source.path if isinstance(source, Artifact) else source
    if path.is_file():
        return list(_items_of_file(path))
    items = []
    corpus = Corpus.open(path)
    for row in corpus.iter_rows():
        meta = json.loads(row["meta"])
        if corpus.schema == "documents":
            question, answer = row["text"], str(meta.get("answer", ""))
        else:
            question = "\n".join(m["content"] for m in row["messages"] if m["role"] == "user")
            said = [m["content"] for m in row["messages"] if m["role"] == "assistant"]
            answer = said[-1] if said else str(row.get("chosen", ""))
        items.append(
            EvaluationItem(
                id=row["id"],
                question=question,
                answer=answer,
                passage=str(meta.get("passage", "")),
                code=str(meta.get("code", "")),
            )
        )
    return items


def _items_of_file(path: Path) -> Iterator[EvaluationItem]:
    opened = gzip.open if path.suffix == ".gz" else open
    try:
        with opened(path, "rt", encoding="utf-8", newline="\n") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield _item(line, number, path)
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise HornbookError(f"The evaluation set {path} could not be read: {error}.") from None


def _item(line: str, number: int, path: Path) -> EvaluationItem:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise HornbookError(f"{path}, line {number}, is not JSON: {error}.") from None
    found: dict[str, Any] = {}
    for name, names in _FIELDS.items():
        value = next((row[n] for n in names if isinstance(row, dict) and row.get(n) is not None), "")
        found[name] = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if not found["question"].strip():
        raise HornbookError(
            f"{path}, line {number}, has no question: it needs one of the fields "
            f"{', '.join(_FIELDS['question'])}."
        )
    return EvaluationItem(**(found | {"id": found["id"] or str(number)}))
