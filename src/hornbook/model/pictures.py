"""Arrays of pixels to what a vision model reads: resized, padded with white, cut into tiles, normalised.

The published steps of phi-3-vision with torch and numpy alone; the same picture gives the same tiles as with
Pillow and torchvision, up to the rounding of one grey level in the resize.
"""

import math
import re
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from hornbook.errors import HornbookError
from hornbook.model.vision import Pictures
from hornbook.model.vision_config import VisionConfig

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
PLACEHOLDER = re.compile(r"<\|image_(\d+)\|>")

Pixels = npt.NDArray[np.uint8]


def tile_grid(width: int, height: int, config: VisionConfig, *, tiles: int | None = None) -> tuple[int, int]:
    """Rows and columns of tiles that a picture of width x height pixels is cut into.

    The longer side gets the most tiles with which the whole grid is `tiles` at most (None: the config's).
    """
    limit = config.tiles if tiles is None else tiles
    ratio = max(width, height) / min(width, height)
    long = 1
    while (long + 1) * math.ceil((long + 1) / ratio) <= limit:
        long += 1
    short = max(1, math.ceil(int(long * config.image_size / ratio) / config.image_size))
    return (short, long) if width >= height else (long, short)


def prepare(pictures: Sequence[Pixels], config: VisionConfig, *, tiles: int | None = None) -> Pictures:
    """Pictures for the decoder from arrays (height, width, 3) of 8-bit red, green and blue.

    tiles: at most so many a picture; None takes the config's. For several pictures in one prompt 4 is usual.
    Raises HornbookError for an array of another shape or type.
    """
    if not pictures:
        raise HornbookError("No pictures were given to prepare; leave the argument out for text alone.")
    views = [_views(_checked(picture, n), config, tiles) for n, picture in enumerate(pictures, 1)]
    most = max(len(view) for view, _ in views)
    pixels = torch.zeros(len(views), most, 3, config.image_size, config.image_size)
    for target, (view, _) in zip(pixels, views, strict=True):
        target[: len(view)] = view
    return Pictures(pixels=pixels, tiles=tuple(shape for _, shape in views))


def _checked(picture: Pixels, number: int) -> Tensor:
    array = np.asarray(picture)
    if array.ndim != 3 or array.shape[2] != 3 or array.dtype != np.uint8 or 0 in array.shape:
        raise HornbookError(
            f"Picture {number} is an array of shape {array.shape} and type {array.dtype}; "
            "it must be (height, width, 3) of uint8, red, green and blue."
        )
    return torch.from_numpy(np.ascontiguousarray(array)).permute(2, 0, 1)


def _views(picture: Tensor, config: VisionConfig, tiles: int | None) -> tuple[Tensor, tuple[int, int]]:
    """The whole view and the tiles, (1 + rows * columns, 3, size, size), and (rows, columns)."""
    height, width = picture.shape[1:]
    size = config.image_size
    rows, columns = tile_grid(width, height, config, tiles=tiles)
    # The longer side fills its tiles exactly; the other keeps the proportion and is padded.
    long = max(rows, columns) * size
    short = max(1, int(long / (max(width, height) / min(width, height))))
    new = (short, long) if width >= height else (long, short)
    resized = F.interpolate(picture[None], new, mode="bilinear", antialias=True, align_corners=False)[0]
    spare = (rows * size - new[0], columns * size - new[1])
    before = (spare[0] // 2, spare[1] // 2)
    padding = (before[1], spare[1] - before[1], before[0], spare[0] - before[0])
    padded = F.pad(resized, padding, value=255).float() / 255
    padded = (padded - torch.tensor(CLIP_MEAN)[:, None, None]) / torch.tensor(CLIP_STD)[:, None, None]
    whole = F.interpolate(padded[None], (size, size), mode="bicubic", align_corners=False)
    cut = padded.view(3, rows, size, columns, size).permute(1, 3, 0, 2, 4).flatten(0, 1)
    return torch.cat([whole, cut]), (rows, columns)


def picture_prompt(
    text: str, pictures: Pictures, config: VisionConfig, encode: Callable[[str], list[int]]
) -> list[int]:
    """Token ids of a prompt whose placeholders <|image_1|>, <|image_2|>, ... stand for the pictures.

    The pieces of text between placeholders are encoded one by one; picture n becomes the id -n, as often as
    it has tokens. A picture may be shown again. Raises HornbookError where the numbers are not 1 to the
    number of pictures.
    """
    pieces = PLACEHOLDER.split(text)
    numbers = [int(number) for number in pieces[1::2]]
    count = len(pictures.tiles)
    if sorted(set(numbers)) != list(range(1, count + 1)):
        found = ", ".join(f"<|image_{n}|>" for n in sorted(set(numbers))) or "none"
        raise HornbookError(
            f"{count} pictures need the placeholders <|image_1|> to <|image_{count}|> in the prompt; "
            f"it has {found}."
        )
    ids = encode(pieces[0]) if pieces[0] else []
    for number, piece in zip(numbers, pieces[2::2], strict=True):
        ids += [-number] * config.tokens(*pictures.tiles[number - 1])
        ids += encode(piece) if piece else []
    return ids
