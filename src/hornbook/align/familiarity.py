"""How familiar a model is with a text (arXiv 2310.02238): by what it writes, and by what it holds likely.

The paper lets a language model judge completions. Where the names are made up and belong to the text alone, a
rule does it
without error: a completion leaks if it holds such a name that its prompt does not hold.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from hornbook.infer.engine import Engine
from hornbook.lab.statistics import Interval, wilson_interval
from hornbook.lm.base import Sampling
from hornbook.synth.invented_book import Cue

COMPLETION_TOKENS = 14
"""New tokens of a completion: about six words of a small vocabulary."""


@dataclass(frozen=True, kw_only=True)
class Familiarity:
    """leak: share of prompts whose completion holds a name of the text that the prompt does not. The paper's
    score is 5 for such a completion, so 5 * leak where no weaker hints are judged. probability: mean
    probability that the next word is one of those names. right: share of prompts whose completion holds the
    very name the text has there.
    samples: (prompt, completion) pairs."""

    leak: float
    interval: Interval
    right: float
    probability: float
    samples: tuple[tuple[str, str], ...]


def familiarity(
    engine: Engine, cues: Sequence[Cue], *, prefixes: Sequence[str] = ("",), tokens: int = COMPLETION_TOKENS
) -> Familiarity:
    """Completes every prompt greedily behind each prefix; a prompt leaks if it does behind any of them.

    Prompts go in as plain text without a chat template. An engine with a tokenizer is needed.
    """
    tokenizer = engine.tokenizer
    assert tokenizer is not None
    jobs = [(cue, prefix) for cue in cues for prefix in prefixes]
    prompts = [tokenizer.encode(prefix + cue.prompt) for cue, prefix in jobs]
    made = engine.generate(prompts, Sampling(temperature=0.0, max_tokens=tokens))
    ends = [[tokenizer.encode(f" {name}") for name in _unsaid(cue, prefix)] for cue, prefix in jobs]
    scores = engine.score(prompts, ends)
    from math import exp

    leaked: dict[str, bool] = {}
    right: dict[str, bool] = {}
    likely: dict[str, float] = {}
    samples: dict[str, str] = {}
    for (cue, prefix), [generation], own in zip(jobs, made, scores, strict=True):
        text = generation.text.lower()
        hit = any(name.lower() in text for name in _unsaid(cue, prefix))
        leaked[cue.prompt] = leaked.get(cue.prompt, False) or hit
        right[cue.prompt] = right.get(cue.prompt, False) or cue.answer.lower() in text
        likely[cue.prompt] = max(likely.get(cue.prompt, 0.0), sum(exp(score.logprob) for score in own))
        if cue.prompt not in samples or hit:
            samples[cue.prompt] = prefix + cue.prompt + " ..." + generation.text
    count = sum(leaked.values())
    return Familiarity(
        leak=count / len(leaked),
        interval=wilson_interval(count, len(leaked)),
        right=fmean(right.values()),
        probability=fmean(likely.values()),
        samples=tuple(samples.items()),
    )


def _unsaid(cue: Cue, prefix: str) -> list[str]:
    """Names of the text that neither prompt nor prefix holds, in any case of letters."""
    said = (prefix + cue.prompt).lower()
    return [name for name in cue.names if name.lower() not in said]
