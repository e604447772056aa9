"""Tokenised documents on disk, read through a memory map. Needs numpy and the standard library alone.

A token file is a folder::

    tokens.bin      every token of every document, one after the other (uint16, or uint32 for large
    vocabularies) documents.npy   int64 offsets, one more than documents: document i is
    tokens[offsets[i]:offsets[i + 1]] mask.bin        optional, uint8: 1 where the token is learned (as a
    target), 0 where it is only read tokens.json     sizes, SHA-256 of the three files above, and whatever
    the maker wants remembered

`tokens.json` is written last, so a folder without it is unfinished work, never a short data set.
"""

import hashlib
import io
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hornbook.errors import HornbookError

FORMAT = 1
_MANIFEST = "tokens.json"


def token_dtype(vocab_size: int) -> np.dtype[Any]:
    """The narrowest type that holds every id below `vocab_size`: uint16 up to 65,536 ids, else uint32."""
    if not 0 < vocab_size <= 2**32:
        raise HornbookError(f"vocab_size is {vocab_size}; it must be between 1 and 4294967296.")
    return np.dtype(np.uint16 if vocab_size <= 2**16 else np.uint32)


class TokenFile:
    """A finished token file, open for reading.

    Attributes:
        folder: where it lies.
        vocab_size: every id is below it.
        tokens: (tokens,) read-only view of the memory map.
        documents: (documents + 1,) int64 offsets into `tokens`.
        mask: (tokens,) uint8 or None when every token is learned.
        facts: what the maker wrote beside the sizes (for instance bytes and the tokeniser's hash).
        sha256: one hash over the contents, as recorded when it was written.
    """

    def __init__(self, folder: Path, manifest: Mapping[str, Any]):
        self.folder = folder
        self.vocab_size = int(manifest["vocab_size"])
        self.facts: dict[str, Any] = dict(manifest.get("facts", {}))
        self._hashes: dict[str, str] = dict(manifest["sha256"])
        self.sha256 = hashlib.sha256(json.dumps(self._hashes, sort_keys=True).encode()).hexdigest()
        dtype = token_dtype(self.vocab_size)
        count, documents = int(manifest["tokens"]), int(manifest["documents"])
        self.tokens: NDArray[Any] = _map(folder / "tokens.bin", dtype, count)
        self.documents: NDArray[np.int64] = _offsets(folder / "documents.npy", documents, count)
        self.mask: NDArray[np.uint8] | None = None
        if "mask.bin" in self._hashes:
            self.mask = _map(folder / "mask.bin", np.dtype(np.uint8), count)

    @classmethod
    def open(cls, folder: str | Path) -> "TokenFile":
        """Open the token file in `folder`.

        Raises:
            HornbookError: the folder is missing, unfinished, or its files do not have the recorded sizes.
        """
        folder = Path(folder)
        if not folder.is_dir():
            raise HornbookError(f"There is no token file at {folder}: the folder does not exist.")
        try:
            manifest = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
            if manifest["format"] != FORMAT:
                raise HornbookError(
                    f"{folder} is a token file of format {manifest['format']};"
                    f" this Hornbook reads format {FORMAT}. Tokenise the corpus again."
                )
            return cls(folder, manifest)
        except FileNotFoundError:
            raise HornbookError(
                f"{folder} holds no finished token file ({_MANIFEST} is missing). Tokenise the corpus again."
            ) from None
        except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, ValueError) as error:
            raise HornbookError(
                f"{folder / _MANIFEST} is damaged ({error}). Delete {folder} and tokenise the corpus again."
            ) from None

    def __len__(self) -> int:
        """Number of documents."""
        return len(self.documents) - 1

    @property
    def token_count(self) -> int:
        """Number of tokens over all documents."""
        return len(self.tokens)

    def document(self, index: int) -> NDArray[Any]:
        """Ids of document `index`: a view, not a copy."""
        if not 0 <= index < len(self):
            raise IndexError(f"document {index} of {len(self)}")
        return self.tokens[self.documents[index] : self.documents[index + 1]]

    def document_mask(self, index: int) -> NDArray[np.uint8]:
        """Mask of document `index`; all ones when the file has no mask."""
        if self.mask is None:
            return np.ones(len(self.document(index)), np.uint8)
        return self.mask[self.documents[index] : self.documents[index + 1]]

    def verify(self) -> None:
        """Read everything and compare with the recorded hashes; raise HornbookError naming a damaged file."""
        for name, expected in self._hashes.items():
            path = self.folder / name
            with path.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
            if found != expected:
                raise HornbookError(
                    f"{path} is damaged: its SHA-256 is {found[:16]}..., not {expected[:16]}... as written."
                    " Delete the folder and tokenise the corpus again."
                )


