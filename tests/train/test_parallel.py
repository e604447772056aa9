"""Two ranks see what one sees; a lost rank ends the run with a sentence."""

import os
from pathlib import Path

import pytest
import torch
from small_training import CyclingLoader, tiny_config

from hornbook.errors import HornbookError
from hornbook.lab.progress import NullProgress
from hornbook.model.decoder import Decoder
from hornbook.train import checkpoint
from hornbook.train.metrics import read
from hornbook.train.objectives import next_token
from hornbook.train.parallel import World, fork_ranks
from hornbook.train.settings import OptimizerSettings, Phase, TrainSettings
from hornbook.train.trainer import Trainer


def train(folder: Path, processes: int, *, kind: str = "adamw", steps: int = 6, objective=next_token):
    torch.manual_seed(1)
    model = Decoder(tiny_config())
    settings = TrainSettings(
        optimizer=OptimizerSettings(kind=kind, learning_rate=1e-2),  # type: ignore[arg-type]
        processes=processes,
        precision="fp32",
        compile="off",
        checkpoint_seconds=0,
    )
    loader = CyclingLoader(masked=0.5)
    trainer = Trainer(model, objective, Phase(name="only", loader=loader, steps=steps), settings, folder)
    return model, trainer.run(NullProgress(), say=lambda sentence: None)


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_two_ranks_see_what_one_sees(tmp_path: Path, kind: str) -> None:
    one, result = train(tmp_path / "one", 1, kind=kind)
    two, other = train(tmp_path / "two", 2, kind=kind)
    curves = [[line["loss"] for line in read(tmp_path / name / "metrics.jsonl")] for name in ("one", "two")]
    assert curves[1] == pytest.approx(curves[0], rel=1e-4)
    counts = [
        [line["trained_tokens"] for line in read(tmp_path / name / "metrics.jsonl")]
        for name in ("one", "two")
    ]
    assert counts[0] == counts[1]
    assert result.tokens == other.tokens
    for a, b in zip(one.parameters(), two.parameters()):
        torch.testing.assert_close(a, b, rtol=1e-2, atol=1e-3)


def test_sums_are_exact_and_equal_on_all_ranks() -> None:
    """Three ranks, buffers too small for the tensor (so it goes in pieces)."""
    numbers = torch.arange(1000, dtype=torch.float32)

    def work(world: World) -> torch.Tensor:
        tensor = numbers * (world.rank + 1)
        world.sum(tensor)
        same = torch.tensor([float(torch.equal(tensor, numbers * 6))])
        world.sum(same)
        return same

    with fork_ranks(3, 400, work) as world:
        assert work(world).item() == 3


def test_a_lost_rank_ends_the_run_with_a_sentence(tmp_path: Path) -> None:
    parent = os.getpid()

    def deadly(model, batch):
        if os.getpid() != parent and len(calls) == 3:
            os._exit(7)
        calls.append(1)
        return next_token(model, batch)

    calls: list[int] = []
    with pytest.raises(HornbookError, match="ended before its time"):
        train(tmp_path, 2, objective=deadly)


def test_rows_that_cannot_be_shared_are_refused(tmp_path: Path) -> None:
    with pytest.raises(HornbookError, match="4 rows a batch, which 3 processes"):
        train(tmp_path, 3)
    assert not checkpoint.found(tmp_path / "training")
