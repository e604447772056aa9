"""The pictures show what their scenes say, and a small vision model learns to see it."""

from random import Random

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from hornbook.errors import HornbookError
from hornbook.model.config import ModelConfig
from hornbook.model.decoder import Decoder
from hornbook.model.pictures import prepare
from hornbook.model.vision_config import VisionConfig
from hornbook.synth.pictures import COLOURS, COUNTS, SHAPES, draw_scene, paint, questions


def painted(scene, size):
    return (paint(scene, size) == COLOURS[scene.colour]).all(-1)


def pieces(mask):
    """Connected areas of a mask, counted by flooding."""
    left, count = set(map(tuple, np.argwhere(mask))), 0
    while left:
        count, edge = count + 1, [left.pop()]
        while edge:
            row, column = edge.pop()
            for near in ((row + 1, column), (row - 1, column), (row, column + 1), (row, column - 1)):
                if near in left:
                    left.remove(near)
                    edge.append(near)
    return count


@pytest.mark.parametrize("size", [30, 48, 100])
def test_as_many_areas_of_the_right_size_as_the_scene_says(size):
    # Share of the shape's box that it covers.
    cover = {"square": 1.0, "circle": np.pi / 4, "triangle": 0.5, "cross": 1 - 0.67**2}
    random = Random(0)
    for _ in range(30):
        scene = draw_scene(random)
        mask = painted(scene, size)
        assert pieces(mask) == scene.count
        box = (0.76 * size / scene.cells) ** 2
        assert mask.sum() / (scene.count * box) == pytest.approx(
            cover[scene.shape], abs=0.27 if size < 60 else 0.1
        )


def test_questions_have_their_answers():
    random = Random(1)
    for _ in range(20):
        scene = draw_scene(random)
        answers = dict(questions(scene))
        assert list(answers.values()) == [scene.shape, scene.colour, COUNTS[len(scene.places) - 1]]


def test_draws_are_even_and_repeatable():
    random = Random(2)
    scenes = [draw_scene(random) for _ in range(600)]
    assert {s.shape for s in scenes} == set(SHAPES)
    assert {s.colour for s in scenes} == set(COLOURS)
    assert {s.count for s in scenes} == {1, 2, 3, 4}
    assert scenes[:5] == [draw_scene(r) for r in [Random(2)] for _ in range(5)]
    with pytest.raises(HornbookError, match="most"):
        draw_scene(random, cells=2, most=5)


STEPS = 90
WORDS = ("?shape", "?colour", "?count", *SHAPES, *COLOURS, *COUNTS)


def batch(random, config, rows):
    """A picture each, the three questions behind it, and the id of the right word for each question."""
    scenes = [draw_scene(random) for _ in range(rows)]
    pictures = prepare([paint(scene, 48) for scene in scenes], config.vision)
    answers = [[WORDS.index(word) for _, word in questions(scene)] for scene in scenes]
    tokens = [-1] * config.vision.tokens(1, 1) + [0, 1, 2]
    return torch.tensor([tokens] * rows), pictures, torch.tensor(answers)


def test_a_small_vision_model_learns_shape_colour_and_count():
    config = ModelConfig(
        family="phi3_v",
        vocab_size=len(WORDS),
        hidden_size=64,
        layers=2,
        heads=2,
        intermediate_size=128,
        vision=VisionConfig(
            hidden_size=64,
            layers=2,
            heads=2,
            intermediate_size=128,
            image_size=48,
            patch_size=8,
            feature_layer=-1,
            tiles=1,
        ),
    )
    torch.manual_seed(0)
    model = Decoder(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    random = Random(0)
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = 3e-3 * min(1.0, (step + 1) / 20) * (1 - step / STEPS)
        tokens, pictures, answers = batch(random, config, 32)
        logits = model.logits(model(tokens, pictures=pictures)[:, -3:])
        optimizer.zero_grad()
        F.cross_entropy(logits.flatten(0, 1), answers.flatten()).backward()
        optimizer.step()
    model.eval()
    tokens, pictures, answers = batch(Random(1), config, 200)
    blank = prepare([np.full((48, 48, 3), 255, np.uint8)] * 200, config.vision)
    with torch.no_grad():
        seen, blind = (
            (model.logits(model(tokens, pictures=shown)[:, -3:]).argmax(-1) == answers).float().mean(0)
            for shown in (pictures, blank)
        )
    # By chance 1/4, 1/6, 1/4. Half is far from chance and far below what is reached on any machine.
    assert (seen > 0.5).all(), seen
    assert (blind < 0.4).all(), blind
