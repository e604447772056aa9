"""How familiar a model is with a text (arXiv 2310.02238): by what it writes, and by what it holds likely.

The paper lets a language model judge completions. Where the names are made up and belong to the text alone, a
rule does it
without error: a completion leaks if it holds such a name that its prompt does not hold.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import exp
from statistics import fmean

from hornbook.errors import HornbookError
from hornbook.infer.engine import Engine
from hornbook.lab.statistics import Interval, wilson_interval
from hornbook.lm.base import Completion, LanguageModel, Request, Sampling, ask
from hornbook.synth.invented_book import Cue

COMPLETION_TOKENS = 14
"""New tokens of a completion: about six words of a small vocabulary."""


@dataclass(frozen=True, kw_only=True)
class Familiarity:
    """leak: share of prompts whose completion holds a name of the text that the prompt does not. The paper's
    score is 5 for such a completion, so 5 * leak where no weaker hints are judged. probability: mean
    probability that the next word is one of those names. right: share of prompts whose completion holds the
    very name the text has there.
    None where the model cannot be asked for probabilities. samples: (prompt, completion) pairs."""

    leak: float
    interval: Interval
    right: float
    probability: float | None
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
    likely: dict[str, float] = {}
    for (cue, _), own in zip(jobs, scores, strict=True):
        likely[cue.prompt] = max(likely.get(cue.prompt, 0.0), sum(exp(score.logprob) for score in own))
    found = _leaks(jobs, [generation.text for [generation] in made])
    return replace(found, probability=fmean(likely.values()))


def asked_familiarity(
    model: LanguageModel,
    cues: Sequence[Cue],
    *,
    prefixes: Sequence[str] = ("",),
    chat: bool = False,
    tokens: int = COMPLETION_TOKENS,
) -> Familiarity:
    """The same by completions alone, for a model that can only be asked, such as one behind an endpoint.

    chat: ask in turns ("Go on with this text: ..."), where the service completes no plain text.

    Raises:
        HornbookError: the model gives no answer.
    """
    jobs = [(cue, prefix) for cue in cues for prefix in prefixes]
    sampling = Sampling(temperature=0.0, max_tokens=tokens)
    texts = [prefix + cue.prompt for cue, prefix in jobs]
    requests = [
        ask(f"Go on with this text: {text}", sampling=sampling)
        if chat
        else Request(prompt=text, sampling=sampling)
        for text in texts
    ]
    said = []
    for result in model.complete(requests):
        if not isinstance(result, Completion):
            raise HornbookError(
                f"{model.identity} gave no completion ({result.kind}: {result.message}). A service that only "
                "chats is asked in turns with --chat."
            )
        said.append(result.text)
    return _leaks(jobs, said)


def _leaks(jobs: Sequence[tuple[Cue, str]], completions: Sequence[str]) -> Familiarity:
    """What leaked, without probabilities."""
    leaked: dict[str, bool] = {}
    right: dict[str, bool] = {}
    samples: dict[str, str] = {}
    for (cue, prefix), completion in zip(jobs, completions, strict=True):
        text = completion.lower()
        hit = any(name.lower() in text for name in _unsaid(cue, prefix))
        leaked[cue.prompt] = leaked.get(cue.prompt, False) or hit
        right[cue.prompt] = right.get(cue.prompt, False) or cue.answer.lower() in text
        if cue.prompt not in samples or hit:
            samples[cue.prompt] = prefix + cue.prompt + " ..." + completion
    count = sum(leaked.values())
    return Familiarity(
        leak=count / len(leaked),
        interval=wilson_interval(count, len(leaked)),
        right=fmean(right.values()),
        probability=None,
        samples=tuple(samples.items()),
    )


def _unsaid(cue: Cue, prefix: str) -> list[str]:
    """Names of the text that neither prompt nor prefix holds, in any case of letters."""
    said = (prefix + cue.prompt).lower()
    return [name for name in cue.names if name.lower() not in said]
