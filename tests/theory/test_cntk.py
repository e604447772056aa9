"""The convolutional kernels against loops over the definition, random networks, published code, theorems."""

import itertools
import math
import os
import signal
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest
import torch

from hornbook.errors import HornbookError
from hornbook.theory import cntk, cntk_native
from hornbook.theory.cntk import CntkSettings, kernel_matrices, kernel_pairs, pool_weights
from hornbook.theory.kernel_regression import one_hot, ridge_coefficients, unit_diagonal

ENGINES = ["torch", *(["native"] if cntk_native.available() else [])]


def images(n, *shape, seed=0):
    return torch.randn(n, *shape, generator=torch.Generator().manual_seed(seed))


def by_loops(x, z, layers, bias):
    """The recursion of the paper, one number at a time; every diagonal by the full recursion."""
    height, width = x.shape[1:]
    pixels = list(itertools.product(range(height), range(width)))

    def window(k):
        out = {}
        for (i, j), (a, b) in itertools.product(pixels, pixels):
            total = bias**2
            for p, q in itertools.product((-1, 0, 1), repeat=2):
                total += k.get(((i + p, j + q), (a + p, b + q)), 0.0)
            out[(i, j), (a, b)] = total
        return out

    def gram(u, v):
        return {
            (p, q): sum(float(u[c][p]) * float(v[c][q]) for c in range(len(u)))
            for p, q in itertools.product(pixels, pixels)
        }

    pairs = {name: window(gram(*both)) for name, both in {"xx": (x, x), "zz": (z, z), "xz": (x, z)}.items()}
    t = dict(pairs["xz"])
    out = []
    for _ in range(layers):
        old = {name: dict(s) for name, s in pairs.items()}
        moments = {}
        for name, s in old.items():
            left, right = {"xx": ("xx", "xx"), "zz": ("zz", "zz"), "xz": ("xx", "zz")}[name]
            moments[name] = {}
            for (p, q), value in s.items():
                root = math.sqrt(old[left][p, p] * old[right][q, q])
                r = max(-1.0, min(1.0, value / root))
                angle = math.pi - math.acos(r)
                k = root * (math.sqrt(1 - r * r) + r * angle) / math.pi / 9
                moments[name][p, q] = k, angle / math.pi / 9
        gp = {key: k for key, (k, _) in moments["xz"].items()}
        ntk = {key: k + kd * t[key] for key, (k, kd) in moments["xz"].items()}
        out.append((gp, ntk))
        pairs = {name: window({key: k for key, (k, _) in m.items()}) for name, m in moments.items()}
        t = window(ntk)
    return out


def pooled_by_loops(f, height, width, c):
    """Definition of LAP: averages over all windows centred in the image, entries outside being 0."""
    offsets = list(itertools.product(range(-c, c + 1), repeat=4))
    total = 0.0
    for i, j in itertools.product(range(height), range(width)):
        total += sum(f.get(((i + a, j + b), (i + p, j + q)), 0.0) for a, b, p, q in offsets)
    return total / (2 * c + 1) ** 4


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("bias", [0.0, 0.8])
def test_kernels_equal_loops_over_the_definition(engine, bias):
    x, z = images(2, 2, 3, 4), images(2, 2, 3, 4, seed=1)
    settings = CntkSettings(depths=(1, 2, 3), pools=(0, 1, 4), bias=bias, engine=engine)
    measured = kernel_matrices(x, z, settings)
    assert measured.shape == (3, 2, 3, 2, 2)
    for n, m in ((0, 0), (1, 0)):
        for depth, both in enumerate(by_loops(x[n].numpy(), z[m].numpy(), 3, bias)):
            for kind, f in enumerate(both):
                for place, c in enumerate((0, 1, 4)):
                    expected = pooled_by_loops(f, 3, 4, c)
                    assert measured[depth, kind, place, n, m].item() == pytest.approx(expected, rel=5e-6)


