"""The probes as a step: what an endpoint did not answer is asked again, and that alone."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from hornbook.evals.sparks import steps
from hornbook.lab.run import Run
from hornbook.lm.base import Completion, Failure, Request
from hornbook.lm.simulated import SimulatedModel


class Faltering(SimulatedModel):
    """Does not answer the second half of its first batch."""

    def __init__(self) -> None:
        super().__init__("faltering", lambda request: "Answer: 3")
        self.asked: list[int] = []

    def complete(self, requests: Sequence[Request], **told: Any) -> list[Completion | Failure]:
        found = super().complete(requests, **told)
        if not self.asked:
            half = len(found) // 2
            found[half:] = [Failure(kind="connection", message="gone")] * (len(found) - half)
        self.asked.append(len(requests))
        return found


@pytest.mark.parametrize(("subject", "again"), [("http://host/v1#m", [2]), ("folder", [])])
def test_what_an_endpoint_did_not_answer_is_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, subject: str, again: list[int]
) -> None:
    model = Faltering()
    monkeypatch.setattr(steps, "open_model", lambda where: model)

    def examined() -> Any:
        run = Run(tmp_path, recipe="t", scale="smoke", settings={}, quiet=True)
        return run.step(steps.examine_sparks, subject=subject, probes=["sum-direct"], items=4, seeds=(0,))

    first = examined()
    assert first.facts["probes"]["sum-direct"]["items"] == 2
    assert bool(first.unfinished) is bool(again)
    second = examined()
    assert second.facts["probes"]["sum-direct"]["items"] == (4 if again else 2)
    assert not second.unfinished
    assert model.asked == [4, *again]
