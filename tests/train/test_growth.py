"""Growth against the small model's own function, and against what random weights learn in the same steps."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small_training import CyclingLoader, tiny_config

from hornbook.data.tokenizer import Tokenizer
from hornbook.data.tokens import TokenWriter
from hornbook.errors import HornbookError
from hornbook.lab.run import Run
from hornbook.model.config import ModelConfig, Multipliers
from hornbook.model.decoder import Decoder
from hornbook.model.hf import load_checkpoint, save_checkpoint
from hornbook.model.presets import preset
from hornbook.train.growth import GrowthSettings, check_growth, grow, layer_sources
from hornbook.train.growth_step import grow_and_pretrain
from hornbook.train.pretrain import PhasePlan
from hornbook.train.settings import OptimizerSettings, TrainSettings

PHI_1_5 = tiny_config(
    family="phi",
    block="parallel",
    norm="layernorm",
    activation="gelu_new",
    attention_bias=True,
    mlp_bias=True,
    head_bias=True,
    tied_embeddings=False,
    rotary_fraction=0.5,
)
# As from phi-1.5 to phi-2: wider heads with as many rotated dimensions, more layers.
PHI_2 = replace(
    PHI_1_5,
    hidden_size=64,
    heads=2,
    kv_heads=2,
    head_dim=20,
    rotary_fraction=0.4,
    intermediate_size=100,
    layers=3,
)
GROUPED = tiny_config(hidden_size=32, heads=4, kv_heads=2, head_dim=8)
INTERLEAVED = replace(
    GROUPED, activation="gegelu", norm="layernorm", mlp_bias=True, multipliers=Multipliers(embedding=3.0)
)
PAIRS: dict[str, tuple[ModelConfig, ModelConfig]] = {
    "phi-1.5 to phi-2": (PHI_1_5, PHI_2),
    "grouped heads, tied": (
        GROUPED,
        replace(GROUPED, hidden_size=96, heads=10, kv_heads=5, intermediate_size=150, layers=5),
    ),
    "untied": (
        replace(GROUPED, tied_embeddings=False),
        replace(GROUPED, tied_embeddings=False, hidden_size=64, heads=8, kv_heads=4),
    ),
    "interleaved gates": (
        replace(
            GROUPED,
            activation="gegelu",
            norm="layernorm",
            mlp_bias=True,
            multipliers=Multipliers(embedding=3.0),
        ),
        replace(
            GROUPED,
            activation="gegelu",
            norm="layernorm",
            mlp_bias=True,
            multipliers=Multipliers(embedding=3.0),
            intermediate_size=65,
            hidden_size=64,
            layers=3,
        ),
    ),
    "depth alone": (GROUPED, replace(GROUPED, layers=7)),
}


def small_model(config: ModelConfig) -> Decoder:
    """Random weights far from their initial scale, so that every part is felt."""
    torch.manual_seed(3)
    model = Decoder(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn_like(parameter)
            parameter.add_(0.3 * noise if parameter.dim() == 1 else 0.12 * noise)
    return model


def logits(model: Decoder, vocabulary: int = 32) -> torch.Tensor:
    tokens = torch.randint(0, vocabulary, (3, 40), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return model.logits(model(tokens))


@pytest.mark.parametrize("name", PAIRS)
def test_the_grown_model_computes_what_the_small_one_did(name: str) -> None:
    small_config, large_config = PAIRS[name]
    small = small_model(small_config)
    before = {key: value.clone() for key, value in small.state_dict().items()}
    assert check_growth(small_config, large_config) == ()
    grown = grow(small, large_config, GrowthSettings(unevenness=0.8))
    assert sum(p.numel() for p in grown.parameters()) == large_config.parameters()
    expected = logits(small)
    assert expected.std() > 0.3  # there is something to keep
    torch.testing.assert_close(logits(grown), expected, rtol=1e-3, atol=1e-3)
    for key, value in small.state_dict().items():
        assert torch.equal(value, before[key])


def test_layers_are_spread_evenly() -> None:
    assert layer_sources(2, 5) == [0, 0, 0, 1, 1]
    sources = layer_sources(24, 32)  # phi-1.5 and phi-2
    assert sources == sorted(sources)
    assert {sources.count(layer) for layer in range(24)} == {1, 2}


def test_active_added_layers_change_the_function() -> None:
    small = small_model(GROUPED)
    grown = grow(small, replace(GROUPED, layers=4), GrowthSettings(added_layers="active"))
    assert (logits(grown) - logits(small)).abs().max() > 0.1
    for number, source in enumerate(layer_sources(2, 4)):
        for a, b in zip(grown.layers[number].parameters(), small.layers[source].parameters(), strict=True):
            torch.testing.assert_close(a, b)


def test_a_width_that_is_no_multiple_starts_close_and_says_so() -> None:
    small_config = replace(PHI_1_5, hidden_size=64, heads=2, head_dim=32, rotary_fraction=0.5)
    large = replace(small_config, hidden_size=80, head_dim=40, rotary_fraction=0.4, layers=3)
    assert "no multiple of 64" in check_growth(small_config, large)[0]
    small = small_model(small_config)
    torch.manual_seed(0)
    fresh = logits(Decoder(large).eval())
    expected = logits(small)
    near = (logits(grow(small, large)) - expected).square().mean()
    assert near < 0.25 * (fresh - expected).square().mean()


def test_new_vocabulary_rows_leave_the_old_logits_alone() -> None:
    small = small_model(GROUPED)
    grown = grow(small, replace(GROUPED, vocab_size=40, hidden_size=64))
    got = logits(grown)
    torch.testing.assert_close(got[..., :32], logits(small), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(
        got[..., 32:], got[..., :32].mean(-1, keepdim=True).expand(3, 40, 8), rtol=1e-3, atol=1e-3
    )


@pytest.mark.parametrize("unevenness", [0.0, 0.5])
def test_copies_grow_apart_only_with_uneven_shares(unevenness: float) -> None:
    """The silent bug of equal copies: they get equal gradients, and the new width is never used."""
    small = small_model(GROUPED)
    large = replace(GROUPED, hidden_size=64, intermediate_size=128)
    grown = grow(small, large, GrowthSettings(unevenness=unevenness)).train()
    tokens = torch.randint(0, 32, (4, 33), generator=torch.Generator().manual_seed(2))
    scores = grown.logits(grown(tokens[:, :-1]))
    torch.nn.functional.cross_entropy(scores.flatten(0, 1), tokens[:, 1:].flatten()).backward()
    down = grown.layers[0].mlp.down_proj.weight.grad
    inner = grown.layers[0].mlp.gate_up_proj.weight.grad
    assert down is not None
    assert inner is not None
    first, second = inner[:64], inner[64:128]  # two copies of the gates
    apart = float((first - second).norm() / first.norm())
    if unevenness:
        assert apart > 0.05
    else:
        assert apart < 1e-3


def train(model: Decoder, steps: int, learning_rate: float = 2e-3) -> list[float]:
    loader = CyclingLoader(rows=8, time=32)
    optimizer = torch.optim.AdamW(model.train().parameters(), lr=learning_rate)
    losses = []
    for step in range(steps):
        batch = loader.batch(step)
        scores = model.logits(
            model(
                torch.from_numpy(batch.inputs),
                position=torch.from_numpy(batch.position),
                document=torch.from_numpy(batch.document),
            )
        )
        loss = torch.nn.functional.cross_entropy(
            scores.flatten(0, 1), torch.from_numpy(batch.targets).flatten()
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_a_grown_model_learns_on_from_where_the_small_one_was() -> None:
    torch.manual_seed(0)
    small = Decoder(GROUPED)
    ended = train(small, 60)[-1]
    large = replace(GROUPED, hidden_size=64, heads=8, kv_heads=4, intermediate_size=128, layers=3)
    torch.manual_seed(0)
    fresh = train(Decoder(large), 10)
    grown = train(grow(small, large), 10)
    assert grown[0] < ended + 0.2
    assert grown[0] < 0.5 * fresh[0]
    assert max(grown) < fresh[-1]
    silenced = grow(small, large).layers[1].mlp.down_proj.weight
    assert torch.count_nonzero(silenced) == 0


def test_the_step_grows_trains_and_writes_a_checkpoint(tmp_path: Path) -> None:
    texts = [f"Number {n} comes before {n + 1}. The cat counts to {n}.\n" for n in range(200)]
    tokenizer = Tokenizer.train(texts, 300, tmp_path / "tokenizer")
    with TokenWriter(tmp_path / "tokens", tokenizer.vocab_size) as writer:
        for text in texts:
            writer.write([*tokenizer.encode(text), tokenizer.end_of_text])
    shape = replace(GROUPED, vocab_size=tokenizer.vocab_size)
    small = small_model(shape)
    save_checkpoint(small, tmp_path / "small")
    large = replace(shape, hidden_size=64, layers=3)
    # So small a rate that the checkpoint shows where training began.
    settings = TrainSettings(
        optimizer=OptimizerSettings(learning_rate=1e-9, weight_decay=0.0),
        precision="fp32",
        compile="off",
        processes=1,
    )
    plan = PhasePlan(name="only", mixture={"text": 1.0}, tokens=4 * 64 * 3, rows=4, time=64)
    run = Run(tmp_path / "home", recipe="grown", scale="smoke", settings=None, quiet=True)
    made = run.step(
        grow_and_pretrain,
        model=tmp_path / "small",
        large=large,
        tokens={"text": tmp_path / "tokens"},
        phases=[plan],
        settings=settings,
        tokenizer=tmp_path / "tokenizer",
    )
    assert made.facts["inexact"] == []
    assert made.facts["small_parameters"] == shape.parameters() < made.facts["parameters"]
    assert made.facts["tokens"] == 4 * 64 * 3
    grown = load_checkpoint(made / "model")
    assert grown.config.hidden_size == 64
    torch.testing.assert_close(logits(grown), logits(small), rtol=1e-3, atol=1e-3)


def test_the_published_pair_fits() -> None:
    reasons = check_growth(preset("phi-1.5"), preset("phi-2"))
    assert len(reasons) == 1
    assert "2560 is no multiple of 2048" in reasons[0]


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"hidden_size": 16}, "hidden_size falls from 32 to 16"),
        ({"heads": 8}, "query heads per key-value head are 2 and 4"),
        ({"rope_theta": 5e5}, "rope_theta is 10000.0 and 500000.0"),
        ({"tied_embeddings": False}, "ties its embeddings"),
        ({"head_dim": 16}, "rotary_dim is 8 and 16"),
        ({"norm": "layernorm", "layers": 1}, "norm is 'rmsnorm' and 'layernorm'; layers falls"),
    ],
)
def test_what_cannot_be_grown_is_refused_with_every_reason(changes: dict[str, object], part: str) -> None:
    with pytest.raises(HornbookError, match=part):
        grow(small_model(GROUPED), replace(GROUPED, **changes))  # type: ignore[arg-type]
    with pytest.raises(HornbookError, match="unevenness is 1"):
        GrowthSettings(unevenness=1.0)
