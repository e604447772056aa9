"""The GGUF container, version 3: typed metadata and tensors, read lazily and written one tensor at a time.

Layout, little-endian: magic, version, counts; key-value pairs; tensor names with shape (fastest
dimension first), kind and offset; then, aligned, the data. Only block formats need the `gguf`
package (their arithmetic); it is imported when the first block is seen.
"""

import mmap
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hornbook.errors import HornbookError
from hornbook.model.gguf_blocks import encode_q4_0
from hornbook.model.tensor_file import atomic_file

ALIGNMENT = 32
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
UINT32, INT32, FLOAT32, BOOL, STRING, ARRAY = 4, 5, 6, 7, 8, 9
_PLAIN = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


@dataclass(frozen=True, kw_only=True)
class Value:
    """One metadata value with its type number; for arrays `items` is the type of the items."""

    kind: int
    value: Any
    items: int = 0


@dataclass(frozen=True, kw_only=True)
class Info:
    """One tensor of a GGUF file; `shape` is in row-major order, slowest dimension first."""

    name: str
    kind: str
    shape: tuple[int, ...]
    start: int
    size: int


def block(kind: str) -> tuple[int, int]:
    """How many numbers a block of `kind` holds, and how many bytes it takes."""
    if kind in _PLAIN:
        return 1, _PLAIN[kind].itemsize
    from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

    numbers, size = GGML_QUANT_SIZES[GGMLQuantizationType[kind]]
    return int(numbers), int(size)


def _kind_names() -> dict[int, str]:
    from gguf.constants import GGMLQuantizationType

    return {int(kind.value): str(kind.name) for kind in GGMLQuantizationType}


