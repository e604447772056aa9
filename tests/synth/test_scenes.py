"""The small world: what is drawn is what is read, every look on its own, noise and all."""

from random import Random

import numpy as np
import pytest

from hornbook.errors import HornbookError
from hornbook.synth.scenes import (
    BODIES,
    CELL,
    FRAME,
    KINDS,
    PAINTS,
    PICTURE,
    SIDE,
    STYLES,
    Look,
    Scene,
    cells,
    grounds,
    paint,
    see,
)

EVERYWHERE = [(row, column) for row in range(SIDE) for column in range(SIDE)]


def random_scene(random: Random) -> Scene:
    places = random.sample(EVERYWHERE, random.randint(0, len(EVERYWHERE)))
    looks = [
        Look.of(random.randrange(len(KINDS)), random.randrange(len(BODIES)), random.randrange(len(PAINTS)))
        for _ in places
    ]
    return Scene(style=random.choice(STYLES), things=dict(zip(places, looks)))


def test_every_look_has_pixels_of_its_own() -> None:
    flat = cells().reshape(-1, CELL * CELL * 3)
    assert len(flat) == len(KINDS) * len(BODIES) * len(PAINTS) == 2304
    assert len(np.unique(flat, axis=0)) == len(flat)
    assert len(np.unique(grounds().reshape(len(STYLES), -1), axis=0)) == len(STYLES)


def test_numbers_of_a_look_lead_back_to_it() -> None:
    seen = {
        Look.of(kind, body, paint_).numbers
        for kind in range(len(KINDS))
        for body in range(len(BODIES))
        for paint_ in range(len(PAINTS))
    }
    assert len(seen) == 2304


def test_what_is_painted_is_what_is_seen() -> None:
    random = Random(0)
    for _ in range(60):
        scene = random_scene(random)
        picture = paint(scene)
        assert picture.shape == (PICTURE, PICTURE, 3)
        assert see(picture) == scene


def test_noise_is_read_as_what_it_is_nearest_to() -> None:
    random, noise = Random(1), np.random.default_rng(1)
    for _ in range(8):
        scene = random_scene(random)
        rough = np.clip(paint(scene) + noise.normal(0, 20, (PICTURE, PICTURE, 3)), 0, 255).astype(np.uint8)
        assert see(rough) == scene


def test_a_thing_is_painted_in_its_own_cell_and_nowhere_else() -> None:
    bare = Scene(style="blueprint", things={})
    one = Scene(style="blueprint", things={(2, 0): Look(kind="fish", colour="red")})
    changed = (paint(bare) != paint(one)).any(axis=2)
    rows, columns = np.nonzero(changed)
    assert rows.min() >= FRAME + 2 * CELL
    assert columns.max() < FRAME + CELL
    assert changed.sum() > CELL * CELL * 0.8  # the whole card


def test_what_the_world_has_not_is_refused() -> None:
    with pytest.raises(HornbookError, match="colour is 'mauve'"):
        Look(kind="fish", colour="mauve")
    with pytest.raises(HornbookError, match="style is 'cubism'"):
        Scene(style="cubism", things={})
    with pytest.raises(HornbookError, match="rows and columns"):
        Scene(style=STYLES[0], things={(0, SIDE): Look(kind="fish")})
    with pytest.raises(HornbookError, match="float64"):
        see(np.zeros((PICTURE, PICTURE, 3)))
