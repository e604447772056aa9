"""Which of two continuations is right: a test that even a very small model can pass or fail.

Generation asks too much of a model trained for a minute. Ranking two continuations by likelihood, as the
common-sense benchmarks of phi-1.5 do, separates such models: chance is one half. Three kinds of items:

- `problems`: a word problem and two programs, the true one and one with a wrong operator or a missing step.
- `stories`: a held-out story and the same story with one fault (a name, a pronoun, an object, ...).
- `documents`: a held-out organic document, and how it goes on against how another one does.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from hornbook.data.corpus import Corpus
from hornbook.data.tokenizer import Tokenizer
from hornbook.infer.engine import Engine
from hornbook.lab.statistics import paired_bootstrap, wilson_interval
from hornbook.lab.step import Artifact, StepContext, step
from hornbook.synth.stories import write_story
from hornbook.synth.word_problems import spoil, write_problem
from hornbook.synth.world import PLOT_NAMES

from .stories.corruption import KINDS, corrupt

_PROMPT_BYTES, _END_BYTES = 300, 200  # of a document: enough to tell, short enough for the smallest context


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One item: `right` goes on from `prompt`; `wrong` does not."""

    kind: str
    prompt: str
    right: str
    wrong: str


def problem_choices(count: int, seed: int) -> list[Choice]:
    """Held-out word problems with a true and a spoiled program."""
    rng, choices = Random(seed), list[Choice]()
    for index in range(count):
        problem = write_problem(seed, index, held_out=True)
        wrong, _ = spoil(problem.program, rng)
        choices.append(
            Choice(kind="problems", prompt=problem.question + "\n", right=problem.program, wrong=wrong)
        )
    return choices


def story_choices(
    count: int, seed: int, *, by_fault: bool = False, plots: Sequence[str] = PLOT_NAMES
) -> list[Choice]:
    """Held-out stories and the same with one fault; the prompt is what both begin with.

    by_fault: the kind of a choice is that of its fault, not "stories". plots: what the stories tell.
    """
    rng, choices, index = Random(seed), list[Choice](), 0
    while len(choices) < count:
        story = write_story(seed, index, held_out=True, plots=plots)
        fault = KINDS[index % len(KINDS)]
        faulty = corrupt(story, fault, rng)
        index += 1
        if faulty is None or faulty == story.text:
            continue
        same = next(
            (i for i, (a, b) in enumerate(zip(story.text, faulty)) if a != b),
            min(len(story.text), len(faulty)),
        )
        cut = story.text.rfind(" ", 0, same)
        if cut > 0:
            choices.append(
                Choice(
                    kind=fault if by_fault else "stories",
                    prompt=story.text[:cut],
                    right=story.text[cut:],
                    wrong=faulty[cut:],
                )
            )
    return choices


def document_choices(texts: Sequence[str], count: int, seed: int) -> list[Choice]:
    """Held-out documents: their own next lines against those of another document, cut to the same length."""
    rng = Random(seed)
    long = [text for text in texts if len(text) >= _PROMPT_BYTES + _END_BYTES]
    choices = []
    for text in rng.sample(long, min(count, len(long))):
        other = rng.choice(long)
        if other is not text:
            begin = rng.randrange(len(text) - _PROMPT_BYTES - _END_BYTES + 1)
            start = rng.randrange(len(other) - _END_BYTES + 1)
            middle = begin + _PROMPT_BYTES
            choices.append(
                Choice(
                    kind="documents",
                    prompt=text[begin:middle],
                    right=text[middle : middle + _END_BYTES],
                    wrong=other[start : start + _END_BYTES],
                )
            )
    return choices


def choose(engine: Engine, tokenizer: Tokenizer, choices: Sequence[Choice]) -> list[bool]:
    """Whether the model gives the right continuation more log-likelihood per byte than the wrong one."""
    prompts = [[tokenizer.end_of_text, *tokenizer.encode(choice.prompt)] for choice in choices]
    ends = [[tokenizer.encode(choice.right), tokenizer.encode(choice.wrong)] for choice in choices]
    verdicts = []
    for choice, (right, wrong) in zip(choices, engine.score(prompts, ends), strict=True):
        per_byte = [
            score.logprob / len(text.encode())
            for score, text in ((right, choice.right), (wrong, choice.wrong))
        ]
        verdicts.append(per_byte[0] > per_byte[1])
    return verdicts


@step(version="1", makes="table")
def examine_probes(
    ctx: StepContext,
    *,
    probes: Artifact,
    arms: Sequence[str],
    seeds: Sequence[int],
    documents: Artifact | Path,
    items: int,
    seed: int = 1,
) -> dict[str, Any]:
    """Every probe on the same choices.

    Args:
        probes: from `train_probes`.
        documents: a corpus of held-out organic documents.
        items: items of each kind.

    Facts: `accuracy` {arm: {kind: [one per probe seed]}}, `verdicts` {arm: {kind: [[0 or 1 per item] per
    probe seed]}}.
    """
    from hornbook.model.hf import load_checkpoint

    folder = documents if isinstance(documents, Path) else documents.path
    texts = [row["text"] for row in Corpus.open(folder).iter_rows(["text"])]
    choices = [
        *problem_choices(items, seed),
        *story_choices(items, seed),
        *document_choices(texts, items, seed),
    ]
    kinds = list(dict.fromkeys(choice.kind for choice in choices))
    progress = ctx.progress(len(arms) * len(seeds), "probes")
    verdicts: dict[str, dict[str, list[list[int]]]] = {arm: {kind: [] for kind in kinds} for arm in arms}
    for arm in arms:
        for probe_seed in seeds:
            where = probes / f"{arm}-{probe_seed}"
            tokenizer = Tokenizer.load(where)
            engine = Engine(load_checkpoint(where), tokenizer)
            right = choose(engine, tokenizer, choices)
            for kind in kinds:
                verdicts[arm][kind].append(
                    [int(ok) for ok, choice in zip(right, choices, strict=True) if choice.kind == kind]
                )
            progress.advance()
    accuracy = {
        arm: {kind: [sum(row) / len(row) for row in rows] for kind, rows in table.items()}
        for arm, table in verdicts.items()
    }
    return {
        "accuracy": accuracy,
        "verdicts": verdicts,
        "items": {k: len(verdicts[arms[0]][k][0]) for k in kinds},
    }


def difference(
    verdicts: Mapping[str, Mapping[str, Sequence[Sequence[int]]]],
    better: str,
    worse: str,
    kinds: Sequence[str],
) -> tuple[float, tuple[float, float]]:
    """Accuracy of arm `better` minus that of `worse` over `kinds`, with a paired bootstrap 95 % interval.

    Items are the unit that is resampled; each item's value is its mean over the probes' seeds, so the
    interval covers items, and the seeds are averaged over.
    """
    import numpy as np

    sides = [
        np.concatenate([np.mean(np.asarray(verdicts[arm][kind], float), axis=0) for kind in kinds])
        for arm in (better, worse)
    ]
    paired = paired_bootstrap(sides[0], sides[1])
    return float(paired.difference), (float(paired.interval.low), float(paired.interval.high))


__all__ = [
    "Choice",
    "choose",
    "difference",
    "document_choices",
    "examine_probes",
    "problem_choices",
    "story_choices",
    "wilson_interval",
]
