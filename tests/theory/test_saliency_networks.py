"""What is explained: folded picture networks, vision language models, and Captum's maps beside ours."""

import numpy as np
import pytest
import torch
from torch import nn

from hornbook.errors import HornbookError
from hornbook.model.config import ModelConfig
from hornbook.model.decoder import Decoder
from hornbook.model.pictures import CLIP_MEAN, CLIP_STD, picture_prompt, prepare
from hornbook.model.vision_config import VisionConfig
from hornbook.theory.picture_network import folded, picture_set, small_network
from hornbook.theory.saliency import MaskSettings, certificate, every_label, frozen, learn_masks
from hornbook.theory.saliency_baselines import BASELINES
from hornbook.theory.saliency_captum import captum_map
from hornbook.theory.saliency_vision import PicturePredictor


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_folding_batch_norm_changes_nothing():
    torch.manual_seed(0)
    network = small_network(4, 3, 6)
    for layer in network:
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_()
            layer.running_var.uniform_(0.5, 2)
            layer.weight.data.uniform_(0.5, 2)
            layer.bias.data.normal_()
    x = torch.randn(5, 3, 16, 16, generator=generator())
    expected = network.eval()(x)
    made = folded(network)
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in made)
    torch.testing.assert_close(made(x), expected, rtol=1e-4, atol=1e-5)


def test_pictures_of_a_file_are_split_without_overlap(tmp_path):
    x = np.arange(40, dtype=np.uint8)[:, None, None].repeat(8, 1).repeat(8, 2)
    np.savez(tmp_path / "x.npz", x=x, y=np.arange(40) % 2)
    drawn = picture_set(tmp_path / "x.npz", 30, 10, seed=1)
    assert (len(drawn.x), len(drawn.shown), drawn.where) == (30, 10, None)
    values = torch.cat([drawn.x, drawn.shown])[:, 0, 0, 0]
    assert len(values.unique()) == 40
    assert drawn.names == ("class 0", "class 1")
    with pytest.raises(HornbookError, match="has 40 images; 31 to train on and 10 others"):
        picture_set(tmp_path / "x.npz", 31, 10, seed=1)


@pytest.fixture(scope="module")
def seeing():
    """A decoder with sight, its prompt with one picture, and the predictor of two words."""
    torch.manual_seed(0)
    sight = VisionConfig(
        image_size=16, patch_size=4, hidden_size=8, layers=2, heads=2, intermediate_size=16, tiles=1
    )
    shape = {"vocab_size": 20, "hidden_size": 16, "layers": 1, "heads": 2, "intermediate_size": 16}
    decoder = Decoder(ModelConfig(**shape, family="phi3_v", vision=sight, max_position=128, init_std=0.5))
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    pictures = prepare([pixels], sight, tiles=1)
    prompt = picture_prompt("a<|image_1|>b", pictures, sight, lambda text: [3 + len(text)])
    return decoder, pictures, prompt, PicturePredictor(frozen(decoder), prompt, (5, 7))


def test_pixels_give_the_models_own_answer(seeing):
    decoder, pictures, prompt, predict = seeing
    hidden = decoder(torch.tensor([prompt]), pictures=pictures)
    expected = decoder.logits(hidden[:, -1])[:, [5, 7]].softmax(-1)
    torch.testing.assert_close(predict(pictures.pixels[:, 1]), expected, rtol=1e-4, atol=1e-5)


def test_masks_and_certificates_of_a_vision_model(seeing):
    predict = seeing[3]
    x = torch.randn(1, 3, 16, 16, generator=generator(1))
    pool = torch.randn(4, 3, 16, 16, generator=generator(2))
    inputs, labels = every_label(x, 2)
    masks = learn_masks(predict, inputs, labels, pool, MaskSettings(steps=15, fills=2, upsample=4))
    assert masks.shape == (2, 16, 16)
    kept = certificate(predict, inputs, labels, masks, fractions=8)
    blind = certificate(predict, inputs, labels, -masks, fractions=8)
    assert kept.sum() > blind.sum()


def test_wrong_pictures_and_prompts_are_named(seeing):
    decoder, _, prompt, predict = seeing
    with pytest.raises(HornbookError, match=r"this model reads \(batch, 3, 16, 16\)"):
        predict(torch.zeros(1, 3, 8, 8))
    with pytest.raises(HornbookError, match="the prompt has 1 places for its picture"):
        PicturePredictor(decoder, [4, -1, 5], (5, 7))
    with pytest.raises(HornbookError, match="at least two different label words"):
        PicturePredictor(decoder, prompt, (5, 5))
    blind = ModelConfig(vocab_size=9, hidden_size=8, layers=1, heads=1, intermediate_size=8)
    with pytest.raises(HornbookError, match="sees no pictures"):
        PicturePredictor(Decoder(blind), prompt, (5, 7))
    assert len(CLIP_MEAN) == len(CLIP_STD) == 3


def test_without_captum_the_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "captum", None)
    with pytest.raises(HornbookError, match=r"'captum: deeplift' is computed by Captum: pip install captum"):
        captum_map("deeplift", nn.Linear(2, 2))


@pytest.mark.oracle
def test_our_baselines_are_captums():
    """Ours explain log p, Captum's here log p too: log_softmax stands behind the network."""
    pytest.importorskip("captum")
    torch.manual_seed(0)
    network = nn.Sequential(folded(small_network(4, 3, 6)), nn.LogSoftmax(dim=-1)).double()
    frozen(network)

    def predict(x):
        return network(x).exp()

    x, y = torch.randn(3, 3, 16, 16, generator=generator(), dtype=torch.float64), torch.tensor([0, 3, 5])
    for name in ("gradient", "gradient x input", "integrated gradients"):
        theirs = captum_map(name, network)(predict, x, y)
        torch.testing.assert_close(BASELINES[name](predict, x, y), theirs, rtol=1e-5, atol=1e-8)
    probabilities = nn.Sequential(network, Exponential())
    theirs = captum_map("occlusion", probabilities)(predict, x, y).double()  # it computes in float32
    # Captum sums over channels: three equal shares of the same loss.
    torch.testing.assert_close(3 * BASELINES["occlusion"](predict, x, y), theirs, rtol=1e-4, atol=1e-6)


class Exponential(nn.Module):
    def forward(self, x):
        return x.exp()


@pytest.mark.oracle
@pytest.mark.parametrize("name", ["guided backpropagation", "deconvolution", "deeplift", "grad-cam"])
def test_captums_maps_have_the_shape_of_ours(name):
    pytest.importorskip("captum")
    torch.manual_seed(0)
    network = folded(small_network(4, 3, 6))
    x, y = torch.randn(3, 3, 16, 16, generator=generator()), torch.tensor([0, 3, 5])
    made = captum_map(name, network)(lambda z: network(z).softmax(-1), x, y)
    assert made.shape == (3, 16, 16)
    assert torch.isfinite(made).all()
    assert made.flatten(1).std(1).min() > 0
