"""Pictures whose truth is known: some shapes of one kind and colour on a plain ground, and questions on them.

Small material to raise a vision model on, or to examine one with: everything asked has one right answer, and
a picture comes from its scene and nothing else.
"""

from dataclasses import dataclass
from random import Random

import numpy as np
import numpy.typing as npt

from hornbook.errors import HornbookError

SHAPES = ("square", "circle", "triangle", "cross")
COLOURS = {
    "red": (214, 40, 40),
    "green": (43, 147, 72),
    "blue": (33, 90, 200),
    "yellow": (247, 200, 30),
    "black": (25, 25, 25),
    "purple": (128, 50, 160),
}
GROUNDS = ((255, 255, 255), (235, 235, 225), (220, 230, 240))
COUNTS = ("one", "two", "three", "four")


@dataclass(frozen=True, kw_only=True)
class Scene:
    """`len(places)` shapes of one kind; places are (row, column) of cells, `cells` of them a side."""

    shape: str
    colour: str
    places: tuple[tuple[int, int], ...]
    cells: int = 3
    ground: tuple[int, int, int] = GROUNDS[0]

    @property
    def count(self) -> int:
        """How many shapes there are."""
        return len(self.places)


def draw_scene(random: Random, *, cells: int = 3, most: int = 4) -> Scene:
    """A scene drawn evenly over shapes, colours and counts from 1 to `most`."""
    if not 1 <= most <= min(len(COUNTS), cells * cells):
        raise HornbookError(f"most = {most} shapes must be 1 to {min(len(COUNTS), cells * cells)}.")
    every = [(row, column) for row in range(cells) for column in range(cells)]
    return Scene(
        shape=random.choice(SHAPES),
        colour=random.choice(tuple(COLOURS)),
        places=tuple(sorted(random.sample(every, random.randint(1, most)))),
        cells=cells,
        ground=random.choice(GROUNDS),
    )


def paint(scene: Scene, size: int) -> npt.NDArray[np.uint8]:
    """The scene as (size, size, 3) pixels of red, green and blue."""
    picture = np.empty((size, size, 3), np.uint8)
    picture[:] = scene.ground
    cell = size / scene.cells
    row, column = np.mgrid[:size, :size] + 0.5
    for place in scene.places:
        # From -1 to 1 inside the shape's box, which leaves a margin in its cell.
        y, x = ((axis / cell - at - 0.5) / 0.38 for axis, at in zip((row, column), place, strict=True))
        picture[_inside(scene.shape, x, y)] = COLOURS[scene.colour]
    return picture


def _inside(shape: str, x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    box: npt.NDArray[np.bool_] = (abs(x) <= 1) & (abs(y) <= 1)
    inside: npt.NDArray[np.bool_]
    if shape == "square":
        inside = box
    elif shape == "circle":
        inside = x * x + y * y <= 1
    elif shape == "triangle":
        inside = box & (abs(x) <= (y + 1) / 2)
    else:
        inside = box & ((abs(x) <= 0.33) | (abs(y) <= 0.33))
    return inside


def questions(scene: Scene) -> list[tuple[str, str]]:
    """Every question that can be asked about a scene, with its answer in one word."""
    return [
        ("What shape is shown?", scene.shape),
        ("What colour is it?", scene.colour),
        ("How many are there?", COUNTS[scene.count - 1]),
    ]