@pytest.mark.parametrize("engine", ENGINES)
def test_kernels_equal_neural_tangents(engine):
    """Normalised kernels of neural-tangents 0.6.5 (float64): Conv 3x3 SAME and Relu d times, W_std sqrt(2),
    then Flatten or GlobalAvgPool and Dense(1). Entries (0, 1), (0, 2), (1, 2)."""
    i = torch.arange(3 * 2 * 4 * 5, dtype=torch.float64)
    x = torch.sin(1 + 0.7 * i + 0.01 * i * i).reshape(3, 2, 4, 5)
    x = x.float() if engine == "native" else x
    settings = CntkSettings(depths=(1, 3), pools=(0, 5), engine=engine)
    whole = kernel_matrices(x, None, settings)
    normal = unit_diagonal(whole, whole.diagonal(dim1=-2, dim2=-1))
    expected = {
        (0, 0, 0): (0.331324085, 0.312186408, 0.303275414),
        (0, 1, 0): (0.173456036, 0.156925847, 0.149319633),
        (0, 0, 1): (0.922660569, 0.906134026, 0.921429761),
        (0, 1, 1): (0.799099489, 0.767376093, 0.797617458),
        (1, 0, 0): (0.608133243, 0.60335533, 0.59390098),
        (1, 1, 0): (0.269165882, 0.264716776, 0.254829356),
        (1, 0, 1): (0.961921525, 0.956387703, 0.966496431),
        (1, 1, 1): (0.834727985, 0.820563994, 0.84553081),
    }
    for place, values in expected.items():
        found = [normal[place][a, b].item() for a, b in ((0, 1), (0, 2), (1, 2))]
        assert found == pytest.approx(values, abs=1e-5 if engine == "native" else 3e-8)


@pytest.mark.skipif(not cntk_native.available(), reason="no C compiler")
def test_compiled_engine_equals_float64_with_equal_and_near_equal_images():
    """float32 loses four digits of the CNTK where patches are equal, unless those count as equal."""
    x, z = images(20, 3, 6, 6), images(35, 3, 6, 6, seed=1)
    z[5], z[17] = x[3], x[4] * 2
    common = {"depths": (1, 9), "pools": (0, 2, 6)}
    fast = kernel_matrices(x, z, CntkSettings(engine="native", **common))
    exact = kernel_matrices(x.double(), z.double(), CntkSettings(engine="torch", **common))
    torch.testing.assert_close(fast, exact, rtol=5e-6, atol=0)


def test_compiled_engine_is_found_where_a_compiler_is():
    import shutil

    assert cntk_native.available() == (shutil.which("cc") is not None)


@pytest.mark.parametrize("engine", ENGINES)
def test_symmetric_and_paired_forms_equal_the_full_one(engine):
    x = images(37, 1, 4, 4)
    settings = CntkSettings(depths=(2,), pools=(0, 1), bias=0.5, engine=engine, threads=3)
    done, close = [], {"rtol": 1e-5, "atol": 0}
    whole = kernel_matrices(x, x.clone(), settings, rows=5)
    torch.testing.assert_close(
        kernel_matrices(x, None, settings, rows=7, progress=done.append), whole, **close
    )
    torch.testing.assert_close(kernel_pairs(x, None, settings), whole.diagonal(dim1=-2, dim2=-1), **close)
    assert sum(done) == 37 * 38 / 2


@pytest.mark.parametrize("engine", ENGINES)
def test_blank_images_give_zeros_and_no_nan(engine):
    x = images(3, 1, 5, 5)
    x[1] = 0
    x[2, :, :, :3] = 0
    whole = kernel_matrices(x, None, CntkSettings(depths=(2,), pools=(0, 5), engine=engine))
    assert torch.isfinite(whole).all()
    assert whole[..., 1, :].abs().max() == 0
    assert whole[..., 2, 2].min() > 0


def test_kernels_are_those_of_wide_random_networks():
    """Gram matrices of 24 random networks of 192 channels: output covariance, and gradients by autograd."""
    torch.manual_seed(0)
    width, layers, pool, draws = 192, 2, 1, 24
    x = images(2, 2, 4, 4)
    settings = CntkSettings(depths=(layers,), pools=(0, pool), engine="torch")
    exact = kernel_matrices(x.double(), None, settings)[0]
    gp, ntk = torch.zeros(draws, 2, 2, 2), torch.zeros(draws, 2, 2, 2)
    for draw in range(draws):
        sizes = [2, width, width]
        weights = [torch.randn(b, a, 3, 3, requires_grad=True) for a, b in itertools.pairwise(sizes)]
        readout = torch.randn(width, 4, 4, requires_grad=True)
        h = x
        for layer, weight in enumerate(weights):
            scale = (2 / 9 / width) ** 0.5  # c_sigma / q^2 of this layer's output
            h = scale * torch.relu(torch.nn.functional.conv2d(h, weight, padding=1)) * (1 if layer else 1.0)
        for place, c in enumerate((0, pool)):
            blurred = torch.nn.functional.avg_pool2d(h, 2 * c + 1, 1, c, count_include_pad=True)
            f = (blurred * readout).sum(dim=(1, 2, 3))
            grads = []
            for n in range(2):
                parts = torch.autograd.grad(f[n], [*weights, readout], retain_graph=True)
                grads.append(torch.cat([part.flatten() for part in parts]))
            stacked = torch.stack(grads)
            ntk[draw, place] = stacked @ stacked.T
            gp[draw, place] = torch.einsum("nchw,mchw->nm", blurred, blurred).detach()
    for measured, kind in ((gp, 0), (ntk, 1)):
        error = measured.std(0) / draws**0.5
        off = (measured.mean(0).double() - exact[kind]).abs()
        assert (off < 5 * error + 0.02 * exact[kind].abs()).all()
        assert (error < 0.1 * exact[kind].abs()).all()


