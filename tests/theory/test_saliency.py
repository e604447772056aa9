"""Certificates, scores and masks against hand-made networks whose right answers are known."""

import math

import pytest
import torch

from hornbook.errors import HornbookError
from hornbook.model.config import ModelConfig
from hornbook.model.decoder import Decoder
from hornbook.theory.saliency import (
    MaskSettings,
    blend,
    certificate,
    completeness,
    every_label,
    frozen,
    learn_masks,
    mask_loss,
    score,
    soundness,
    total_variation,
    upsampled,
)
from hornbook.theory.saliency_baselines import BASELINES, gradient_times_input, integrated_gradients
from hornbook.theory.saliency_text import WordPredictor


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def linear_predict(weight):
    """Two labels; the logit of label 1 is <weight, x>."""

    def predict(x):
        logit = (x * weight).flatten(1).sum(1)
        return torch.stack([torch.sigmoid(-logit), torch.sigmoid(logit)], 1)

    return predict


@pytest.fixture
def patch():
    """A network that looks at the upper left quarter of an 8 x 8 image alone."""
    weight = torch.zeros(1, 1, 8, 8)
    weight[..., :4, :4] = 0.25
    return linear_predict(weight)


def test_certificate_by_hand():
    """Four places, the third decides: it comes in at the step of its rank and stays."""
    predict = linear_predict(torch.tensor([[[0.0, 0.0, 5.0, 0.0]]]))
    x = torch.ones(1, 1, 4)
    on, off = 1 / (1 + math.exp(-5)), 0.5
    for order, rank in (([1.0, 2.0, 9.0, 3.0], 0), ([9.0, 8.0, 1.0, 7.0], 3), ([9.0, 1.0, 2.0, 0.0], 1)):
        q = certificate(predict, x, torch.tensor([1]), torch.tensor([order]), fractions=4)
        assert q.item() == pytest.approx((rank * off + (4 - rank) * on) / 4, abs=1e-6)
    gone = certificate(
        predict, x, torch.tensor([1]), torch.tensor([[1.0, 2, 9, 3]]), fractions=4, delete=True
    )
    assert gone.item() == pytest.approx(off, abs=1e-6)  # the first to go
    behind = torch.full((1, 4), 2.0)
    q = certificate(predict, x, torch.tensor([1]), torch.tensor([[0.0, 1, 2, 3]]), fill=behind, fractions=2)
    assert q.item() == pytest.approx(on, abs=1e-6)


def test_certificates_do_not_depend_on_chunks(patch):
    x, y = torch.randn(5, 1, 8, 8, generator=generator()), torch.tensor([0, 1, 0, 1, 1])
    maps = torch.randn(5, 8, 8, generator=generator(1))
    whole = certificate(patch, x, y, maps, fractions=8)
    torch.testing.assert_close(certificate(patch, x, y, maps, fractions=8, chunk=9), whole)


def test_ties_are_broken_at_random_not_by_position(patch):
    """A constant map must not rank the corner first."""
    x = torch.ones(200, 1, 8, 8)
    q = certificate(patch, x, torch.ones(200, dtype=torch.long), torch.zeros(200, 8, 8), fractions=4)
    chance = torch.sigmoid(4 * torch.tensor([0.25, 0.5, 0.75, 1.0])).mean().item()
    assert q.mean().item() == pytest.approx(chance, abs=0.02)
    assert q.std() > 0


def test_scores_by_hand():
    p = torch.tensor([[0.7, 0.25, 0.05]])
    q = torch.tensor([[0.35, 0.5, 0.2]])
    found = score(p, q)
    assert found.completeness.item() == pytest.approx(0.5)
    assert found.worst_completeness.item() == pytest.approx(0.5)
    assert found.worst_soundness.item() == pytest.approx(0.5)  # 0.25 / 0.5; the third is max(0.1, 0.05) / 0.2
    assert found.wrong_soundness.item() == pytest.approx((0.5 + 0.5) / 2)
    assert found.false_proof.item() == pytest.approx(0.5)
    assert found.certified.item() == 0
    assert completeness(torch.tensor(0.9), torch.tensor(0.3)) == 1
    assert soundness(torch.tensor(0.05), torch.tensor(0.01)) == 1


