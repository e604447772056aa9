"""What happens when a step goes wrong: skipped with a message, stopped after too many in a row."""

import math
from collections import deque
from collections.abc import Sequence

from hornbook.errors import HornbookError


class SpikeGuard:
    """Looks at loss and gradient norm of every step before the weights change.

    A step is bad when either is not finite, or when the loss stands more than `deviations` standard
    deviations (and 20 %) above the mean of the last `window` good ones. Bad steps do not enter the window.
    """

    def __init__(self, *, enabled: bool, window: int, deviations: float, stop: int) -> None:
        self.enabled, self.deviations, self.stop = enabled, deviations, stop
        self.losses: deque[float] = deque(maxlen=window)
        self.in_a_row = 0
        self.skipped = 0

    def verdict(self, step: int, loss: float, norm: float) -> str | None:
        """None when the step may be taken, else a sentence why it is skipped.

        Raises:
            HornbookError: when this is the last of `stop` bad steps in a row; the weights are still good.
        """
        why = self._why(loss, norm)
        if why is None:
            self.in_a_row = 0
            self.losses.append(loss)
            return None
        self.in_a_row += 1
        self.skipped += 1
        if self.in_a_row >= self.stop:
            raise HornbookError(
                f"Training stopped at step {step}: {why}, and so for {self.in_a_row} steps in a row. The "
                "last good weights are in the newest checkpoint. Lower the learning rate or look at the data."
            )
        return f"step {step} skipped: {why}"

    def _why(self, loss: float, norm: float) -> str | None:
        if not math.isfinite(loss):
            return f"the loss is {loss}"
        if not math.isfinite(norm):
            return f"the gradient norm is {norm}"
        if not self.enabled or len(self.losses) < self.losses.maxlen:  # type: ignore[operator]
            return None
        mean = sum(self.losses) / len(self.losses)
        deviation = math.sqrt(sum((value - mean) ** 2 for value in self.losses) / len(self.losses))
        limit = max(mean + self.deviations * deviation, mean + 0.2 * abs(mean))
        if loss > limit:
            return (
                f"the loss jumped to {loss:.3f} (the last {len(self.losses)} steps had {mean:.3f} on average)"
            )
        return None

    def forget(self) -> None:
        """Other data have another level of loss: at the start of a phase nothing before it counts."""
        self.losses.clear()
        self.in_a_row = 0

    def state(self) -> dict[str, object]:
        """For the checkpoint."""
        return {"losses": list(self.losses), "in_a_row": self.in_a_row, "skipped": self.skipped}

    def load(self, losses: Sequence[float], in_a_row: int, skipped: int) -> None:
        """Puts back what `state` gave."""
        self.losses.clear()
        self.losses.extend(losses)
        self.in_a_row, self.skipped = in_a_row, skipped
