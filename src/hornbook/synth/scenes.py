"""A small world whose pictures can be drawn from a description and read back without error.

A scene is a sheet of three by three cells on a patterned ground. A cell is empty or holds one thing: an
emblem (its kind) on a body of some shape, size, colour and texture. Everything that a picture shows is one of
a few values, so that what it shows is known exactly: `paint` draws a scene, `see` reads pixels.

The pixels are put together from small tables, as the tile maps of early game consoles are: an emblem (the
kind), a body (shape and size) and a paint (colour and texture) for each cell, and one ground for all.
"""

from dataclasses import dataclass
from functools import cache
from itertools import product

import numpy as np
import numpy.typing as npt

from hornbook.errors import HornbookError

SIDE, CELL, FRAME = 3, 24, 6
"""Cells a side; pixels of a cell; pixels of ground around the sheet."""
PICTURE = SIDE * CELL + 2 * FRAME

KINDS = ("house", "tree", "fish", "key", "cup", "star", "moon", "boat")
COLOURS = {
    "gray": (168, 172, 176),
    "red": (226, 76, 66),
    "green": (92, 180, 96),
    "blue": (92, 148, 236),
    "yellow": (246, 206, 60),
    "pink": (244, 152, 190),
}
SHAPES = ("circle", "square", "triangle", "heart")
SIZES = ("middling", "tiny", "huge")
TEXTURES = ("plain", "striped", "dotted", "checked")
STYLES = ("plain paper", "chalkboard", "blueprint", "newsprint")
RELATIONS = ("left", "right", "above", "below")
"""The first colour, shape, size, texture and style are plain: what is there when nobody asks."""

BODIES = tuple(product(SHAPES, SIZES))
PAINTS = tuple(product(COLOURS, TEXTURES))
_BODY = {body: number for number, body in enumerate(BODIES)}
_PAINT = {paint: number for number, paint in enumerate(PAINTS)}

Pixels = npt.NDArray[np.uint8]

_RADIUS = {"tiny": 7.0, "middling": 9.5, "huge": 12.0}
_EMBLEM = (30, 30, 34)
_CARD = (255, 255, 255)
_BITMAPS = {
    "house": "...#... ..###.. .#####. ####### .#...#. .#.#.#. .#.#.#.",
    "tree": "...#... ..###.. .#####. ..###.. .#####. ...#... ...#...",
    "fish": "....... .###..# #####.# ####### #####.# .###..# .......",
    "key": ".##.... #..#... #..#... .##.... .#..... .###... .#.....",
    "cup": "####... ######. ####..# ####..# ######. ####... .##....",
    "star": "...#... ...#... ####### .#####. ..###.. .##.##. ##...##",
    "moon": "..###.. .##.... ##..... ##..... ##..... .##.... ..###..",
    "boat": "...#... ...##.. ...###. ...#... ####### .#####. .......",
}


@dataclass(frozen=True, kw_only=True)
class Look:
    """What one thing looks like."""

    kind: str
    colour: str = "gray"
    shape: str = SHAPES[0]
    size: str = SIZES[0]
    texture: str = TEXTURES[0]

    def __post_init__(self) -> None:
        for name, known in (
            ("kind", KINDS),
            ("colour", tuple(COLOURS)),
            ("shape", SHAPES),
            ("size", SIZES),
            ("texture", TEXTURES),
        ):
            if getattr(self, name) not in known:
                raise HornbookError(
                    f"A thing's {name} is {getattr(self, name)!r}; accepted is one of {', '.join(known)}."
                )

    @property
    def numbers(self) -> tuple[int, int, int]:
        """Its places in `KINDS`, `BODIES` and `PAINTS`."""
        body, paint = _BODY[self.shape, self.size], _PAINT[self.colour, self.texture]
        return KINDS.index(self.kind), body, paint

    @classmethod
    def of(cls, kind: int, body: int, paint: int) -> "Look":
        """The look with these numbers."""
        (shape, size), (colour, texture) = BODIES[body], PAINTS[paint]
        return cls(kind=KINDS[kind], colour=colour, shape=shape, size=size, texture=texture)