@pytest.mark.parametrize(("size", "pool"), [(5, 0), (5, 1), (5, 2), (4, 4), (3, 7)])
def test_pool_weights_count_windows(size, pool):
    expected = [
        [sum(abs(a - i) <= pool and abs(a - k) <= pool for a in range(size)) for k in range(size)]
        for i in range(size)
    ]
    assert pool_weights(size, pool).tolist() == expected


def translations(image):
    size = image.shape[-1]
    return [torch.roll(image, (a, b), (-2, -1)) for a in range(size) for b in range(size)]


def test_gap_regression_equals_regression_on_all_translations():
    """Theorem 4.1: GAP on n images predicts as no pooling on all n P^2 shifted ones."""
    x, y, z = images(4, 1, 3, 3).double(), torch.tensor([0, 1, 1, 0]), images(3, 1, 3, 3, seed=5).double()
    plain = CntkSettings(depths=(2,), pools=(0,), padding="circular")
    # (2c + 1) = 3 covers the circle once, so that LAP is the mean over the group.
    gap = CntkSettings(depths=(2,), pools=(1,), padding="circular")
    augmented = torch.stack([shifted for image in x for shifted in translations(image)])
    targets = one_hot(y, 2)
    for kind in (0, 1):
        small = kernel_matrices(x, None, gap)[0, kind, 0]
        few = kernel_matrices(z, x, gap)[0, kind, 0] @ ridge_coefficients(small, targets, 0.0)
        big = kernel_matrices(augmented, None, plain)[0, kind, 0]
        coefficients = ridge_coefficients(big, targets.repeat_interleave(9, 0), 0.0)
        many = kernel_matrices(z, augmented, plain)[0, kind, 0] @ coefficients
        torch.testing.assert_close(few, many, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("engine", ENGINES)
def test_flipping_both_images_changes_nothing(engine):
    """What makes K(x, z) + K(flip x, z) equal to doubling the data (corollary 4.2)."""
    x, z = images(2, 3, 4, 6), images(3, 3, 4, 6, seed=1)
    settings = CntkSettings(depths=(3,), pools=(0, 1), bias=0.3, engine=engine)
    torch.testing.assert_close(
        kernel_matrices(x.flip(-1), z, settings), kernel_matrices(x, z.flip(-1), settings), rtol=1e-5, atol=0
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"depths": (3, 2)}, r"depths is \(3, 2\)"),
        ({"depths": (0,)}, "whole numbers from 1"),
        ({"pools": ()}, r"pools is \(\)"),
        ({"bias": -1.0}, "bias is -1"),
        ({"padding": "same"}, "padding is 'same'"),
        ({"engine": "native", "padding": "circular"}, "engine 'torch' for circular"),
    ],
)
def test_wrong_settings_are_named(changes, words):
    with pytest.raises(HornbookError, match=words):
        CntkSettings(**changes)


def test_wrong_images_are_named():
    with pytest.raises(HornbookError, match=r"\(2, 1, 4, 4\) and \(2, 1, 5, 4\)"):
        kernel_matrices(images(2, 1, 4, 4), images(2, 1, 5, 4))
    broken = images(3, 1, 4, 4)
    broken[1, 0, 0, 0] = math.nan
    with pytest.raises(HornbookError, match="1 of 3 images hold NaN"):
        kernel_matrices(broken)
    with pytest.raises(HornbookError, match=r"torch\.uint8"):
        kernel_matrices(torch.zeros(2, 1, 4, 4, dtype=torch.uint8))
    with pytest.raises(HornbookError, match="takes float32 images"):
        kernel_matrices(images(2, 1, 4, 4).double(), None, CntkSettings(engine="native"))


