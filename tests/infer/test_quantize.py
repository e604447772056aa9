import pytest
import torch

from hornbook.infer import quantize


@pytest.mark.parametrize("rows", [1, 3, 8])
@pytest.mark.parametrize("shape", [(64, 32), (96, 128), (1024, 576)])
def test_int4_kernel_equals_the_dequantized_product(rows: int, shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    weight, x = torch.randn(shape), torch.randn(rows, shape[1]).bfloat16()
    q = quantize.quantize_int4(weight)
    packed, scales = quantize.pack_int4(q)
    out = quantize.int4_linear(x, packed, scales, q.group).float()
    expected = x.float() @ quantize.dequantize_int4(q).T
    assert (out - expected).norm() < 0.01 * expected.norm()


@pytest.mark.parametrize("rows", [1, 8])
def test_int8_kernel_equals_the_dequantized_product(rows: int) -> None:
    torch.manual_seed(0)
    weight, x = torch.randn(96, 128), torch.randn(rows, 128).bfloat16()
    codes, scale = quantize.quantize_int8(weight)
    out = quantize.int8_linear(x, codes, scale.bfloat16()).float()
    expected = x.float() @ quantize.dequantize_int8(codes, scale).T
    assert (out - expected).norm() < 0.01 * expected.norm()


def test_rounding_error_is_at_most_about_half_a_step() -> None:
    torch.manual_seed(1)
    weight = torch.randn(64, 256)
    q = quantize.quantize_int4(weight)
    error = (quantize.dequantize_int4(q) - weight).abs().view(64, -1, q.group)
    # bf16 rounding of scale and offset moves the ends of the range by up to 2**-8 of its size
    assert bool((error <= q.scale[..., None] * (0.5 + 16 / 256)).all())
    codes, scale = quantize.quantize_int8(weight)
    assert bool(((quantize.dequantize_int8(codes, scale) - weight).abs() <= scale[:, None] * 1.0).all())


def test_columns_must_fill_groups() -> None:
    with pytest.raises(ValueError, match="multiple"):
        quantize.quantize_int4(torch.randn(16, 40))
