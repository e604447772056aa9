"""Reading images: what is given comes out, what is not images is named."""

import numpy as np
import pytest
import torch

from hornbook.errors import HornbookError
from hornbook.theory.images import load_images, standardised


def test_npz_of_grey_and_colour_images(tmp_path):
    random = np.random.default_rng(0)
    for shape in ((5, 4, 6), (5, 4, 6, 3)):
        x = random.integers(0, 256, shape, dtype=np.uint8)
        np.savez(tmp_path / "images.npz", x=x, y=np.arange(5, dtype=np.uint8))
        images = load_images(tmp_path / "images.npz", limit=3)
        assert images.x.shape == (3, shape[3] if len(shape) == 4 else 1, 4, 6)
        assert images.x[2, -1, 1, 5].item() == pytest.approx(x[2, 1, 5].flat[-1] / 255)
        assert images.y.tolist() == [0, 1, 2]
        assert images.name == "images"


def test_digits_are_there_without_a_file():
    images = load_images()
    assert images.x.shape == (1797, 1, 8, 8)
    assert images.classes == 10
    assert images.shuffled(1).y.sum() == images.y.sum()
    assert not torch.equal(images.shuffled(1).y, images.y)
    torch.testing.assert_close(images.pooled(4).x[0, 0, 0, 0], images.x[0, 0, :2, :2].mean())
    with pytest.raises(HornbookError, match="size is 3"):
        images.pooled(3)


def test_standardising_survives_a_constant_channel():
    train = torch.stack([torch.zeros(4, 4, 4), torch.randn(4, 4, 4)], dim=1)
    (done,) = standardised(train)
    assert torch.equal(done[:, 0], torch.zeros(4, 4, 4))
    assert done[:, 1].mean().abs() < 1e-6
    assert done[:, 1].std() == pytest.approx(1)


def test_what_is_not_images_is_named(tmp_path):
    with pytest.raises(HornbookError, match=r"no\.npz cannot be read"):
        load_images(tmp_path / "no.npz")
    np.savez(tmp_path / "x.npz", x=np.zeros((2, 3)))
    with pytest.raises(HornbookError, match=r"x float64\(2, 3\)"):
        load_images(tmp_path / "x.npz")
