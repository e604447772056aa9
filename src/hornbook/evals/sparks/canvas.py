"""Drawings as plain shapes, and their pixels. No browser is shown what a model wrote: only these."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Point = tuple[float, float]
Colour = tuple[int, int, int]
Kind = Literal["rect", "ellipse", "polygon", "line", "text"]
Affine = tuple[float, float, float, float, float, float]
"""(a, b, c, d, e, f): x' = a x + c y + e, y' = b x + d y + f, as SVG has it."""

IDENTITY: Affine = (1.0, 0.0, 0.0, 1.0, 0.0, 0.0)
MOST_SHAPES = 2_000
MOST_POINTS = 20_000
_ROUND = 40
_SMOOTH = 2

COLOURS: dict[str, Colour] = {
    "black": (0, 0, 0),
    "white": (255, 255, 255),
    "red": (220, 30, 30),
    "green": (30, 150, 50),
    "blue": (40, 80, 220),
    "yellow": (245, 215, 40),
    "orange": (245, 140, 30),
    "purple": (130, 50, 160),
    "violet": (140, 80, 220),
    "pink": (250, 160, 190),
    "brown": (135, 85, 45),
    "gray": (128, 128, 128),
    "grey": (128, 128, 128),
    "cyan": (40, 200, 220),
    "magenta": (220, 40, 200),
    "lightblue": (165, 210, 240),
    "skyblue": (135, 205, 235),
    "lightgray": (210, 210, 210),
    "lightgrey": (210, 210, 210),
    "darkgreen": (10, 90, 30),
    "navy": (10, 20, 120),
    "gold": (235, 195, 40),
    "tan": (210, 180, 140),
    "beige": (245, 245, 220),
    "silver": (192, 192, 192),
    "teal": (10, 128, 128),
    "lime": (60, 230, 60),
    "maroon": (128, 10, 20),
    "olive": (128, 128, 20),
}
"""Names that drawings may use."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """One thing drawn: its outline as points; of a text where it stands (left end of its base line)."""

    kind: Kind
    points: tuple[Point, ...]
    fill: Colour | None = None
    stroke: Colour | None = (0, 0, 0)
    width: float = 1.0
    text: str = ""
    size: float = 16.0

    @property
    def box(self) -> tuple[float, float, float, float]:
        """(left, top, right, bottom); y grows downwards."""
        xs, ys = [x for x, _ in self.points], [y for _, y in self.points]
        if self.kind == "text":
            return xs[0], ys[0] - self.size, xs[0] + 0.7 * self.size * max(1, len(self.text)), ys[0]
        return min(xs), min(ys), max(xs), max(ys)

    @property
    def middle(self) -> Point:
        left, top, right, bottom = self.box
        return (left + right) / 2, (top + bottom) / 2

    @property
    def extent(self) -> tuple[float, float]:
        """(width, height) of the box."""
        left, top, right, bottom = self.box
        return right - left, bottom - top

    def moved(self, by: Affine) -> "Shape":
        scale = math.sqrt(abs(by[0] * by[3] - by[1] * by[2]))
        return replace(
            self,
            points=tuple(apply(by, point) for point in self.points),
            width=self.width * scale,
            size=self.size * scale,
        )


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """Shapes from back to front, and the part of the plane that is shown: (left, top, width, height)."""

    shapes: tuple[Shape, ...]
    view: tuple[float, float, float, float]


def apply(by: Affine, point: Point) -> Point:
    a, b, c, d, e, f = by
    x, y = point
    return a * x + c * y + e, b * x + d * y + f


def compose(outer: Affine, inner: Affine) -> Affine:
    """First `inner`, then `outer`."""
    a, b, c, d, e, f = outer
    g, h, i, j, k, m = inner
    return a * g + c * h, b * g + d * h, a * i + c * j, b * i + d * j, a * k + c * m + e, b * k + d * m + f


def ellipse(middle: Point, rx: float, ry: float) -> tuple[Point, ...]:
    """The outline of an ellipse as points."""
    x, y = middle
    turns = [2 * math.pi * i / _ROUND for i in range(_ROUND)]
    return tuple((x + rx * math.cos(t), y + ry * math.sin(t)) for t in turns)


def fitted(shapes: Sequence[Shape], margin: float = 0.05) -> Drawing:
    """A drawing whose view is the box of all its shapes, and a margin."""
    boxes = [shape.box for shape in shapes] or [(0.0, 0.0, 1.0, 1.0)]
    left, top = min(b[0] for b in boxes), min(b[1] for b in boxes)
    width = max(max(b[2] for b in boxes) - left, 1e-6)
    height = max(max(b[3] for b in boxes) - top, 1e-6)
    edge = margin * max(width, height)
    return Drawing(shapes=tuple(shapes), view=(left - edge, top - edge, width + 2 * edge, height + 2 * edge))


def pixels(drawing: Drawing, longest: int = 160) -> NDArray[np.uint8]:
    """(height, width, 3) uint8, the longer side of `longest` pixels, on white."""
    left, top, width, height = drawing.view
    scale = longest * _SMOOTH / max(width, height)
    rows, columns = max(_SMOOTH, round(height * scale)), max(_SMOOTH, round(width * scale))
    rows, columns = -(-rows // _SMOOTH) * _SMOOTH, -(-columns // _SMOOTH) * _SMOOTH
    image = np.full((rows, columns, 3), 255, np.uint8)
    place = (scale, 0.0, 0.0, scale, -left * scale, -top * scale)
    for shape in drawing.shapes:
        _paint(image, shape.moved(place))
    smooth = image.reshape(rows // _SMOOTH, _SMOOTH, columns // _SMOOTH, _SMOOTH, 3).mean((1, 3))
    made: NDArray[np.uint8] = smooth.round().astype(np.uint8)
    return made


def _paint(image: NDArray[np.uint8], shape: Shape) -> None:
    if shape.kind == "text":
        for stroke in _letters(shape):
            _line(image, stroke, shape.fill or shape.stroke or (0, 0, 0), max(1.0, shape.size / 8))
        return
    if shape.fill is not None and shape.kind != "line":
        _fill(image, shape.points, shape.fill)
    if shape.stroke is not None:
        closed = shape.points if shape.kind == "line" else (*shape.points, shape.points[0])
        _line(image, closed, shape.stroke, max(1.0, shape.width))


def _fill(image: NDArray[np.uint8], points: Sequence[Point], colour: Colour) -> None:
    """Even-odd filling, row by row at the middles of pixels."""
    rows, columns = image.shape[:2]
    corners = np.asarray(points, np.float64).clip(-1e6, 1e6)
    following = np.roll(corners, -1, axis=0)
    first = max(0, math.floor(corners[:, 1].min()))
    last = min(rows - 1, math.ceil(corners[:, 1].max()))
    middles = np.arange(columns) + 0.5
    for row in range(first, last + 1):
        y = row + 0.5
        hit = (corners[:, 1] <= y) != (following[:, 1] <= y)
        if hit.any():
            (x0, y0), (x1, y1) = corners[hit].T, following[hit].T
            crossings = np.sort(x0 + (y - y0) * (x1 - x0) / (y1 - y0))
            image[row, np.searchsorted(crossings, middles) % 2 == 1] = colour


def _line(image: NDArray[np.uint8], points: Sequence[Point], colour: Colour, width: float) -> None:
    """Every pixel within half a width of a piece of the line."""
    rows, columns = image.shape[:2]
    half = min(width, 200.0) / 2
    for (x0, y0), (x1, y1) in pairwise(points):
        left, right = max(0, math.floor(min(x0, x1) - half)), min(columns, math.ceil(max(x0, x1) + half) + 1)
        top, bottom = max(0, math.floor(min(y0, y1) - half)), min(rows, math.ceil(max(y0, y1) + half) + 1)
        if left >= right or top >= bottom:
            continue
        x, y = np.arange(left, right) + 0.5, np.arange(top, bottom)[:, None] + 0.5
        dx, dy = x1 - x0, y1 - y0
        along = ((x - x0) * dx + (y - y0) * dy) / max(dx * dx + dy * dy, 1e-12)
        along = along.clip(0, 1)
        near = (x - x0 - along * dx) ** 2 + (y - y0 - along * dy) ** 2 <= half * half
        image[top:bottom, left:right][near] = colour


_STROKES = {
    "A": "04 20 44|13 33", "B": "00 04 34 43 32 02|32 41 30 00", "C": "41 30 10 01 03 14 34 43",
    "D": "00 04 24 43 41 20 00", "E": "40 00 04 44|02 32", "F": "40 00 04|02 32",
    "G": "41 30 10 01 03 14 34 43 42 22", "H": "00 04|40 44|02 42", "I": "20 24", "J": "40 43 34 14 03",
    "K": "00 04|40 02 44", "L": "00 04 44", "M": "04 00 22 40 44", "N": "04 00 44 40",
    "O": "10 30 41 43 34 14 03 01 10", "P": "04 00 30 41 32 02", "Q": "10 30 41 43 34 14 03 01 10|23 44",
    "R": "04 00 30 41 32 02|22 44", "S": "41 30 10 01 12 32 43 34 14 03", "T": "00 40|20 24",
    "U": "00 03 14 34 43 40", "V": "00 24 40", "W": "00 14 22 34 40", "X": "00 44|40 04",
    "Y": "00 22 40|22 24", "Z": "00 40 04 44",
}  # fmt: skip
"""Capital letters on a grid of five by five: columns and rows, strokes parted by bars."""


def _letters(shape: Shape) -> list[list[Point]]:
    """The strokes of a text's letters; other signs are gaps."""
    (x, y), size = shape.points[0], shape.size
    found = []
    for at, letter in enumerate(shape.text[:80].upper()):
        left = x + at * 0.7 * size
        for stroke in filter(None, _STROKES.get(letter, "").split("|")):
            spots = [(int(spot[0]) / 4, int(spot[1]) / 4) for spot in stroke.split()]
            found += [[(left + 0.55 * size * u, y - 0.75 * size * (1 - v)) for u, v in spots]]
    return found