class TokenWriter:
    """Writes a token file; a context manager.

    The file appears when the `with` block ends without an error. On an error nothing readable is left. The
    writer stores documents exactly as given: end each with the end-of-text id if the model is to learn to
    stop.

    Args:
        folder: created if missing; must not already hold a finished token file.
        vocab_size: ids must be below it.
        with_mask: whether every document comes with a mask.
        facts: JSON remembered in `tokens.json`; may be filled until the block ends.
    """

    def __init__(
        self,
        folder: str | Path,
        vocab_size: int,
        with_mask: bool = False,
        *,
        facts: Mapping[str, Any] | None = None,
    ):
        self.folder = Path(folder)
        self.vocab_size = vocab_size
        self.with_mask = with_mask
        self.facts: dict[str, Any] = dict(facts or {})
        self.token_count = 0
        self._dtype = token_dtype(vocab_size)
        self._lengths: list[NDArray[np.int64]] = []
        self._files: dict[str, BinaryIO] = {}
        self._hash = {name: hashlib.sha256() for name in self._names()}

    def _names(self) -> tuple[str, ...]:
        return ("tokens.bin", "mask.bin") if self.with_mask else ("tokens.bin",)

    def __enter__(self) -> Self:
        if (self.folder / _MANIFEST).exists():
            raise HornbookError(
                f"{self.folder} already holds a token file. Delete it first or choose another folder."
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        for name in self._names():
            self._files[name] = (self.folder / f"{name}.partial").open("wb")
        return self

    def write(self, ids: ArrayLike, mask: ArrayLike | None = None) -> None:
        """Append one document: `ids` and, with a mask, 0 or 1 for each id."""
        ids = np.asarray(ids)
        self.write_many(ids, [len(ids)], mask)

    def write_many(
        self, ids: ArrayLike, lengths: Sequence[int] | NDArray[Any], mask: ArrayLike | None = None
    ) -> None:
        """Append documents given end to end: `ids` (sum of lengths,), `lengths` (documents,), `mask` as
        `ids`.

        Raises:
            HornbookError: an id outside the vocabulary, a mask that is missing, unasked for or not 0 and 1.
            ValueError: shapes that do not agree.
        """
        if not self._files:
            raise ValueError("TokenWriter is a context manager: write inside its with block")
        flat = np.asarray(ids)
        sizes = np.asarray(lengths, np.int64)
        if flat.ndim != 1 or sizes.ndim != 1 or (sizes < 0).any() or int(sizes.sum()) != len(flat):
            raise ValueError(f"{flat.shape} ids do not make documents of {int(sizes.sum())} tokens")
        if len(flat) and not np.issubdtype(flat.dtype, np.integer):
            raise ValueError(f"ids must be integers, not {flat.dtype}")
        if len(flat) and (int(flat.min()) < 0 or int(flat.max()) >= self.vocab_size):
            worst = int(flat.min()) if int(flat.min()) < 0 else int(flat.max())
            raise HornbookError(
                f"Token id {worst} does not fit a vocabulary of {self.vocab_size}."
                " The tokeniser and vocab_size do not belong together."
            )
        if (mask is not None) != self.with_mask:
            raise HornbookError(
                f"{self.folder} is written {'with' if self.with_mask else 'without'} a mask,"
                f" but a document came {'with' if mask is not None else 'without'} one."
            )
        self._append("tokens.bin", flat.astype(self._dtype, copy=False))
        if mask is not None:
            learned = np.asarray(mask)
            if learned.shape != flat.shape or not np.isin(learned, (0, 1)).all():
                raise ValueError("a mask holds 0 or 1 for every id")
            self._append("mask.bin", learned.astype(np.uint8, copy=False))
        self._lengths.append(sizes)
        self.token_count += len(flat)

    def _append(self, name: str, values: NDArray[Any]) -> None:
        data = values.tobytes()
        self._hash[name].update(data)
        try:
            self._files[name].write(data)
        except OSError as error:
            raise HornbookError(
                f"Could not write {self.folder / name}: {error.strerror or error}."
            ) from error

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._finish()
        finally:
            for file in self._files.values():
                file.close()
            self._files = {}
            for name in (*self._names(), "documents.npy"):
                (self.folder / f"{name}.partial").unlink(missing_ok=True)

    def _finish(self) -> None:
        lengths = np.concatenate([np.zeros(1, np.int64), *self._lengths])
        offsets = np.cumsum(lengths)
        for written in self._files.values():
            _sync(written)
        hashes = {name: digest.hexdigest() for name, digest in self._hash.items()}
        buffer = io.BytesIO()
        np.save(buffer, offsets)
        hashes["documents.npy"] = hashlib.sha256(buffer.getbuffer()).hexdigest()
        with (self.folder / "documents.npy.partial").open("wb") as file:
            file.write(buffer.getbuffer())
            _sync(file)
        for name in hashes:
            os.replace(self.folder / f"{name}.partial", self.folder / name)
        manifest = {
            "format": FORMAT,
            "vocab_size": self.vocab_size,
            "tokens": self.token_count,
            "documents": len(offsets) - 1,
            "sha256": hashes,
            "facts": self.facts,
        }
        temporary = self.folder / f"{_MANIFEST}.partial"
        with temporary.open("wb") as file:
            file.write(json.dumps(manifest, indent=2, sort_keys=True).encode())
            _sync(file)
        os.replace(temporary, self.folder / _MANIFEST)


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _map(path: Path, dtype: np.dtype[Any], count: int) -> NDArray[Any]:
    """A plain read-only array over the memory map (np.memmap itself makes every small slice slow)."""
    expected = count * dtype.itemsize
    size = path.stat().st_size if path.exists() else -1
    if size != expected:
        found = "is missing" if size < 0 else f"has {size} bytes"
        raise HornbookError(
            f"{path} {found}; its manifest says {expected} bytes."
            " The copy is incomplete or damaged: copy it again,"
            " or delete the folder and tokenise the corpus again."
        )
    if count == 0:
        return np.zeros(0, dtype)
    return np.asarray(np.memmap(path, dtype, "r", shape=(count,)))


def _offsets(path: Path, documents: int, tokens: int) -> NDArray[np.int64]:
    if not path.exists():
        raise HornbookError(f"{path} is missing. Delete the folder and tokenise the corpus again.")
    try:
        offsets: NDArray[np.int64] = np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
    except (ValueError, OSError, EOFError) as error:
        raise HornbookError(
            f"{path} is damaged ({error}). Delete the folder and tokenise the corpus again."
        ) from None
    ends_right = offsets.dtype == np.int64 and offsets.shape == (documents + 1,)
    if not ends_right or int(offsets[0]) != 0 or int(offsets[-1]) != tokens or (np.diff(offsets) < 0).any():
        raise HornbookError(
            f"{path} does not describe {documents} documents of {tokens} tokens in all."
            " Delete the folder and tokenise the corpus again."
        )
    return offsets
