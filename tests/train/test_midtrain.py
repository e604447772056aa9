"""Mid-training: what changes in the shape, what is refused, and that what was known is not lost."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from hornbook.data.lengths import band_names, by_length
from hornbook.data.tokenizer import Tokenizer
from hornbook.data.tokens import TokenFile, TokenWriter
from hornbook.errors import HornbookError
from hornbook.lab.step import StepContext
from hornbook.model.config import LongRope, ModelConfig
from hornbook.model.decoder import Decoder
from hornbook.model.hf import load_checkpoint, read_config, save_checkpoint
from hornbook.train.midtrain import Longer, mid_train, read_by_length
from hornbook.train.pretrain import PhasePlan
from hornbook.train.settings import OptimizerSettings, TrainSettings

CONFIG = ModelConfig(
    vocab_size=300,
    hidden_size=32,
    layers=1,
    heads=2,
    intermediate_size=64,
    max_position=32,
    tied_embeddings=True,
    bos_id=0,
    eos_ids=(0,),
    pad_id=0,
)
PLAIN = TrainSettings(
    optimizer=OptimizerSettings(learning_rate=3e-3), compile="off", processes=1, precision="fp32"
)


def context(folder: Path) -> StepContext:
    folder.mkdir(parents=True, exist_ok=True)
    return StepContext(folder=folder, name="test", key="0" * 64, resuming=False, run_metrics=None, quiet=True)


def documents(folder: Path, lengths: list[int], *, mask: bool = False) -> TokenFile:
    rng = np.random.default_rng(0)
    with TokenWriter(folder, 300, with_mask=mask) as writer:
        for length in lengths:
            ids = [*(rng.integers(1, 300, 5).tolist() * length)[: length - 1], 0]
            writer.write(ids, [n % 2 for n in range(length)] if mask else None)
    return TokenFile.open(folder)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    save_checkpoint(Decoder(CONFIG), tmp_path / "base")
    Tokenizer.train(["a text to learn from"], 300).save(tmp_path / "base")
    return tmp_path / "base"


@pytest.mark.parametrize("mask", [False, True])
def test_documents_go_whole_into_the_band_of_their_length(tmp_path: Path, mask: bool) -> None:
    lengths = [3, 10, 9, 40, 11, 39, 41, 200]
    source = documents(tmp_path / "all", lengths, mask=mask)
    names = band_names([10, 40])
    assert names == ["under-10", "10-39", "40-up"]
    facts = by_length(context(tmp_path / "bands"), tokens=tmp_path / "all", edges=[10, 40])
    assert {name: facts[name]["documents"] for name in names} == {"under-10": 2, "10-39": 3, "40-up": 3}
    found = {}
    for name in names:
        file = TokenFile.open(tmp_path / "bands" / name)
        assert (file.mask is not None) is mask
        found[name] = [file.document(n).tolist() for n in range(len(file))]
        assert facts[name]["tokens"] == file.token_count
    everything = [source.document(n).tolist() for n in range(len(source))]
    assert sorted(document for own in found.values() for document in own) == sorted(everything)
    assert all(len(document) >= 40 for document in found["40-up"])
    none = by_length(context(tmp_path / "none"), tokens=tmp_path / "all", edges=[1000])
    assert none["1000-up"]["documents"] == 0
    assert not (tmp_path / "none" / "1000-up").exists()
    with pytest.raises(HornbookError, match="rising lengths"):
        band_names([40, 10])


def test_the_shape_changes_as_asked_and_nothing_else() -> None:
    config = replace(CONFIG, sliding_window=31)
    made = Longer(max_position=128, rope_theta=250_000.0).of(config)
    assert replace(made, max_position=32, rope_theta=config.rope_theta, sliding_window=31) == config
    assert made.sliding_window is None  # a window of the whole old context was none
    assert Longer(max_position=128).of(replace(CONFIG, sliding_window=8)).sliding_window == 8
    with pytest.raises(HornbookError, match="already has a context of 32"):
        Longer(max_position=16).of(CONFIG)
    with pytest.raises(HornbookError, match="only rotary ones"):
        Longer(max_position=64).of(replace(CONFIG, positions="none"))


def test_from_a_checkpoint_to_a_longer_one(base: Path, tmp_path: Path) -> None:
    documents(tmp_path / "long", [130] * 6)
    before = {name: p.clone() for name, p in load_checkpoint(base).named_parameters()}
    phase = PhasePlan(name="long", mixture={"long": 1.0}, tokens=2 * 128 * 4, rows=2, time=128)
    arguments = {
        "model": base,
        "longer": Longer(max_position=128, rope_theta=40_000.0),
        "tokens": {"long": tmp_path / "long"},
        "settings": PLAIN,
    }
    facts = mid_train(context(tmp_path / "mid"), phases=[phase], **arguments)
    made = tmp_path / "mid" / "model"
    assert (read_config(made).max_position, read_config(made).rope_theta) == (128, 40_000.0)
    assert facts["before"] == {"context": 32, "rope_theta": 10_000.0}
    assert Tokenizer.load(made).vocab_size == Tokenizer.load(base).vocab_size
    after = dict(load_checkpoint(made).named_parameters())
    assert any(not torch.equal(p, before[name]) for name, p in after.items())
    assert all(
        float((p - before[name]).detach().abs().max()) < 0.1 for name, p in after.items()
    )  # it began there
    told = read_by_length(
        context(tmp_path / "read"),
        models={"base": base, "mid": made},
        test=tmp_path / "long",
        lengths=[16, 128],
        rows=4,
    )
    assert set(told) == {"base", "mid"}
    assert told["mid"]["128"] < told["base"]["128"]  # it has just learned these very rows
    with pytest.raises(HornbookError, match="Rows of 256 tokens do not fit"):
        mid_train(context(tmp_path / "x"), phases=[replace(phase, time=256)], **arguments)


def test_factors_of_longrope_in_place_of_a_base(base: Path, tmp_path: Path) -> None:
    pairs = CONFIG.rotary_dim // 2
    rope = LongRope(short_factor=(1.0,) * pairs, long_factor=(2.0,) * pairs, original_max_position=32)
    documents(tmp_path / "long", [70] * 4)
    phase = PhasePlan(name="long", mixture={"long": 1.0}, tokens=64, rows=1, time=64)
    facts = mid_train(
        context(tmp_path / "mid"),
        model=base,
        longer=Longer(max_position=64, long_rope=rope),
        tokens={"long": tmp_path / "long"},
        phases=[phase],
        settings=PLAIN,
    )
    made = read_config(tmp_path / "mid" / "model")
    assert (made.max_position, made.long_rope, made.rope_theta) == (64, rope, CONFIG.rope_theta)
    assert facts["after"]["context"] == 64