def test_lanes_keep_every_image_and_repeat_the_last():
    values = np.arange(18 * 3, dtype=np.float32).reshape(18, 3)
    laid = cntk_native.in_lanes(values)
    assert laid.shape == (2, 3, 16)
    assert laid[1, :, 1].tolist() == values[17].tolist() == laid[1, :, 15].tolist()


def test_finished_blocks_are_not_computed_again(tmp_path):
    x = images(10, 1, 4, 4)
    settings = CntkSettings(depths=(2,), engine="torch")
    whole = kernel_matrices(x, x, settings, rows=4, folder=tmp_path)
    files = {path.name.split("-", 1)[1]: path for path in tmp_path.iterdir()}
    assert sorted(files) == ["0-4.npy", "4-8.npy", "8-10.npy"]
    files["4-8.npy"].unlink()  # as if interrupted there
    np.save(files["0-4.npy"], np.zeros((1, 2, 1, 4, 10)))
    again = kernel_matrices(x, x, settings, rows=4, folder=tmp_path)
    assert again[..., :4, :].abs().max() == 0
    assert torch.equal(again[..., 4:, :], whole[..., 4:, :])


def test_blocks_of_other_images_or_settings_are_not_taken(tmp_path):
    x, settings = images(4, 1, 4, 4), CntkSettings(depths=(2,), engine="torch")
    kernel_matrices(x, None, settings, folder=tmp_path)
    for other, changed in ((x + 1, settings), (x, CntkSettings(depths=(2,), engine="torch", bias=1.0))):
        expected = kernel_matrices(other, None, changed)
        assert torch.equal(kernel_matrices(other, None, changed, folder=tmp_path), expected)


KILLED = """
import os, pathlib, signal, sys
import torch
from hornbook.theory import cntk
torch.set_num_threads(1)
whole = cntk._torch_row
begun = []
def row(*given):
    begun.append(1)
    if len(begun) == 6:  # in the middle of the third block of two rows
        os.kill(os.getpid(), signal.SIGKILL)
    return whole(*given)
cntk._torch_row = row
x = torch.load(sys.argv[1])
settings = cntk.CntkSettings(depths=(2,), engine="torch")
cntk.kernel_matrices(x, None, settings, rows=2, folder=pathlib.Path(sys.argv[2]))
"""


def test_killed_in_the_middle_it_loses_one_block(tmp_path, monkeypatch):
    x, folder = images(8, 1, 4, 4), tmp_path / "blocks"
    torch.save(x, tmp_path / "x.pt")
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "x.pt"), str(folder)], timeout=150)
    assert done.returncode == -signal.SIGKILL
    assert sorted(path.name.split("-", 1)[1] for path in folder.iterdir()) == ["0-2.npy", "2-4.npy"]
    computed = []
    whole = cntk._torch_row
    monkeypatch.setattr(cntk, "_torch_row", lambda *given: computed.append(1) or whole(*given))
    settings = CntkSettings(depths=(2,), engine="torch")
    found = kernel_matrices(x, None, settings, rows=2, folder=folder)
    assert len(computed) == 4
    assert torch.equal(found, kernel_matrices(x, None, settings, rows=2))


def test_too_little_memory_is_refused_with_the_figure(monkeypatch):
    monkeypatch.setattr(cntk, "memory_available", lambda: 19_000)
    with pytest.raises(HornbookError, match=r"20 with 200 images take 0\.1 MB of memory and 0\.0 MB"):
        kernel_matrices(images(20, 1, 4, 4), images(200, 1, 4, 4))
    kernel_matrices(images(2, 1, 4, 4))


@pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed")
def test_the_triton_program_equals_the_recursion(tmp_path):
    """By Triton's interpreter, which runs the program on a CPU; one pair, as it is slow."""
    script = """
import sys, torch
from hornbook.theory.cntk import CntkSettings, kernel_matrices
x = torch.load(sys.argv[1])
given = dict(depths=(1, 2), pools=(0, 1), bias=0.5)
found = kernel_matrices(x[:1], x[1:], CntkSettings(engine="triton", **given))
expected = kernel_matrices(x[:1].double(), x[1:].double(), CntkSettings(engine="torch", **given))
torch.testing.assert_close(found, expected, rtol=2e-6, atol=0)
"""
    torch.save(images(2, 2, 3, 2), tmp_path / "x.pt")
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", script, str(tmp_path / "x.pt")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=170)
    assert done.returncode == 0, done.stderr[-2000:]
