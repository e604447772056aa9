"""Learning-rate shapes: closed forms from a step to a factor between 0 and 1.

A shape knows nothing of the optimizer. The trainer multiplies the peak learning rate of every parameter
group by `factor(step, steps)`, so a resumed run needs no schedule state: the step says everything.
"""

import math
from dataclasses import dataclass
from typing import Literal

from hornbook.errors import HornbookError

Kind = Literal["wsd", "cosine", "linear", "constant"]
DecayForm = Literal["linear", "cosine", "sqrt"]


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """A learning-rate shape over `steps` steps, numbered from 0.

    kind:            "wsd" (warm-up, stable, decay: Hu et al. 2024), "cosine", "linear" or "constant".
    warmup:          steps of linear rise; step 0 already trains, with 1/warmup of the peak. A fraction below
                     1 is read as a share of all steps.
    decay:           only "wsd": the share of all steps spent falling from the peak to `final`.
    decay_form:      only "wsd": "linear", "cosine", or "sqrt" (1 - sqrt(t): Haegele et al. 2024).
    final:           the factor reached at the end, as a share of the peak.
    """

    kind: Kind = "wsd"
    warmup: float = 0.02
    decay: float = 0.2
    decay_form: DecayForm = "linear"
    final: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in ("wsd", "cosine", "linear", "constant"):
            raise HornbookError(
                f"schedule kind is {self.kind!r}; accepted are 'wsd', 'cosine', 'linear' and 'constant'."
            )
        if self.decay_form not in ("linear", "cosine", "sqrt"):
            raise HornbookError(
                f"schedule decay_form is {self.decay_form!r}; accepted are 'linear', 'cosine' and 'sqrt'."
            )
        if self.warmup < 0:
            raise HornbookError(f"schedule warmup is {self.warmup}; it must be 0 or more steps (or a share).")
        if not 0 <= self.decay <= 1:
            raise HornbookError(f"schedule decay is {self.decay}; it is a share of the steps, from 0 to 1.")
        if not 0 <= self.final <= 1:
            raise HornbookError(f"schedule final is {self.final}; it is a share of the peak, from 0 to 1.")

    def warmup_steps(self, steps: int) -> int:
        """Warm-up in steps for a run of `steps` steps."""
        return min(steps, round(self.warmup * steps if self.warmup < 1 else self.warmup))

    def factor(self, step: int, steps: int) -> float:
        """The share of the peak learning rate at `step` (from 0) of a run of `steps` steps."""
        warmup = self.warmup_steps(steps)
        if step < warmup:
            return (step + 1) / warmup
        if self.kind == "constant":
            return 1.0
        start = warmup
        if self.kind == "wsd":
            start = max(warmup, steps - round(self.decay * steps))
        if step < start or steps <= start:
            return 1.0
        # The last step (steps - 1) still trains with more than `final`; `final` itself is reached at `steps`.
        progress = min(1.0, (step - start) / (steps - start))
        form = self.decay_form if self.kind == "wsd" else self.kind
        if form == "cosine":
            fall = 0.5 * (1.0 + math.cos(math.pi * progress))
        elif form == "sqrt":
            fall = 1.0 - math.sqrt(progress)
        else:
            fall = 1.0 - progress
        return self.final + (1.0 - self.final) * fall