def test_total_variation_by_loops():
    mask = torch.rand(2, 4, 5, generator=generator())
    expected = [
        sum(
            (m[i, j] - m[i + 1, j]) ** 2 + (m[i, j] - m[i, j + 1]) ** 2 for i in range(3) for j in range(4)
        ).item()
        for m in mask
    ]
    assert total_variation(mask).tolist() == pytest.approx(expected)
    line = torch.tensor([[0.0, 1.0, 3.0]])
    assert total_variation(line).item() == 5


def test_upsampled_masks_stay_between_zero_and_one():
    weights = 50 * torch.randn(3, 2, 2, generator=generator())
    mask = upsampled(weights, (8, 8))
    assert mask.shape == (3, 8, 8)
    assert mask.min() >= 0
    assert mask.max() <= 1
    torch.testing.assert_close(mask[:, 0, 0], torch.sigmoid(weights[:, 0, 0]))
    assert upsampled(torch.zeros(2, 3), (6,)).shape == (2, 6)


def test_objectives_by_their_formulas():
    p, y = torch.tensor([[0.2, 0.8]]), torch.tensor([0])
    published = -0.2 + math.log(math.exp(0.2) + math.exp(0.8))
    assert mask_loss(p, y, MaskSettings()).item() == pytest.approx(published)
    plain = mask_loss(p, y, MaskSettings(objective="log_probability"))
    assert plain.item() == pytest.approx(-math.log(0.2))


def test_learned_mask_finds_the_evidence(patch):
    x, pool = torch.ones(2, 1, 8, 8), -torch.ones(3, 1, 8, 8)
    settings = MaskSettings(steps=120, fills=1, upsample=1, total_variation=0.0, sparsity=1e-3)
    mask = learn_masks(patch, x, torch.tensor([1, 0]), pool, settings)
    assert mask[0, :4, :4].min() > 0.85
    assert mask[0, 4:].max() < 0.1
    assert mask[1].max() < 0.1  # the pool speaks for label 0: nothing of x is kept


def test_total_variation_and_upsampling_make_smoother_masks(patch):
    x, pool = torch.ones(1, 1, 8, 8), torch.randn(20, 1, 8, 8, generator=generator())
    rough, smooth, coarse = (
        total_variation(
            learn_masks(
                patch, x, torch.tensor([1]), pool, MaskSettings(steps=60, upsample=s, total_variation=tv)
            )
        ).item()
        for s, tv in ((1, 0.0), (1, 0.05), (4, 0.0))
    )
    assert smooth < 0.7 * rough
    assert coarse < 0.7 * rough


def test_masks_learned_together_equal_masks_learned_alone(patch):
    x = torch.randn(3, 1, 8, 8, generator=generator())
    y, pool = torch.tensor([0, 1, 1]), torch.randn(1, 1, 8, 8, generator=generator(1))
    settings = MaskSettings(steps=15, fills=2)
    together = learn_masks(patch, x, y, pool, settings)
    chunked = learn_masks(patch, x, y, pool, MaskSettings(steps=15, fills=2, chunk=2))
    alone = torch.cat([learn_masks(patch, x[i : i + 1], y[i : i + 1], pool, settings) for i in range(3)])
    torch.testing.assert_close(together, alone)
    torch.testing.assert_close(together, chunked)


