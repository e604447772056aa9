"""Pixels as a PNG file and back, with the standard library alone."""

import base64
import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray


def png(pixels: NDArray[Any]) -> bytes:
    """A PNG of (height, width) grey or (height, width, 3) colours, uint8.

    Raises:
        ValueError: another shape or dtype.
    """
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] != 3):
        raise ValueError(f"pixels are {pixels.dtype}{pixels.shape}; wanted are uint8 (h, w) or (h, w, 3)")
    height, width = pixels.shape[:2]
    lines = np.ascontiguousarray(pixels).reshape(height, -1)
    filtered = np.concatenate([np.zeros((height, 1), np.uint8), lines], axis=1)  # filter 0 on each line
    header = struct.pack(">IIBBBBB", width, height, 8, 2 if pixels.ndim == 3 else 0, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(filtered.tobytes(), 9)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(name, data) for name, data in parts)


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type: grey, colours, palette, grey and alpha, all


def read_png(data: bytes) -> NDArray[np.uint8]:
    """(height, width, 3) pixels of a PNG file: 8 bits a channel, not interlaced; alpha lies on white.

    Raises:
        ValueError: no such file, or one that is damaged.
    """
    try:
        return _read(data)
    except (struct.error, zlib.error, IndexError, KeyError) as error:
        raise ValueError(f"the PNG file is damaged ({error})") from None


def _read(data: bytes) -> NDArray[np.uint8]:
    if data[:8] != b"\x89PNG\r\n\x1a\n":
        raise ValueError("this is no PNG file")
    parts: dict[bytes, bytes] = {}
    at = 8
    while at < len(data):
        size, name = struct.unpack_from(">I4s", data, at)
        parts[name] = parts.get(name, b"") + data[at + 8 : at + 8 + size]
        at += 12 + size
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", parts[b"IHDR"])
    if depth != 8 or interlaced or width * height > 1 << 26:
        raise ValueError("only PNG files of 8 bits, not interlaced and below 64 million pixels, are read")
    channels = _CHANNELS[colour]
    wanted = (width * channels + 1) * height
    raw = zlib.decompressobj().decompress(parts[b"IDAT"], wanted)
    if len(raw) != wanted:
        raise ValueError(f"the PNG file holds {len(raw)} bytes of {wanted}")
    lines = np.frombuffer(raw, np.uint8).reshape(height, -1)
    pixels = _unfiltered(lines[:, 0], lines[:, 1:].reshape(height, width, channels))
    if colour == 3:
        return np.frombuffer(parts[b"PLTE"], np.uint8).reshape(-1, 3)[pixels[..., 0]]
    if colour in (4, 6):
        alpha = pixels[..., -1:].astype(np.float32) / 255
        pixels = (pixels[..., :-1] * alpha + 255 * (1 - alpha) + 0.5).astype(np.uint8)
    return pixels if pixels.shape[2] == 3 else pixels.repeat(3, axis=2)


def _unfiltered(kinds: NDArray[np.uint8], lines: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Lines (height, width, channels) with their predictions added back (PNG specification, section 9)."""
    out = np.zeros((len(lines) + 1, lines.shape[1] + 1, lines.shape[2]), np.int32)
    for y, (kind, line) in enumerate(zip(kinds, lines, strict=True), 1):
        own, above = out[y], out[y - 1]
        if kind == 0:
            own[1:] = line
        elif kind == 1:
            own[1:] = np.cumsum(line, axis=0, dtype=np.int32) & 255
        elif kind == 2:
            own[1:] = (line + above[1:]) & 255
        elif kind in (3, 4):
            for x in range(1, len(own)):  # each pixel needs the one before it
                left, up, corner = own[x - 1], above[x], above[x - 1]
                if kind == 3:
                    guess = (left + up) // 2
                else:
                    near = [abs(up - corner), abs(left - corner), abs(left + up - 2 * corner)]
                    guess = np.where(
                        (near[0] <= near[1]) & (near[0] <= near[2]),
                        left,
                        np.where(near[1] <= near[2], up, corner),
                    )
                own[x] = (line[x - 1] + guess) & 255
        else:
            raise ValueError(f"the PNG file has a line of filter {kind}; there are 0 to 4")
    return out[1:, 1:].astype(np.uint8)


_BEGINNINGS = {b"\x89PNG\r\n\x1a\n": "image/png", b"\xff\xd8\xff": "image/jpeg", b"GIF8": "image/gif"}


def media_type(data: bytes) -> str | None:
    """What kind of picture file this is, by its first bytes; None for none that browsers show."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    return next((kind for beginning, kind in _BEGINNINGS.items() if data.startswith(beginning)), None)


def data_uri(data: bytes) -> str:
    """A picture file as `data:image/png;base64,...`.

    Raises:
        ValueError: it is no picture file.
    """
    kind = media_type(data)
    if kind is None:
        raise ValueError("this is no PNG, JPEG, WebP or GIF file")
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
