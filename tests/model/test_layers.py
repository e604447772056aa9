import pytest
import torch

from hornbook.model.config import LongRope, ModelConfig
from hornbook.model.layers import LayerNorm, RMSNorm, gegelu
from hornbook.model.rope import Rope, rotate

BASE = {"vocab_size": 61, "hidden_size": 32, "layers": 1, "heads": 4, "intermediate_size": 48}


@pytest.mark.parametrize(
    ("a", "b", "value"),
    [
        (1.0, 2.0, 2.537387297798464),
        (-1.0, 0.5, -0.23130635110076805),
        (30.0, -30.0, -380.0),
        (0.5, 0.0, 0.35038843660638014),
    ],
)
def test_gegelu_golden_values(a, b, value):
    out = gegelu(torch.tensor([a, b, a, b], dtype=torch.float64), 20.0)
    assert out.tolist() == pytest.approx([value, value], abs=1e-9)


def test_rms_norm_against_the_formula():
    x = torch.randn(5, 16, dtype=torch.float64)
    norm = RMSNorm(16, 1e-5)
    torch.nn.init.normal_(norm.weight)
    expected = x / (x.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt() * norm.weight
    torch.testing.assert_close(norm(x.float()), expected.float())


def test_bf16_norms_are_computed_in_fp32():
    x = (100 + torch.randn(64, 512)).bfloat16()
    for kind, reference in (
        (RMSNorm, torch.nn.functional.rms_norm),
        (LayerNorm, torch.nn.functional.layer_norm),
    ):
        wide = reference(x.double(), (512,), eps=1e-5)
        got = kind(512, 1e-5).bfloat16()(x).double()
        assert ((got - wide).abs() <= 2**-8 * wide.abs() + 1e-4).all()


def test_rotation_turns_pairs_by_position_times_frequency():
    config = ModelConfig(**BASE, rope_theta=100.0, rotary_fraction=0.5)  # head 8, two pairs rotated
    x = torch.randn(1, 1, 5, 8, dtype=torch.float64)
    cos, sin = Rope(config)(torch.arange(5), 5)
    out = rotate(x, cos, sin)
    for position in range(5):
        for pair, frequency in enumerate((1.0, 0.1)):
            before = complex(x[0, 0, position, pair], x[0, 0, position, pair + 2])
            turn = torch.polar(torch.tensor(1.0), torch.tensor(position * frequency)).item()
            after = complex(out[0, 0, position, pair], out[0, 0, position, pair + 2])
            assert after == pytest.approx(before * turn, abs=1e-6)
    assert torch.equal(out[..., 4:], x[..., 4:])


def test_longrope_divides_frequencies_and_switches_past_the_original_length():
    rope = LongRope(
        short_factor=(1.0, 1.0, 2.0, 1.0), long_factor=(1.0, 4.0, 1.0, 1.0), original_max_position=8
    )
    plain = ModelConfig(**BASE, max_position=64)
    long = ModelConfig(**BASE, max_position=64, long_rope=rope)
    position = torch.arange(12)
    cos, sin = Rope(plain)(position, 12)
    angle = torch.atan2(sin, cos)[3]
    for length, factors in ((8, rope.short_factor), (9, rope.long_factor)):
        for given in (length, torch.tensor(length)):
            cos, sin = Rope(long)(position, given)
            got = torch.atan2(sin, cos)[3] * torch.tensor(factors)
            torch.testing.assert_close(got, angle)
            magnitude = (1 + torch.log(torch.tensor(8.0)) / torch.log(torch.tensor(8.0))).sqrt()
            torch.testing.assert_close(cos.square() + sin.square(), magnitude.square().expand(12, 4))


def test_stored_mscales_win_over_the_formula():
    rope = LongRope(
        short_factor=(1.0,), long_factor=(1.0,), original_max_position=4096, short_mscale=1.5, long_mscale=1.7
    )
    assert rope.magnitude(131072, long=False) == 1.5
    assert rope.magnitude(131072, long=True) == 1.7
