"""A parametrization on the decoder and the Trainer: folded multipliers, coordinates that stay, refusals."""

import pytest
import torch
import torch.nn.functional as F

from hornbook.errors import HornbookError
from hornbook.model.config import ModelConfig, Multipliers
from hornbook.model.decoder import Decoder
from hornbook.theory.depth_mup import slope
from hornbook.train.optim import Optimizer
from hornbook.train.parametrization import PARAMETRIZATIONS, find_parametrization
from hornbook.train.scaling import optimizer_factors, role_of, scale_initial_values
from hornbook.train.settings import OptimizerSettings, TrainSettings

WIDTH, DEPTH = 32, 2


def config(width=WIDTH, layers=DEPTH, **changes):
    sizes = {"vocab_size": 64, "hidden_size": width, "layers": layers, "heads": width // 16}
    return ModelConfig(**sizes, intermediate_size=2 * width, max_position=32, init_std=0.1, **changes)


def settings(name, **optimizer):
    values = {"learning_rate": 4e-3, "epsilon": 1e-12, "weight_decay": 0.0, **optimizer}
    return TrainSettings(
        optimizer=OptimizerSettings(**values), parametrization=name, base_width=WIDTH, base_depth=DEPTH
    )


def trained(decoder, chosen, steps=3, factors=None):
    """Steps on one batch: the residual stream before training and after each step, and the losses."""
    factors = optimizer_factors(decoder, chosen) if factors is None else factors
    optimizer = Optimizer(decoder, chosen.optimizer, factors=factors)
    tokens = torch.randint(64, (8, 17), generator=torch.Generator().manual_seed(1))
    seen, losses = [], []
    decoder.norm.register_forward_pre_hook(lambda module, given: seen.append(given[0].detach()))
    for _ in range(steps):
        loss = F.cross_entropy(decoder.logits(decoder(tokens[:, :-1])).flatten(0, 1), tokens[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step(1.0)
        losses.append(loss.item())
    decoder(tokens[:, :-1])
    return seen, losses


def fresh(chosen, width=WIDTH, layers=DEPTH, seed=0, **changes):
    torch.manual_seed(seed)
    decoder = Decoder(config(width, layers, **changes))
    scale_initial_values(decoder, chosen)
    return decoder


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("name", ["depth_mup", "completep"])
def test_folded_multipliers_are_the_network_with_multipliers(name, tied):
    """The other way to write the same network: multipliers in the forward pass, the table's rows as is."""
    chosen, table = settings(name, weight_decay=0.1), find_parametrization(name)
    width, layers = 2 * WIDTH, 4 * DEPTH
    m, k = 2.0, 4.0
    folded = fresh(chosen, width, layers, tied_embeddings=tied)
    branch, readout = table.branch(k), 1 / m
    explicit = Decoder(
        config(width, layers, tied_embeddings=tied, multipliers=Multipliers(residual=branch, logits=readout))
    )
    weights = {key: value.clone() for key, value in folded.state_dict().items()}
    for key, value in weights.items():
        if key.endswith(("o_proj.weight", "down_proj.weight")):
            value /= branch
        elif key == "norm.weight":
            value /= readout
    explicit.load_state_dict(weights)
    rows = {key: table.factors(role_of(key), m=m, k=k) for key, _ in explicit.named_parameters()}
    ours, theirs = trained(folded, chosen), trained(explicit, chosen, factors=rows)
    torch.testing.assert_close(ours[1], theirs[1], rtol=2e-5, atol=1e-5)
    assert ours[1][-1] < ours[1][0]


def grows(name, over, sizes, *, optimizer=None, seeds=(0, 1)):
    """Log-log slope over size of the change of the last layer's residual stream after 3 steps."""
    chosen = settings(name, **(optimizer or {}))
    means = []
    for size in sizes:
        shape = {"width": size * WIDTH} if over == "width" else {"layers": size * DEPTH}
        runs = [trained(fresh(chosen, seed=seed, **shape), chosen)[0] for seed in seeds]
        means.append(sum(float((seen[-1] - seen[0]).abs().mean()) for seen in runs))
    return slope(sizes, means)


MUON = {"kind": "muon", "learning_rate": 2e-2}


@pytest.mark.parametrize("optimizer", [None, MUON], ids=["adamw", "muon"])
def test_coordinates_move_alike_at_every_width_and_depth(optimizer):
    """Measured: -0.07 and 0.02 with AdamW, 0.04 and -0.01 with Muon."""
    assert abs(grows("depth_mup", "width", (1, 2, 4), optimizer=optimizer)) < 0.2
    assert abs(grows("depth_mup", "depth", (1, 16), optimizer=optimizer)) < 0.15


def test_coordinate_checks_find_what_is_not_scaled():
    assert grows("standard", "width", (1, 2, 4), seeds=(0,)) > 0.8
    assert grows("mup", "depth", (1, 16), seeds=(0,)) > 0.5
    assert grows("branch_only", "depth", (1, 16), seeds=(0,)) > 0.1


def test_initial_residual_stream_keeps_its_size_over_depth():
    tokens = torch.randint(64, (4, 16), generator=torch.Generator().manual_seed(2))
    sizes = {}
    for name in ("depth_mup", "mup"):
        for layers in (DEPTH, 16 * DEPTH):
            decoder, seen = fresh(settings(name), layers=layers), []
            decoder.norm.register_forward_pre_hook(lambda module, given, seen=seen: seen.append(given[0]))
            decoder(tokens)
            sizes[name, layers] = seen[0].square().mean().sqrt().item()
    assert sizes["depth_mup", 16 * DEPTH] < 1.25 * sizes["depth_mup", DEPTH]
    assert sizes["mup", 16 * DEPTH] > 1.5 * sizes["mup", DEPTH]


def test_at_the_base_size_every_parametrization_is_the_standard_one():
    plain = trained(fresh(settings("standard", weight_decay=0.1)), settings("standard", weight_decay=0.1))
    for name in PARAMETRIZATIONS:
        chosen = settings(name, weight_decay=0.1)
        assert trained(fresh(chosen), chosen)[1] == plain[1], name


def test_standard_leaves_groups_weights_and_resumed_runs_alone():
    chosen = TrainSettings()
    decoder = Decoder(config())
    before = {name: value.clone() for name, value in decoder.state_dict().items()}
    scale_initial_values(decoder, chosen)
    assert optimizer_factors(decoder, chosen) == {}
    assert all(torch.equal(value, before[name]) for name, value in decoder.state_dict().items())
    assert len(Optimizer(decoder, chosen.optimizer).adamw.param_groups) == 2
    assert not {"parametrization", "base_width", "base_depth"} & set(chosen.decisive())
    assert settings("completep").decisive()["parametrization"] == "completep"


def test_muons_rates_follow_the_spectral_condition():
    """Orthogonal updates of unit spectral norm need no width factor; those of Adam's RMS need m^-1/2."""
    rows = {
        scale: optimizer_factors(Decoder(config(4 * WIDTH)), settings("mup", kind="muon", muon_scale=scale))[
            "layers.0.attention.qkv_proj.weight"
        ].learning_rate
        for scale in ("rms", "spectral")
    }
    assert rows == {"rms": 0.5, "spectral": 1.0}


def test_every_parameter_has_a_row_and_wrapped_decoders_keep_their_names():
    wide = Decoder(config(2 * WIDTH, 4 * DEPTH, attention_bias=True, mlp_bias=True))
    names = {name for name, _ in wide.named_parameters()}
    assert set(optimizer_factors(wide, settings("depth_mup"))) == names
    wrapped = torch.nn.Module()
    wrapped.decoder, wrapped.head = wide, torch.nn.Linear(2, 2)
    assert set(optimizer_factors(wrapped, settings("depth_mup"))) == {f"decoder.{name}" for name in names}
    rates = optimizer_factors(wide, settings("depth_mup"))
    assert rates["layers.0.mlp.gate_up_proj.weight"].learning_rate == pytest.approx(0.5 * 0.5)
    assert rates["layers.0.mlp.down_proj.weight"].learning_rate == pytest.approx(0.5 * 0.5 * 0.5)
    assert rates["layers.0.mlp_norm.weight"].learning_rate == pytest.approx(0.5)
    assert rates["norm.weight"].learning_rate == pytest.approx(0.5)
    assert rates["embed_tokens.weight"].learning_rate == 1


def test_what_cannot_be_scaled_is_named():
    with pytest.raises(
        HornbookError, match="parametrization is 'completep' with base_width 0 and base_depth 0"
    ):
        TrainSettings(parametrization="completep")
    with pytest.raises(HornbookError, match=r"parametrization is 'mumu'; accepted are .*'depth_mup'"):
        TrainSettings(parametrization="mumu")
    experts = Decoder(config(family="phimoe", experts=2))
    with pytest.raises(HornbookError, match="this model has experts"):
        optimizer_factors(experts, settings("depth_mup"))
    with pytest.raises(HornbookError, match="Linear is none"):
        optimizer_factors(torch.nn.Linear(2, 2), settings("depth_mup"))