def test_baselines_on_a_linear_network():
    """x dlogp/dx = x w (1 - p); integrated gradients add up to log p(x) - log p(0)."""
    weight = torch.randn(1, 2, 5, generator=generator())
    predict = linear_predict(weight)
    x, y = torch.randn(3, 2, 5, generator=generator(1)), torch.tensor([1, 1, 0])
    p = predict(x).gather(1, y[:, None])[:, 0]
    sign = torch.tensor([1.0, 1.0, -1.0])
    expected = (x * weight).sum(1) * (sign * (1 - p))[:, None]
    torch.testing.assert_close(gradient_times_input(predict, x, y), expected)
    found = integrated_gradients(predict, x, y, steps=200).sum(1)
    torch.testing.assert_close(found, p.log() - math.log(0.5), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", BASELINES)
def test_every_baseline_ranks_the_evidence_above_the_rest(name, patch):
    x = 1 + 0.1 * torch.randn(2, 1, 8, 8, generator=generator())
    found = BASELINES[name](patch, x, torch.tensor([1, 1]))
    assert found.shape == (2, 8, 8)
    if name != "random":
        assert found[:, :4, :4].amin() > found[:, 4:].amax()


def test_frozen_weights_get_no_gradient_and_inputs_do():
    layer = frozen(torch.nn.Linear(4, 2))
    x = torch.randn(1, 4, requires_grad=True)
    layer(x).sum().backward()
    assert layer.weight.grad is None
    assert x.grad is not None


@pytest.fixture(scope="module")
def words():
    torch.manual_seed(0)
    config = ModelConfig(
        vocab_size=12, hidden_size=16, layers=1, heads=2, intermediate_size=16, max_position=16, init_std=0.3
    )
    return WordPredictor(frozen(Decoder(config)), (3, 5))


def test_words_from_embeddings_are_words_from_tokens(words):
    tokens = torch.randint(12, (4, 6), generator=generator())
    logits = words.decoder.logits(words.decoder(tokens)[:, -1])
    torch.testing.assert_close(words(words.embed(tokens)), logits[:, [3, 5]].softmax(-1))
    assert not words.decoder.embed_tokens._forward_hooks


def test_masks_over_tokens(words):
    tokens = torch.randint(12, (2, 6), generator=generator())
    pool = words.embed(torch.randint(12, (10, 6), generator=generator(1)))
    inputs, labels = every_label(words.embed(tokens), 2)
    masks = learn_masks(
        words, inputs, labels, pool, MaskSettings(steps=40, upsample=1, total_variation=0.001)
    )
    assert masks.shape == (4, 6)
    q = certificate(words, inputs, labels, masks, fractions=6, fill=pool.mean(0))
    blind = certificate(words, inputs, labels, -masks, fractions=6, fill=pool.mean(0))
    assert q.mean() > blind.mean()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"upsample": 0}, "upsample is 0"),
        ({"sparsity": -1.0}, "sparsity is -1"),
        ({"objective": "x"}, "objective is 'x'"),
        ({"learning_rate": 0.0}, "learning_rate is 0"),
    ],
)
def test_wrong_settings_are_named(changes, words):
    with pytest.raises(HornbookError, match=words):
        MaskSettings(**changes)


def test_wrong_inputs_are_named(patch):
    x, y = torch.ones(2, 1, 8, 8), torch.tensor([0, 1])
    with pytest.raises(HornbookError, match="must divide"):
        learn_masks(patch, x[..., :6], y, x[..., :6], MaskSettings(steps=1))
    with pytest.raises(HornbookError, match="do not fit"):
        learn_masks(patch, x, y[:1], x)
    with pytest.raises(HornbookError, match="NaN"):
        learn_masks(patch, x * math.nan, y, x)
    with pytest.raises(HornbookError, match=r"maps have shape \(2, 4, 8\)"):
        certificate(patch, x, y, torch.ones(2, 4, 8))
    with pytest.raises(HornbookError, match="fractions is 65"):
        certificate(patch, x, y, torch.ones(2, 8, 8), fractions=65)


def test_blend_is_the_mask_times_input_plus_the_rest():
    x, r, m = (torch.rand(2, 3, 4, generator=generator(s)) for s in range(3))
    torch.testing.assert_close(blend(x, m[:, 0], r), m[:, :1] * x + (1 - m[:, :1]) * r)
