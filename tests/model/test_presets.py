import math

import pytest
import torch

from hornbook.errors import HornbookError
from hornbook.model.config import ModelConfig
from hornbook.model.decoder import Decoder
from hornbook.model.hf import tensor_map
from hornbook.model.presets import PRESETS, preset

# Published totals; phi-1 to phi-4-mini are sums over the released tensors.
PUBLISHED = {
    "phi-1": 1_418_270_720,
    "phi-1.5": 1_418_270_720,
    "phi-2": 2_779_683_840,
    "phi-3-mini": 3_821_079_552,
    "phi-3-mini-128k": 3_821_079_552,
    "phi-3.5-mini": 3_821_079_552,
    "phi-3-small": 7_392_272_384,
    "phi-3-vision": 4_146_621_440,
    "phi-3.5-vision": 4_146_621_440,
    "phi-3-medium": 13_960_238_080,
    "phi-3.5-moe": 41_873_153_344,
    "phi-4": 14_659_507_200,
    "phi-4-mini": 3_836_021_760,
    "smollm2-135m": 134_515_008,
}


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_closed_form_meta_device_and_published_count_agree(name):
    config = preset(name)
    with torch.device("meta"):
        decoder = Decoder(config)
    assert sum(p.numel() for p in decoder.parameters()) == config.parameters()
    if name in PUBLISHED:
        assert config.parameters() == PUBLISHED[name]
    else:
        number, unit = float(name.split("-")[1][:-1]), {"m": 1e6, "b": 1e9}[name[-1]]
        assert config.parameters() == pytest.approx(number * unit, rel=0.12)


def test_active_parameters_are_the_published_ones():
    assert preset("phi-3.5-moe").active_parameters() == 6_640_999_744
    assert preset("phi-4-mini").active_parameters() == preset("phi-4-mini").parameters()


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_preset_survives_both_dictionaries(name):
    config = preset(name)
    assert ModelConfig.from_dict(config.to_dict()) == config
    assert ModelConfig.from_hf(config.to_hf()) == config


def test_packed_shapes_as_released():
    shapes = {}
    for name in ("phi-3-mini", "phi-3-medium", "phi-4", "phi-4-mini"):
        with torch.device("meta"):
            layer = Decoder(preset(name)).layers[0]
        shapes[name] = (
            tuple(layer.attention.qkv_proj.weight.shape),
            tuple(layer.mlp.gate_up_proj.weight.shape),
        )
    assert shapes["phi-3-mini"] == ((9216, 3072), (16384, 3072))
    assert shapes["phi-3-medium"] == shapes["phi-4"] == ((7680, 5120), (35840, 5120))
    assert shapes["phi-4-mini"][0] == (5120, 3072)


def test_tied_model_stores_no_head():
    assert "lm_head.weight" not in tensor_map(preset("phi-4-mini"))
    assert "lm_head.weight" in tensor_map(preset("phi-4"))


@pytest.mark.parametrize(
    ("maximum", "original", "factor"),
    [
        (131072, 4096, 1.1902380714238083),
        (131072, 8192, 1.1435437497937313),
        (131072, 2048, 1.243163121016122),
        (16384, 4096, 1.0801234497346435),
        (4096, 4096, 1.0),
    ],
)
def test_attention_factor_of_published_lengths(maximum, original, factor):
    from hornbook.model.config import LongRope

    rope = LongRope(short_factor=(1.0,), long_factor=(1.0,), original_max_position=original)
    assert math.isclose(rope.magnitude(maximum, long=True), factor, rel_tol=1e-15)


def test_unknown_name_lists_the_known():
    with pytest.raises(HornbookError, match=r"phi-9.*phi-4-mini"):
        preset("phi-9")


def test_cache_bytes_of_the_papers():
    assert preset("phi-3-mini").cache_bytes_per_token() == 393_216
    assert preset("phi-4").cache_bytes_per_token() == 204_800
    assert preset("phi-4-mini").cache_bytes_per_token() == 131_072
