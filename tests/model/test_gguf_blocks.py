import numpy as np
import pytest
import torch
from gguf.constants import GGMLQuantizationType
from gguf.quants import dequantize, quantize

from hornbook.model.gguf_blocks import encode_q4_0

Q4_0 = GGMLQuantizationType.Q4_0


def read(values: torch.Tensor) -> torch.Tensor:
    raw = encode_q4_0(values).reshape(values.shape[0], -1).numpy()
    return torch.from_numpy(np.asarray(dequantize(raw, Q4_0)))


@pytest.mark.parametrize("kind", ["normal", "heavy tails", "one sign", "sparse"])
def test_error_is_below_the_usual_rounding_block_by_block(kind: str) -> None:
    draw = np.random.default_rng(3)
    values = draw.standard_normal((64, 256), dtype=np.float32)
    if kind == "heavy tails":
        values = draw.standard_t(3, (64, 256)).astype(np.float32)
    elif kind == "one sign":
        values = np.abs(values)
    elif kind == "sparse":
        values *= draw.random((64, 256)) < 0.05
    usual = np.asarray(dequantize(quantize(values, Q4_0), Q4_0))
    ours = read(torch.from_numpy(values)).numpy()
    before = ((usual - values) ** 2).reshape(-1, 32).sum(1)
    after = ((ours - values) ** 2).reshape(-1, 32).sum(1)
    assert (after <= before * (1 + 1e-3) + 1e-12).all()
    if kind == "normal":
        assert after.sum() < 0.93 * before.sum()


def test_what_sixteen_levels_can_say_is_kept() -> None:
    codes = np.random.default_rng(0).integers(-8, 8, (16, 64)).astype(np.float32)
    codes[:, ::32] = -8
    values = torch.from_numpy(codes * 0.25)
    assert torch.equal(read(values), values)


def test_written_again_is_byte_equal() -> None:
    values = torch.from_numpy(np.random.default_rng(5).standard_normal((512, 64), dtype=np.float32))
    assert torch.equal(encode_q4_0(read(values)), encode_q4_0(values))


def test_zeros_and_extremes_stay_finite() -> None:
    values = torch.zeros(4, 32)
    values[1] = 1e-12
    values[2, 5] = 1e7
    values[3, 0], values[3, 1] = -1e5, 3.0
    found = read(values)
    assert bool(found.isfinite().all())
    assert torch.equal(found[0], values[0])
    assert float(found[3, 0]) == pytest.approx(-1e5, rel=0.1)
