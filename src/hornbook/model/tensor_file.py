"""The safetensors format, read and written one tensor at a time.

Layout: 8 bytes little-endian header length, a JSON header {name: {dtype, shape, data_offsets}},
then the raw numbers. Written by hand so that neither way holds more than one tensor beside the model.
"""

import json
import os
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from hornbook.errors import HornbookError

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
}
NAMES = {dtype: name for name, dtype in DTYPES.items()}
_HEADER_LIMIT = 100 * 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One tensor of a file: where its bytes begin and what they mean."""

    name: str
    file: Path
    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int
    end: int

    def read(self) -> Tensor:
        """The tensor, on the CPU, in the dtype of the file."""
        out = torch.empty(self.shape, dtype=self.dtype)
        self.read_into(out)
        return out

    def read_into(self, destination: Tensor) -> None:
        """Reads straight into the memory of a contiguous CPU tensor of the same dtype and size."""
        if (
            destination.dtype != self.dtype
            or destination.numel() * destination.element_size() != self.end - self.start
        ):
            raise ValueError(f"{self.name}: destination does not fit")
        if self.end == self.start:
            return
        view = destination.detach().reshape(-1).view(torch.uint8).numpy().data
        with self.file.open("rb", buffering=0) as stream:
            stream.seek(self.start)
            done = 0
            while done < len(view):
                read = stream.readinto(view[done:])
                if not read:
                    raise HornbookError(f"{self.file} ends inside tensor {self.name}: the file is truncated.")
                done += read


def read_header(file: Path) -> tuple[dict[str, Entry], dict[str, str]]:
    """The tensors of a safetensors file by name, and its metadata.

    Raises HornbookError where the file is not a safetensors file, truncated or inconsistent.
    """
    size = file.stat().st_size
    with file.open("rb") as stream:
        head = stream.read(8)
        length = struct.unpack("<Q", head)[0] if len(head) == 8 else 0
        if not 2 <= length <= min(_HEADER_LIMIT, max(size - 8, 0)):
            raise HornbookError(
                f"{file} is not a complete safetensors file ({size} bytes, header of {length})."
            )
        text = stream.read(length)
    try:
        header: dict[str, Any] = json.loads(text)
        metadata = header.pop("__metadata__", {})
        entries = {}
        for name, item in header.items():
            start, end = item["data_offsets"]
            entries[name] = Entry(
                name=name,
                file=file,
                dtype=DTYPES[item["dtype"]],
                shape=tuple(item["shape"]),
                start=8 + length + start,
                end=8 + length + end,
            )
    except (ValueError, KeyError, TypeError) as error:
        raise HornbookError(f"The header of {file} is damaged or of an unknown kind ({error}).") from error
    for entry in entries.values():
        count = 1
        for side in entry.shape:
            count *= side
        if entry.end - entry.start != count * entry.dtype.itemsize or entry.start < 8 + length:
            raise HornbookError(
                f"The header of {file} is damaged: tensor {entry.name} has impossible offsets."
            )
        if entry.end > size:
            raise HornbookError(
                f"{file} is truncated: tensor {entry.name} ends at byte {entry.end} of {size}."
            )
    return entries, metadata


@dataclass(frozen=True, kw_only=True)
class Planned:
    """One tensor to be written; `make` is called when its turn comes."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    make: Callable[[], Tensor]

    @property
    def bytes(self) -> int:
        """Size in the file."""
        count = 1
        for side in self.shape:
            count *= side
        return count * self.dtype.itemsize


@contextmanager
def atomic_file(path: Path) -> Iterator[IO[bytes]]:
    """A binary file that appears under its name only when it is complete and on the disk."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with temporary.open("wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_tensors(path: Path, tensors: Sequence[Planned]) -> None:
    """Writes a safetensors file, one tensor in memory at a time; atomic."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for tensor in tensors:
        header[tensor.name] = {
            "dtype": NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [offset, offset + tensor.bytes],
        }
        offset += tensor.bytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with atomic_file(path) as stream:
        stream.write(struct.pack("<Q", len(text)))
        stream.write(text)
        for planned in tensors:
            value = planned.make().detach().to("cpu", planned.dtype).contiguous()
            if tuple(value.shape) != planned.shape:
                raise ValueError(f"{planned.name} has shape {tuple(value.shape)}, planned {planned.shape}")
            stream.write(value.reshape(-1).view(torch.uint8).numpy().data)
