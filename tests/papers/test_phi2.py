"""phi-2's recipe: grown students begin as the small one of their seed, and every arm reads what it says."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from hornbook.errors import HornbookError
from hornbook.lab.run import Run
from hornbook.model.hf import load_checkpoint
from hornbook.papers import phi2
from hornbook.train.growth import check_growth
from hornbook.train.probes import _grown


def test_the_recipe_runs_and_a_grown_student_begins_as_the_small_one(tmp_path: Path) -> None:
    settings = phi2.SCALES["smoke"]
    run = Run(tmp_path, recipe="phi2", scale="smoke", settings=settings, quiet=True)
    phi2.recipe(run, settings)
    run.finish()
    assert {claim.id for claim in run.claims} == {
        "transfer-lowers-loss",
        "transfer-pays",
        "converges-faster",
        "benchmarks-rise",
        "head-start-wears-off",
    }
    assert all(claim.holds is None for claim in run.claims)
    (small,) = {path.parent for path in tmp_path.glob("steps/train-probes-*/phi-1.5-0")}
    tokens = torch.randint(settings.vocab_size, (1, 40))
    before = load_checkpoint(small / "phi-1.5-0", dtype=torch.float32).eval()
    after = _grown(small / "phi-1.5-0", settings.large, 0).eval()
    with torch.no_grad():
        torch.testing.assert_close(after.logits(after(tokens)), before.logits(before(tokens)))
    (large,) = {path.parent for path in tmp_path.glob(f"steps/train-probes-*/{phi2.LONGER}-0")}
    assert {path.name for path in large.glob("*-0")} == {f"{arm}-0" for arm in settings.large_arms()}
    one, other = (
        load_checkpoint(large / f"{phi2.arm_of(begun, 1)}-0") for begun in (phi2.SCRATCH, phi2.GROWN)
    )
    assert not torch.equal(one.embed_tokens.weight, other.embed_tokens.weight)


def test_the_small_one_can_be_grown_exactly_and_its_computation_is_paid() -> None:
    settings = phi2.Settings()
    assert check_growth(settings.small, settings.large) == ()
    arms = settings.large_arms()
    paid = settings.small_tokens * settings.small.parameters()
    given = (arms[phi2.LONGER][0].tokens - settings.tokens) * settings.large.parameters()
    assert given == pytest.approx(paid, rel=1e-4)
    with pytest.raises(HornbookError, match=r"0\.5 and 1"):
        replace(settings, shares=(0.25, 1.0))
