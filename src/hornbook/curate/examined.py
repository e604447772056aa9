"""What was examined, kept as it comes: one file that only grows, and that a dead process cannot spoil.

Each record is a head (magic, number of the piece, length, CRC-32) and one Arrow record batch, padded to 64
bytes so that it is read in place from the mapped file. A torn last record, which a killed process may leave,
is cut off at the next opening. The newest record of a piece counts.
"""

import os
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import pyarrow as pa

from hornbook.lab.files import disk_guard

_HEAD = struct.Struct("<8sqqI36x")  # 64 bytes
_MAGIC = b"examined"
_SYNC_BYTES = 64 << 20


def pack(batch: pa.RecordBatch) -> bytes:
    """A batch as bytes: the same for equal batches, wherever they were made."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    data: bytes = sink.getvalue().to_pybytes()
    return data


def unpack(data: bytes | pa.Buffer) -> pa.RecordBatch:
    """The batch that `pack` packed."""
    with pa.ipc.open_stream(data) as reader:
        return reader.read_next_batch()


class Examined:
    """The records in the file `path`; a context manager while it is written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._places: dict[int, tuple[int, int]] = {}
        self._file: BinaryIO | None = None
        self._unsynced = 0
        self._end = self._scan() if path.exists() else 0

    def __enter__(self) -> Self:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self.path.open("ab")
        self._file.truncate(self._end)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._file is not None
        self._sync()
        self._file.close()
        self._file = None

    def __contains__(self, number: object) -> bool:
        return number in self._places

    def add(self, number: int, data: bytes) -> None:
        """Keep the packed batch of a piece; when this returns, the death of this process loses nothing."""
        assert self._file is not None
        padded = data + bytes(-len(data) % 64)
        with disk_guard(self.path.parent):
            self._file.write(_HEAD.pack(_MAGIC, number, len(data), zlib.crc32(padded)) + padded)
            self._file.flush()
        self._places[number] = (self._end + _HEAD.size, len(data))
        self._end += _HEAD.size + len(padded)
        self._unsynced += len(padded)
        if self._unsynced > _SYNC_BYTES:
            self._sync()

    def _sync(self) -> None:
        assert self._file is not None
        os.fsync(self._file.fileno())
        self._unsynced = 0

    def batches(self, numbers: Sequence[int]) -> list[pa.RecordBatch]:
        """The batches of these pieces, in place in the mapped file: memory is used as they are touched."""
        if not numbers:
            return []
        with pa.memory_map(str(self.path)) as file:
            whole = file.read_buffer()
        return [unpack(whole.slice(*self._places[number])) for number in numbers]

    def _scan(self) -> int:
        end, size = 0, self.path.stat().st_size
        with self.path.open("rb") as file:
            while True:
                head = file.read(_HEAD.size)
                if len(head) < _HEAD.size:
                    return end
                magic, number, length, checksum = _HEAD.unpack(head)
                padded = length + -length % 64
                if magic != _MAGIC or length < 0 or end + _HEAD.size + padded > size:
                    return end
                if zlib.crc32(file.read(padded)) != checksum:
                    return end
                self._places[number] = (end + _HEAD.size, length)
                end += _HEAD.size + padded