@dataclass(frozen=True, kw_only=True)
class Scene:
    """style: of the ground. things: {(row, column): what stands there}; other cells are empty."""

    style: str
    things: dict[tuple[int, int], Look]

    def __post_init__(self) -> None:
        if self.style not in STYLES:
            raise HornbookError(f"A scene's style is {self.style!r}; accepted is one of {', '.join(STYLES)}.")
        outside = [place for place in self.things if not all(0 <= at < SIDE for at in place)]
        if outside:
            raise HornbookError(f"A thing stands at {outside[0]}; rows and columns are 0 to {SIDE - 1}.")

    def of_kind(self, kind: str) -> dict[tuple[int, int], Look]:
        """The things of one kind, where they stand."""
        return {place: look for place, look in self.things.items() if look.kind == kind}


def paint(scene: Scene) -> Pixels:
    """The scene as (PICTURE, PICTURE, 3) pixels."""
    picture: Pixels = grounds()[STYLES.index(scene.style)].copy()
    for (row, column), look in scene.things.items():
        top, left = FRAME + row * CELL, FRAME + column * CELL
        picture[top : top + CELL, left : left + CELL] = cells()[look.numbers]
    return picture


@cache
def grounds() -> Pixels:
    """(styles, PICTURE, PICTURE, 3): the ground of each style, everywhere."""
    row, column = np.mgrid[:PICTURE, :PICTURE]
    made = np.empty((len(STYLES), PICTURE, PICTURE, 3), np.uint8)
    made[0] = (250, 248, 242)
    made[1] = (48, 74, 62)
    made[1][(row * 7 + column * 3) % 29 == 0] = (84, 110, 98)
    made[2] = (34, 68, 150)
    made[2][(row % 12 == 0) | (column % 12 == 0)] = (120, 150, 220)
    made[3] = (226, 216, 196)
    made[3][(row % 4 == 0) & ((column + row // 2) % 4 == 0)] = (150, 140, 122)
    made.flags.writeable = False
    return made


@cache
def cells() -> Pixels:
    """(kinds, bodies, paints, CELL, CELL, 3): every cell that a picture can hold, on its white card."""
    row, column = np.mgrid[:CELL, :CELL]
    made = np.empty((len(KINDS), len(BODIES), len(PAINTS), CELL, CELL, 3), np.uint8)
    made[:] = _CARD
    drawn = {
        "plain": np.zeros((CELL, CELL), bool),
        "striped": (row + column) % 6 < 2,
        "dotted": (row % 4 < 2) & (column % 4 < 2),
        "checked": (row // 3 + column // 3) % 2 == 0,
    }
    for b, (shape, size) in enumerate(BODIES):
        body = _body(shape, _RADIUS[size])
        for p, (colour, texture) in enumerate(PAINTS):
            light = np.array(COLOURS[colour])
            made[:, b, p, body] = light
            made[:, b, p, body & drawn[texture]] = (light * 0.62).astype(np.uint8)
        for k, kind in enumerate(KINDS):
            made[k, b, :, _emblem(kind, shape, size)] = _EMBLEM
    made.flags.writeable = False
    return made


def _body(shape: str, radius: float) -> npt.NDArray[np.bool_]:
    y, x = ((np.mgrid[:CELL, :CELL] + 0.5 - CELL / 2) / radius).astype(np.float64)
    inside: npt.NDArray[np.bool_]
    if shape == "circle":
        inside = x * x + y * y <= 1
    elif shape == "square":
        inside = (abs(x) <= 0.9) & (abs(y) <= 0.9)
    elif shape == "triangle":
        inside = (abs(y) <= 1) & (abs(x) <= (y + 1) / 2)
    else:  # two round tops that meet in a notch, and a point below
        tops = ((abs(x) - 0.48) ** 2 + (y + 0.42) ** 2 <= 0.27) | ((abs(x) <= 0.6) & (abs(y + 0.1) <= 0.3))
        inside = (tops & ~((abs(x) < 0.3) & (y < abs(x) - 0.75))) | ((y >= -0.3) & (abs(x) + 0.9 * y <= 0.85))
    return inside


def _emblem(kind: str, shape: str, size: str) -> npt.NDArray[np.bool_]:
    """Where the emblem is: seven pixels a side, in the middle of the body (lower in a triangle)."""
    where = np.zeros((CELL, CELL), bool)
    bitmap = np.array([[mark == "#" for mark in line] for line in _BITMAPS[kind].split()])
    top = CELL // 2 - 3
    if shape == "triangle":
        top = int(CELL / 2 + _RADIUS[size]) - 8
    elif shape == "heart":
        top -= 1
    left = CELL // 2 - 3
    where[top : top + 7, left : left + 7] = bitmap
    return where


def see(picture: Pixels) -> Scene:
    """The scene that a picture shows: the nearest ground of the frame, and the nearest cell in each place.

    Of a picture that `paint` made this is the scene itself; noise is taken for what it is nearest to.

    Raises:
        HornbookError: the picture has another shape or type.
    """
    if picture.shape != (PICTURE, PICTURE, 3) or picture.dtype != np.uint8:
        raise HornbookError(
            f"A picture of {picture.dtype}{picture.shape} was given; this world's pictures are uint8 of "
            f"({PICTURE}, {PICTURE}, 3)."
        )
    style = _nearest(picture[_frame()], grounds()[:, _frame()])
    things = {}
    ground = grounds()[style]
    for row, column in product(range(SIDE), repeat=2):
        top, left = FRAME + row * CELL, FRAME + column * CELL
        place = (slice(top, top + CELL), slice(left, left + CELL))
        found = _known().get(picture[place].tobytes())
        if found is None and np.array_equal(picture[place], ground[place]):
            found = -1
        if found is None:
            found = _nearest_cell(picture[place], ground[place])
        if found >= 0:
            things[row, column] = Look.of(*_numbers(found))
    return Scene(style=STYLES[style], things=things)


@cache
def _frame() -> npt.NDArray[np.bool_]:
    inside = np.zeros((PICTURE, PICTURE), bool)
    inside[FRAME:-FRAME, FRAME:-FRAME] = True
    return ~inside


def _numbers(cell: int) -> tuple[int, int, int]:
    kind, body, paint = np.unravel_index(cell, (len(KINDS), len(BODIES), len(PAINTS)))
    return int(kind), int(body), int(paint)


@cache
def _known() -> dict[bytes, int]:
    """{pixels of a cell: its place in the flat table of cells}."""
    flat = cells().reshape(-1, CELL, CELL, 3)
    return {cell.tobytes(): number for number, cell in enumerate(flat)}


def _nearest(pixels: Pixels, choices: Pixels) -> int:
    wanted = pixels.astype(np.float32).ravel()
    return int(((choices.reshape(len(choices), -1).astype(np.float32) - wanted) ** 2).sum(1).argmin())


def _nearest_cell(pixels: Pixels, ground: Pixels) -> int:
    """As in `_known`, or -1 where the ground is nearer."""
    flat, squares = _flat_cells()
    wanted = pixels.astype(np.float32).ravel()
    distance = squares - 2 * (flat @ wanted)
    best = int(distance.argmin())
    bare = ground.astype(np.float32).ravel()
    return -1 if float(bare @ bare - 2 * bare @ wanted) <= distance[best] else best


@cache
def _flat_cells() -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    flat = cells().reshape(len(KINDS) * len(BODIES) * len(PAINTS), -1).astype(np.float32)
    return flat, (flat * flat).sum(1)
