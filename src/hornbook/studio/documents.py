"""The user's documents: kept below the home, cut into passages, searched for the chat."""

import re
import threading
from collections.abc import Mapping
from pathlib import Path

from hornbook.data.readers import SUFFIXES, read_source
from hornbook.data.retrieval import Found, Passage, PassageIndex, passages_of
from hornbook.errors import HornbookError
from hornbook.lab.files import write_atomic

FOLDER = ".studio/documents"
_NAME = re.compile(r"[^\w.\- ]+")


class Documents:
    """Files in one folder and the index over them, made anew when they change."""

    def __init__(self, home: Path) -> None:
        self._folder = home / FOLDER
        self._lock = threading.Lock()
        self._stamp: tuple[tuple[str, int, int], ...] = ()
        self._index = PassageIndex([])

    def names(self) -> Mapping[str, int]:
        """Their names and bytes."""
        if not self._folder.is_dir():
            return {}
        return {
            path.name: path.stat().st_size
            for path in sorted(self._folder.iterdir())
            if path.is_file() and not path.name.startswith(".")
        }

    def add(self, name: str, content: bytes) -> str:
        """Keeps a document; returns the name it has here.

        Raises:
            HornbookError: a kind that cannot be read, or no text in it; nothing is kept then.
        """
        kept = _NAME.sub("_", Path(name.replace("\\", "/")).name).strip(". ")[-120:]
        if not kept.lower().endswith(SUFFIXES):
            raise HornbookError(f"{name!r} cannot be read as text; accepted are {', '.join(SUFFIXES)}.")
        path = self._folder / kept
        trial = self._folder / ".new" / kept
        write_atomic(trial, content)
        try:
            if not any(row["text"].strip() for row in read_source(trial)):
                raise HornbookError(f"{name!r} holds no text.")
            trial.replace(path)
        finally:
            trial.unlink(missing_ok=True)
        return kept

    def remove(self, name: str) -> None:
        """Forgets a document."""
        if name in self.names():
            (self._folder / name).unlink(missing_ok=True)

    def search(self, question: str, most: int = 3) -> list[Found]:
        """The passages closest to the question."""
        return self._ready().search(question, most=most)

    def _ready(self) -> PassageIndex:
        with self._lock:
            stamp = tuple(
                (name, size, (self._folder / name).stat().st_mtime_ns) for name, size in self.names().items()
            )
            if stamp != self._stamp:
                passages: list[Passage] = []
                for name, _, _ in stamp:
                    for row in read_source(self._folder / name):
                        passages += passages_of(name, row["text"])
                self._index, self._stamp = PassageIndex(passages), stamp
            return self._index
