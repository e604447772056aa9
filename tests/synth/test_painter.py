"""The painter: its tokens are pictures, its loss is their likelihood, it learns what it is shown."""

from random import Random

import numpy as np
import pytest
import torch

from hornbook.errors import HornbookError
from hornbook.evals.concept_mix.world import answers, brief, draw_scenes
from hornbook.model.decoder import Decoder
from hornbook.synth.painter import (
    BRIEF,
    PICTURE_TOKENS,
    SYMBOLS,
    Painter,
    PaintingLoader,
    allowed,
    lines_of,
    painter_config,
    read_brief,
    to_scene,
    to_tokens,
)
from hornbook.synth.scenes import BODIES, KINDS, PAINTS, SIDE, STYLES, Look, Scene
from hornbook.train.batches import to_tensors
from hornbook.train.objectives import next_token


def painter(seed: int = 0, hidden_size: int = 32, layers: int = 2) -> Decoder:
    torch.manual_seed(seed)
    return Decoder(painter_config(hidden_size=hidden_size, layers=layers, heads=1))


def lesson(k: int, count: int, seed: int = 0):
    drawn, scenes = draw_scenes(k, count, Random(seed))
    return lines_of([brief(plan) for plan in drawn.plans], scenes), drawn.plans, scenes


def test_every_scene_is_one_sequence_of_tokens() -> None:
    random = Random(0)
    seen = set()
    for _ in range(200):
        things = {
            divmod(cell, SIDE): Look.of(
                random.randrange(len(KINDS)), random.randrange(len(BODIES)), random.randrange(len(PAINTS))
            )
            for cell in random.sample(range(SIDE * SIDE), random.randint(0, 9))
        }
        scene = Scene(style=random.choice(STYLES), things=things)
        tokens = to_tokens(scene)
        assert to_scene(tokens) == scene
        seen.update(tokens)
    assert max(seen) == SYMBOLS - 1


def test_tokens_that_are_no_picture_are_refused() -> None:
    good = to_tokens(Scene(style=STYLES[0], things={(0, 0): Look(kind="fish")}))
    with pytest.raises(HornbookError, match="begins with its ground"):
        to_scene(good[1:])
    with pytest.raises(HornbookError, match="Cell 0"):
        to_scene([good[0], good[1], good[4], *good[3:]])
    with pytest.raises(HornbookError, match="'mauve'"):
        read_brief(["fish", "mauve"])
    with pytest.raises(HornbookError, match="at most 16"):
        read_brief(["fish"] * 17)


def test_an_untrained_painter_draws_pictures_all_the_same_and_the_same_for_a_seed() -> None:
    model = Painter(painter())
    _, plans, _ = lesson(3, 30)
    briefs = [brief(plan) for plan in plans]
    first = model.draw(briefs, seed=1)
    assert first == model.draw(briefs, seed=1)
    assert first != model.draw(briefs, seed=2)
    assert len({str(scene) for scene in first}) > 20
    assert model.draw([], seed=1) == []


def test_draws_follow_the_models_own_probabilities() -> None:
    """The first token of many draws against the softmax over the grounds, computed without a cache."""
    decoder, n = painter(seed=3), 500
    with torch.no_grad():
        decoder.embed_tokens.weight.mul_(20)  # far from even
        ids = torch.tensor([read_brief(["fish", "red"])])
        logits = decoder.logits(decoder(ids)[:, -1])[0]
    may = allowed(0, None, 1)[0]
    wanted = torch.softmax(logits[may], 0).numpy()
    drawn = Painter(decoder).draw([["fish", "red"]] * n, seed=0)
    seen = np.array([sum(scene.style == style for scene in drawn) / n for style in STYLES])
    assert np.abs(seen - wanted).max() < 4 * 0.5 / np.sqrt(n)
    assert wanted.max() - wanted.min() > 0.05


def test_the_loss_is_the_likelihood_of_the_picture_and_of_nothing_else() -> None:
    """Against the sum of log softmax over picture tokens, one position at a time; and its gradient."""
    decoder = painter().double()
    lines, _, _ = lesson(2, 2)
    batch = to_tensors(PaintingLoader(lines, 2, 0).batch(0))
    loss = next_token(decoder, batch)
    assert int(loss.tokens) == 2 * PICTURE_TOKENS
    order = np.random.default_rng([0, 0]).permutation(2)
    total = torch.zeros((), dtype=torch.float64)
    for line in torch.from_numpy(lines[order]):
        for place in range(BRIEF, BRIEF + PICTURE_TOKENS):
            logits = decoder.logits(decoder(line[None, :place])[:, -1])[0]
            total = total - torch.log_softmax(logits, 0)[line[place]]
    assert float(loss.sum.detach()) == pytest.approx(float(total.detach()), rel=1e-6)
    parameters = list(decoder.parameters())
    for ours, theirs in zip(
        torch.autograd.grad(loss.sum, parameters, materialize_grads=True),
        torch.autograd.grad(total, parameters, materialize_grads=True),
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_batches_are_a_pure_function_of_the_step_and_ranks_share_them() -> None:
    lines, _, _ = lesson(3, 40)
    whole = PaintingLoader(lines, 8, 1)
    halves = [PaintingLoader(lines, 8, 1, rank=r, world=2) for r in range(2)]
    for step in (0, 7, 3):
        batch = whole.batch(step)
        assert np.array_equal(batch.inputs, PaintingLoader(lines, 8, 1).batch(step).inputs)
        both = {tuple(row) for half in halves for row in half.batch(step).inputs.tolist()}
        assert both == {tuple(row) for row in batch.inputs.tolist()}
    epoch = [tuple(row) for step in range(5) for row in whole.batch(step).inputs.tolist()]
    assert len(epoch) == 40
    assert sorted(epoch) == sorted(tuple(row) for row in lines[:, :-1].tolist())
    with pytest.raises(HornbookError, match="cannot be drawn from 40"):
        PaintingLoader(lines, 41, 0)


def test_a_painter_learns_the_pictures_it_is_shown() -> None:
    lines, plans, scenes = lesson(2, 6)
    decoder = painter(hidden_size=48)
    batch = to_tensors(PaintingLoader(lines, 6, 0).batch(0))
    optimizer = torch.optim.AdamW(decoder.parameters(), lr=5e-3)
    for _ in range(70):
        loss = next_token(decoder, batch)
        optimizer.zero_grad()
        (loss.sum / loss.tokens).backward()
        optimizer.step()
    made = Painter(decoder).draw([brief(plan) for plan in plans], seed=0, temperature=0)
    assert np.mean([all(answers(a, plan)) for a, plan in zip(made, plans)]) > 0.9
    assert np.mean([a == b for a, b in zip(made, scenes)]) > 0.7
