import pytest
import torch

from hornbook.infer.packed import PackedLinear
from hornbook.model.quantized import QuantLinear, nearest_int4, nearest_int8, pair_up, take_apart


@pytest.mark.parametrize("rows", [1, 3, 8, 20])
@pytest.mark.parametrize("shape", [(64, 32), (96, 128), (1024, 576), (40, 64)])
@pytest.mark.parametrize("nearest", [nearest_int4, nearest_int8])
def test_packed_products_equal_the_plain_one(rows: int, shape: tuple[int, int], nearest: object) -> None:
    torch.manual_seed(0)
    weight, bias, x = torch.randn(shape), torch.randn(shape[0]), torch.randn(rows, shape[1]).bfloat16()
    codes = nearest(weight)  # type: ignore[operator]
    expected = x.float() @ codes.dense().T + bias
    for layer in (PackedLinear(codes, bias), QuantLinear(codes, bias)):
        assert (layer(x).float() - expected).norm() < 0.012 * expected.norm()


def test_rounding_error_is_at_most_half_a_step() -> None:
    """But for the one number on the side that has a code less, which may be cut."""
    torch.manual_seed(1)
    weight = torch.randn(64, 256)
    q = nearest_int4(weight)
    step = q.scales.float().abs().repeat_interleave(32, 1)
    inside = (q.codes > 0) & (q.codes < 15)
    assert bool(((q.dense() - weight).abs()[inside] <= 0.5001 * step[inside]).all())
    assert float(inside.float().mean()) > 0.9
    q = nearest_int8(weight)
    assert bool(((q.dense() - weight).abs() <= q.scales.float()[:, None] * 1.0).all())


def test_the_scale_is_the_best_of_those_tried() -> None:
    """Against every scale on a fine grid: the nine tried lose little."""
    torch.manual_seed(2)
    weight = torch.randn(1, 32)
    own = (nearest_int4(weight).dense() - weight).square().sum()
    extreme = weight.flatten()[weight.abs().argmax()]
    grid = [extreme / -d for d in torch.arange(6, 9, 0.02)]
    errors = [(((weight / s).round().clamp(-8, 7) * s) - weight).square().sum() for s in grid]
    assert float(own) < 1.25 * float(min(errors))


def test_zeros_stay_zero_and_pairs_come_apart() -> None:
    assert bool((nearest_int4(torch.zeros(4, 64)).dense() == 0).all())
    codes = torch.randint(0, 16, (5, 64), dtype=torch.uint8)
    assert torch.equal(take_apart(pair_up(codes)), codes)


def test_columns_must_fill_groups() -> None:
    with pytest.raises(ValueError, match="multiple"):
        nearest_int4(torch.randn(16, 40))
