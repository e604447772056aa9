"""How fast an engine answers one person: time to the first token, and the rate after it."""

import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from hornbook.infer.engine import Engine
from hornbook.lm.base import Sampling


@dataclass(frozen=True, kw_only=True)
class Speed:
    """Medians over the runs.

    `first_token_seconds` is from asking with a prompt of `prompt_tokens` to the first token;
    `tokens_per_second` counts the tokens after it.
    """

    prompt_tokens: int
    drawn: int
    first_token_seconds: float
    tokens_per_second: float
    weight_bytes: int

    def as_json(self) -> dict[str, float]:
        return asdict(self)


def measure_speed(engine: Engine, prompt: Sequence[int], *, drawn: int = 64, runs: int = 3) -> Speed:
    """Answers `prompt` greedily `runs` times, one after another, after an untimed answer."""
    drawn = min(drawn, engine.config.max_position - len(prompt))
    sampling = Sampling(temperature=0.0, max_tokens=drawn)
    first, rate = [], []
    for run in range(runs + 1):
        began = time.perf_counter()
        moments = [time.perf_counter() for _ in engine.stream(prompt, sampling, stop_tokens=[])]
        if run and moments:
            first.append(moments[0] - began)
            rate.append((len(moments) - 1) / max(moments[-1] - moments[0], 1e-9))
    return Speed(
        prompt_tokens=len(prompt),
        drawn=drawn,
        first_token_seconds=statistics.median(first),
        tokens_per_second=statistics.median(rate),
        weight_bytes=engine.model.weight_bytes(),
    )