class GGUFFile:
    """A GGUF file opened for reading: `metadata` by key, `tensors` by name.

    Raises HornbookError where the file is not GGUF, is truncated, or has a version other than 2 or 3.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise HornbookError(f"There is no file {self.path}.")
        size = self.path.stat().st_size
        if size < 24:
            raise HornbookError(f"{self.path} is not a GGUF file: it has only {size} bytes.")
        with self.path.open("rb") as stream:
            self._data = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        if self._data[:4] != b"GGUF":
            raise HornbookError(f"{self.path} is not a GGUF file: it begins with {self._data[:4]!r}.")
        version, tensors, pairs = struct.unpack_from("<IQQ", self._data, 4)
        if version not in (2, 3):
            raise HornbookError(f"{self.path} is GGUF version {version}; versions 2 and 3 can be read.")
        self._at = 24
        try:
            self.metadata = {self._string(): self._value(self._scalar(UINT32)) for _ in range(pairs)}
            self.tensors = self._infos(tensors)
        except (struct.error, IndexError, UnicodeDecodeError, MemoryError) as error:
            raise HornbookError(
                f"{self.path} is truncated or damaged: its header ends after {size} bytes ({error})."
            ) from error
        for info in self.tensors.values():
            if info.start + info.size > size:
                raise HornbookError(
                    f"{self.path} is truncated: tensor {info.name} ends at byte {info.start + info.size} "
                    f"of {size}. Download or export it again."
                )

    def _scalar(self, kind: int) -> Any:
        code = _SCALARS.get(kind)
        if code is None:
            raise IndexError(f"value type {kind} at byte {self._at}")
        value = struct.unpack_from("<" + code, self._data, self._at)[0]
        self._at += struct.calcsize("<" + code)
        return value

    def _string(self) -> str:
        length = self._scalar(10)
        end = self._at + length
        if end > len(self._data):
            raise IndexError(f"text of {length} bytes at byte {self._at}")
        text = self._data[self._at : end].decode("utf-8")
        self._at = end
        return text

    def _value(self, kind: int) -> Value:
        if kind == STRING:
            return Value(kind=kind, value=self._string())
        if kind != ARRAY:
            return Value(kind=kind, value=self._scalar(kind))
        items, count = self._scalar(UINT32), self._scalar(10)
        if count > len(self._data):
            raise IndexError(f"list of {count} values at byte {self._at}")
        if items == STRING:
            return Value(kind=kind, items=items, value=[self._string() for _ in range(count)])
        if items == ARRAY:
            return Value(kind=kind, items=items, value=[self._value(ARRAY) for _ in range(count)])
        if items not in _SCALARS:
            raise IndexError(f"value type {items} at byte {self._at}")
        code = f"<{count}{_SCALARS[items]}"
        values = list(struct.unpack_from(code, self._data, self._at))
        self._at += struct.calcsize(code)
        return Value(kind=kind, items=items, value=values)

    def _infos(self, count: int) -> dict[str, Info]:
        kinds = _kind_names()
        raw = []
        for _ in range(count):
            name, dimensions = self._string(), self._scalar(UINT32)
            if dimensions > 8:
                raise IndexError(f"tensor {name} with {dimensions} dimensions")
            shape = tuple(self._scalar(10) for _ in range(dimensions))[::-1]
            raw.append((name, shape, self._scalar(UINT32), self._scalar(10)))
        alignment = self.get("general.alignment", ALIGNMENT)
        base = -(-self._at // alignment) * alignment
        infos = {}
        for name, shape, number, offset in raw:
            if number not in kinds:
                raise HornbookError(f"{self.path}: tensor {name} has the unknown kind {number}.")
            numbers, size = block(kinds[number])
            total = prod(shape) // numbers * size
            infos[name] = Info(name=name, kind=kinds[number], shape=shape, start=base + offset, size=total)
        return infos

    def get(self, key: str, default: Any = None) -> Any:
        """The plain value of a metadata key."""
        found = self.metadata.get(key)
        return default if found is None else found.value

    def read(self, name: str) -> Tensor:
        """A tensor in its own floating type, or in fp32 where it is stored in blocks; a copy."""
        info = self.tensors[name]
        raw = np.frombuffer(self._data, np.uint8, info.size, info.start)
        if info.kind in _PLAIN:
            return torch.from_numpy(raw.copy()).view(_PLAIN[info.kind]).view(info.shape)
        return torch.from_numpy(decode(raw, info.kind, info.shape))


def decode(raw: npt.NDArray[np.uint8], kind: str, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """The numbers that the blocks in `raw` stand for, fp32."""
    from gguf.constants import GGMLQuantizationType
    from gguf.quants import dequantize

    rows = raw.reshape(*shape[:-1], -1)
    try:
        numbers = np.asarray(dequantize(rows, GGMLQuantizationType[kind]), dtype=np.float32)
    except NotImplementedError as error:
        raise HornbookError(f"GGUF tensors of kind {kind} cannot be read ({error}).") from error
    return numbers.reshape(shape)


def encode(numbers: Tensor, kind: str) -> bytes | memoryview:
    """The bytes of `numbers` in `kind`: F32, F16, BF16, Q8_0, Q4_0 or Q4_1 (blocks of 32 along a row)."""
    if kind in _PLAIN:
        cast = numbers.detach().to("cpu", _PLAIN[kind]).contiguous()
        if kind == "F16" and not bool(cast.isfinite().all()):
            raise HornbookError("A weight is too large for F16 (above 65504): export as BF16 or F32.")
        return cast.reshape(-1).view(torch.uint8).numpy().data
    if kind == "Q4_0":
        return encode_q4_0(numbers.to("cpu")).numpy().tobytes()
    from gguf.constants import GGMLQuantizationType
    from gguf.quants import quantize

    wide = numbers.detach().to("cpu", torch.float32).contiguous().numpy()
    return bytes(quantize(wide, GGMLQuantizationType[kind]).tobytes())


@dataclass(frozen=True, kw_only=True)
class Planned:
    """One tensor to be written; `make` is called when its turn comes."""

    name: str
    kind: str
    shape: tuple[int, ...]
    make: Callable[[], Tensor]

    @property
    def size(self) -> int:
        """Bytes in the file."""
        numbers, size = block(self.kind)
        return prod(self.shape) // numbers * size


def _packed(value: Value) -> bytes:
    if value.kind == STRING:
        text = str(value.value).encode("utf-8")
        return struct.pack("<Q", len(text)) + text
    if value.kind != ARRAY:
        return struct.pack("<" + _SCALARS[value.kind], value.value)
    head = struct.pack("<IQ", value.items, len(value.value))
    if value.items == STRING:
        return head + b"".join(_packed(Value(kind=STRING, value=item)) for item in value.value)
    return head + struct.pack(f"<{len(value.value)}{_SCALARS[value.items]}", *value.value)


def write_gguf(path: Path, metadata: dict[str, Value], tensors: Sequence[Planned]) -> None:
    """Writes a GGUF 3 file, one tensor in memory at a time; atomic."""
    from gguf.constants import GGMLQuantizationType

    out = bytearray(b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(metadata)))
    for key, value in metadata.items():
        out += _packed(Value(kind=STRING, value=key)) + struct.pack("<I", value.kind) + _packed(value)
    offset = 0
    for tensor in tensors:
        out += _packed(Value(kind=STRING, value=tensor.name)) + struct.pack("<I", len(tensor.shape))
        out += struct.pack(f"<{len(tensor.shape)}Q", *tensor.shape[::-1])
        out += struct.pack("<IQ", int(GGMLQuantizationType[tensor.kind].value), offset)
        offset += -(-tensor.size // ALIGNMENT) * ALIGNMENT
    out += b"\0" * (-len(out) % ALIGNMENT)
    with atomic_file(path) as stream:
        stream.write(out)
        for tensor in tensors:
            data = encode(tensor.make(), tensor.kind)
            if len(data) != tensor.size:
                raise ValueError(f"{tensor.name}: {len(data)} bytes, planned {tensor.size}")
            stream.write(data)
            stream.write(b"\0" * (-tensor.size % ALIGNMENT))
