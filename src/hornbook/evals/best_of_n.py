"""Best of n: a verifier picks among a generator's answers (Liu et al. 2023, TinyGSM, section 4).

Beside every verifier stand what it must beat: the greedy answer, the mean sample, the majority, the shortest
program (a verifier trained on few questions learns little more) and the generator's own likeliest; and the
oracle, which no choice can pass.
"""

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

from hornbook.data.corpus import Corpus
from hornbook.data.tokenizer import Tokenizer
from hornbook.evals.candidates import (
    MAX_ROWS,
    Candidate,
    auc,
    best,
    draw_candidates,
    majority,
    prompt_tokens,
)
from hornbook.lab.files import write_json
from hornbook.lab.step import Artifact, StepContext, step
from hornbook.lab.workers import side_by_side

CHOICES = ("greedy", "mean", "majority", "shortest", "likeliest", "oracle")
_SHOWN = 6


@step(version="1", makes="table")
def best_of_n(
    ctx: StepContext,
    *,
    generators: Mapping[str, Path],
    questions: Artifact | Path,
    verifiers: Mapping[str, Mapping[str, Path]] | None = None,
    samples: int = 0,
    temperatures: Sequence[float] = (0.5, 0.7),
    max_tokens: int = 64,
    seed: int = 0,
    workers: int = 1,
) -> dict[str, Any]:
    """Every generator on every question: greedily, and with `samples` answers to choose from.

    Args:
        generators: checkpoint folders by name.
        questions: held-out problems of `write_word_problems`.
        verifiers: by generator, verifiers of `train_verifiers` by name.
        samples: answers a question, an equal share at each of `temperatures` (0: the greedy one alone).

    Facts: by generator: `right` {choice: one number a question}, with the names of `CHOICES` and of its
    verifiers (`mean` is the share of the question's samples that are right, the others 0 or 1); `auc`
    {verifier: over all candidates} and `auc_within` {verifier: mean over questions with right and wrong
    ones}; `distinct` (share of samples that are different programs); `changes` (steps of each question's plan
    between opening and end); `samples`: some questions with what was chosen.
    """
    folder = questions.path if isinstance(questions, Artifact) else questions
    jobs = {
        name: partial(
            _examine,
            ctx.folder / f"{name}.json",
            generator=generator,
            verifiers=dict((verifiers or {}).get(name, {})),
            questions=folder,
            samples=samples,
            temperatures=tuple(temperatures),
            max_tokens=max_tokens,
            seed=seed,
        )
        for name, generator in generators.items()
    }
    count = Corpus.open(folder).rows
    progress = ctx.progress(count * len(generators), "questions")
    return dict(side_by_side(jobs, workers=workers, progress=progress))


def _examine(
    kept: Path,
    *,
    generator: Path,
    verifiers: Mapping[str, Path],
    questions: Path,
    samples: int,
    temperatures: Sequence[float],
    max_tokens: int,
    seed: int,
    progress: Any,
) -> dict[str, Any]:
    """One generator, in a process of its own; a finished one is read from `kept`."""
    import torch

    from hornbook.infer.engine import Engine
    from hornbook.model.hf import load_checkpoint

    problems = list(Corpus.open(questions).iter_rows(["id", "meta"]))
    if kept.is_file():
        found: dict[str, Any] = json.loads(kept.read_text())
        progress.advance(len(problems))
        return found
    torch.set_num_threads(1)
    tokenizer = Tokenizer.load(generator)
    engine = Engine(load_checkpoint(generator), tokenizer, max_rows=MAX_ROWS)
    draw = partial(draw_candidates, engine, tokenizer, problems, max_tokens=max_tokens)
    metas = [json.loads(problem["meta"]) for problem in problems]
    greedy = [found[0] for found in draw(samples=1, temperature=0.0)]
    result: dict[str, Any] = {
        "right": {"greedy": [int(c.right) for c in greedy]},
        "changes": [len(meta["skeleton"].split("|")) - 2 for meta in metas],
        "runs": fmean(c.value is not None for c in greedy),
    }
    if samples:
        share = -(-samples // len(temperatures))
        drawn = [
            draw(samples=share, temperature=t, seed=seed * 101 + at) for at, t in enumerate(temperatures)
        ]
        candidates = [[c for part in drawn for c in part[at]][:samples] for at in range(len(problems))]
        result |= judge(candidates, verifiers, tokenizer, [meta["question"] for meta in metas])
        result["right"]["greedy"] = [int(c.right) for c in greedy]
    write_json(kept, result)
    progress.advance(len(problems))
    return result


def judge(
    candidates: Sequence[Sequence[Candidate]],
    verifiers: Mapping[str, Path],
    tokenizer: Tokenizer,
    questions: Sequence[str],
) -> dict[str, Any]:
    """What each way to choose among the candidates of each question makes of them; see `best_of_n`."""
    from hornbook.infer.verifying import score_answers
    from hornbook.train.verifier import load_verifier

    right: dict[str, list[float]] = {
        "mean": [fmean(c.right for c in found) for found in candidates],
        "majority": [int(majority(found).right) for found in candidates],
        "shortest": [int(best(found, [-len(c.tokens) for c in found]).right) for found in candidates],
        "likeliest": [int(best(found, [c.logprob for c in found]).right) for found in candidates],
        "oracle": [int(any(c.right for c in found)) for found in candidates],
    }
    areas: dict[str, float | None] = {}
    within: dict[str, float | None] = {}
    chosen: dict[str, list[Candidate]] = {}
    for name, folder in verifiers.items():
        verifier = load_verifier(folder)
        different = {(at, c.tokens): None for at, found in enumerate(candidates) for c in found if c.tokens}
        prompts = [prompt_tokens(tokenizer, question) for question in questions]
        odds = score_answers(verifier, [prompts[at] for at, _ in different], [t for _, t in different])
        known = dict(zip(different, odds, strict=True))
        scores = [
            [known.get((at, c.tokens), float("-inf")) for c in found] for at, found in enumerate(candidates)
        ]
        chosen[name] = [best(found, own) for found, own in zip(candidates, scores, strict=True)]
        right[name] = [int(c.right) for c in chosen[name]]
        flat = [
            (s, c.right) for found, own in zip(candidates, scores, strict=True) for c, s in zip(found, own)
        ]
        areas[name] = auc([s for s, _ in flat], [r for _, r in flat])
        each = [auc(own, [c.right for c in found]) for found, own in zip(candidates, scores, strict=True)]
        mixed = [value for value in each if value is not None]
        within[name] = fmean(mixed) if mixed else None
    total = sum(len(found) for found in candidates)
    return {
        "right": right,
        "auc": areas,
        "auc_within": within,
        "distinct": sum(len({c.text for c in found}) for found in candidates) / total,
        "shown": [
            {
                "question": questions[at],
                "candidates": [c.text for c in candidates[at]],
                "right": [c.right for c in candidates[at]],
                "chosen": {name: picks[at].text for name, picks in chosen.items()},
            }
            for at in range(min(_SHOWN, len(questions)))
        ],
    }
