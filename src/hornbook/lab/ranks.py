"""Steps under torchrun: rank 0 makes and names artifacts, the other ranks follow."""

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hornbook.lab.step import Step

_POLL_SECONDS = 0.2
_ALONE = "HORNBOOK_ALONE"
"""In the environment, so that threads and processes which a step starts know it too."""


def rank() -> int:
    """This process's rank under torchrun; 0 when it runs alone."""
    return int(os.environ.get("RANK", "0")) if int(os.environ.get("WORLD_SIZE", "1")) > 1 else 0


@contextmanager
def alone() -> Iterator[None]:
    """What runs inside is run by this rank alone: it must not wait for the others."""
    before = os.environ.get(_ALONE)
    os.environ[_ALONE] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_ALONE]
        else:
            os.environ[_ALONE] = before


def is_alone() -> bool:
    """Whether this rank works by itself here, while the others wait (a step without `every_rank`)."""
    return _ALONE in os.environ


def wait_for_rank_0(step: "Step", key: str, inputs: Mapping[str, Any], final: Path) -> dict[str, Any]:
    """The record of the step once rank 0 has finished it.

    A step with `every_rank` is called here too, as soon as rank 0 has made its folder; such a step ends
    with a barrier of its own, so that rank 0 does not finish before the others have written. Nothing is
    waited for forever: when rank 0 fails, torchrun ends the other ranks.
    """
    from hornbook.lab.execute import DamagedArtifact, partial_folder, read_record
    from hornbook.lab.step import StepContext

    called = False
    while True:
        try:
            record = read_record(final, key)
        except DamagedArtifact:  # rank 0 sets it aside
            record = None
        if record is not None:
            return record
        folder = partial_folder(final)
        if step.every_rank and not called and folder.is_dir():
            called = True
            context = StepContext(
                folder=folder, name=step.name, key=key, resuming=False, run_metrics=None, quiet=True
            )
            step.function(context, **inputs)
        time.sleep(_POLL_SECONDS)
