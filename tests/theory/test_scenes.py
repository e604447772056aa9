"""Generated pictures and sentences: what is random has the distribution that is promised."""

import torch

from hornbook.theory.scenes import CLASSES, clouds, draw_scenes
from hornbook.theory.toy_language import BLAME, LENGTH, PRAISE, balanced, draw, with_verdicts


def test_scenes_are_fixed_by_the_seed_and_hold_every_class():
    a, b, c = draw_scenes(60, seed=1), draw_scenes(60, seed=1), draw_scenes(60, seed=2)
    assert torch.equal(a.x, b.x)
    assert not torch.equal(a.x, c.x)
    assert set(a.y.tolist()) == set(range(len(CLASSES)))
    share = a.where.flatten(1).double().mean(1)
    assert share.min() > 0.02
    assert share.max() < 0.25


def test_backgrounds_have_the_spectrum_of_photographs():
    pictures = clouds(40, 32, torch.Generator().manual_seed(0))
    power = torch.fft.rfft2(pictures).abs().square().mean((0, 1))
    assert 2.5 < power[0, 2] / power[0, 4] < 6.5  # 1 / f amplitude: a factor of 4 per octave
    torch.testing.assert_close(pictures.flatten(2).std(2), torch.ones(40, 3))


def test_polar_words_agree_as_often_as_said():
    generator = torch.Generator().manual_seed(0)
    sentences = draw(4000, generator)
    good = ((sentences.words >= 4) & (sentences.words < 20)).sum(1)
    bad = ((sentences.words >= 20) & (sentences.words < 36)).sum(1)
    assert sentences.words.shape[1] == 1 + LENGTH
    assert (good + bad == 3).all()
    agree = torch.where(sentences.y > 0, good, bad).double().mean() / 3
    assert abs(agree - 0.8) < 0.02
    verdict = with_verdicts(sentences, generator)[:, -2]
    praised = (verdict >= PRAISE) & (verdict < BLAME)
    assert abs((praised == (sentences.y > 0)).double().mean() - 0.9) < 0.02


def test_swapped_words_count_for_the_other_side():
    sentences = draw(4000, torch.Generator().manual_seed(0), swapped=5, agree=1.0)
    swapped_good = ((sentences.words >= 4) & (sentences.words < 9)).any(1)
    assert (sentences.y[swapped_good] == -1).all()


def test_balanced_has_k_of_each():
    sentences = balanced(7, torch.Generator().manual_seed(0), swapped=0)
    assert sentences.y.tolist().count(1) == sentences.y.tolist().count(-1) == 7
