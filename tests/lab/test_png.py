"""PNG files: against Pillow's idea of them where it is installed, and against hand-made filters."""

import struct
import zlib

import numpy as np
import pytest

from hornbook.lab.png import data_uri, media_type, png, read_png

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def file_of(
    lines: bytes, *, width: int, height: int, colour: int, palette: bytes = b"", cut: int = 2
) -> bytes:
    packed = zlib.compress(lines)
    header = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    parts = [chunk(b"IHDR", header)] + ([chunk(b"PLTE", palette)] if palette else [])
    parts += [chunk(b"IDAT", packed[:cut]), chunk(b"IDAT", packed[cut:]), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def filtered(pixels: np.ndarray, kind: int) -> bytes:
    """Every line filtered as the specification writes it, byte by byte."""
    height, width, channels = pixels.shape
    raw = pixels.reshape(height, -1).astype(int)
    out = b""
    for y in range(height):
        line = [kind]
        for x in range(width * channels):
            a = raw[y, x - channels] if x >= channels else 0
            b = raw[y - 1, x] if y else 0
            c = raw[y - 1, x - channels] if y and x >= channels else 0
            p = a + b - c
            nearest = min((abs(p - a), 0, a), (abs(p - b), 1, b), (abs(p - c), 2, c))[2]
            line.append((raw[y, x] - [0, a, b, (a + b) // 2, nearest][kind]) % 256)
        out += bytes(int(v) for v in line)
    return out


def test_what_is_written_is_read() -> None:
    assert np.array_equal(read_png(png(PIXELS)), PIXELS)
    assert np.array_equal(read_png(png(PIXELS[..., 0])), PIXELS[..., :1].repeat(3, axis=2))


@pytest.mark.parametrize("kind", range(5))
def test_every_filter_of_the_specification(kind: int) -> None:
    data = file_of(filtered(PIXELS, kind), width=7, height=5, colour=2)
    assert np.array_equal(read_png(data), PIXELS)


def test_palettes_and_alpha() -> None:
    palette = bytes(range(30))
    index = np.arange(6, dtype=np.uint8).reshape(2, 3, 1)
    seen = read_png(file_of(filtered(index, 1), width=3, height=2, colour=3, palette=palette))
    assert seen.tolist() == [[[3 * i, 3 * i + 1, 3 * i + 2] for i in row] for row in index[..., 0].tolist()]
    clear = np.concatenate([PIXELS, np.zeros((5, 7, 1), np.uint8)], axis=2)
    assert (read_png(file_of(filtered(clear, 4), width=7, height=5, colour=6)) == 255).all()


def test_damaged_files_are_refused_in_words() -> None:
    good = png(PIXELS)
    bomb = file_of(b"\0" * 100_000_000, width=7, height=5, colour=2)
    assert read_png(bomb).shape == (5, 7, 3)  # what the header does not announce is never unpacked
    for bad in (
        b"",
        b"GIF89a",
        good[:40],
        good[:-40],
        good[:20] + b"\xff" + good[21:],
        good[:16] + good[30:],
    ):
        with pytest.raises(ValueError, match=r"PNG"):
            read_png(bad)


def test_picture_files_are_known_by_their_first_bytes() -> None:
    assert media_type(png(PIXELS)) == "image/png"
    assert media_type(b"\xff\xd8\xff\xe0....") == "image/jpeg"
    assert media_type(b"RIFF....WEBPVP8 ") == "image/webp"
    assert media_type(b"<html>") is None
    assert data_uri(png(PIXELS)).startswith("data:image/png;base64,iVBOR")
    with pytest.raises(ValueError, match="no PNG"):
        data_uri(b"<svg onload=alert(1)>")
