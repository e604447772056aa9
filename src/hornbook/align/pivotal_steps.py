"""Pivotal tokens as steps: the search on a checkpoint, pairs to train on, and how often answers are right."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from statistics import fmean
from typing import TYPE_CHECKING, Any, Literal

from hornbook.align.checkpoints import folder_of
from hornbook.align.dpo import tokenizer_fingerprint
from hornbook.align.pivotal import SearchSettings
from hornbook.align.pivotal_search import (
    Draw,
    ModelRoller,
    RolloutStore,
    Searched,
    Verifier,
    coloured,
    pivot_rows,
    search_pivots,
)
from hornbook.align.questions import problem_questions, verify
from hornbook.data.corpus import Corpus
from hornbook.data.corpus_writer import CorpusWriter
from hornbook.errors import HornbookError
from hornbook.lab.files import sha256_of
from hornbook.lab.statistics import wilson_interval
from hornbook.lab.step import Artifact, StepContext, step
from hornbook.lm.base import Sampling
from hornbook.synth.sums import is_right

if TYPE_CHECKING:
    from hornbook.infer.language_model import LocalModel

Kind = Literal["sum", "program"]
ROLLOUTS = "rollouts.jsonl"


def read_questions(corpus: Artifact | Path, kind: Kind, count: int, seed: int) -> tuple[list[str], Verifier]:
    """Requests and the verifier of their answers: "sum" (`synth.sums`) or "program" (word problems, run)."""
    if kind == "program":
        questions = problem_questions(corpus, count, seed)

        def run(answers: Sequence[tuple[int, str]]) -> list[bool]:
            verdicts = verify([questions[n] for n, _ in answers], [[text] for _, text in answers])
            return [own[0].right is True for own in verdicts]

        return [question.request for question in questions], run
    if kind != "sum":
        raise HornbookError(f"The kind of questions is {kind!r}; accepted: sum, program.")
    opened = Corpus.open(folder_of(corpus))
    rows = [json.loads(row["meta"]) for row in opened.iter_rows(["meta"])]
    if len(rows) < count:
        raise HornbookError(f"The corpus {opened.folder} has {len(rows)} sums; {count} are asked for.")
    chosen = Random(seed).sample(rows, count)

    def compare(answers: Sequence[tuple[int, str]]) -> list[bool]:
        return [is_right(text, int(chosen[n]["answer"])) for n, text in answers]

    return [str(row["question"]) for row in chosen], compare


def _open(
    model: Artifact | Path, corpus: Artifact | Path, kind: Kind, count: int, seed: int, sampling: Sampling
) -> ModelRoller:
    from hornbook.infer.open import open_local

    requests, verifier = read_questions(corpus, kind, count, seed)
    opened: LocalModel = open_local(folder_of(model), weights="fp32")
    return ModelRoller(opened, requests, verifier, sampling)


@step(version="2", makes="corpus")
def search_pivotal_tokens(
    ctx: StepContext,
    *,
    model: Artifact | Path,
    questions: Artifact | Path,
    kind: Kind = "sum",
    count: int = 100,
    settings: SearchSettings = SearchSettings(),  # noqa: B008 - frozen
    filter_rollouts: int = 16,
    answers: int = 2,
    temperature: float = 1.0,
    max_tokens: int = 128,
    pictures: int = 4,
    recheck: int = 0,
    seed: int = 0,
) -> dict[str, Any]:
    """Searches a model's own answers for pivotal tokens; the artifact is a corpus of pairs of single tokens.

    Args:
        model: a checkpoint folder (weights are needed: rollouts go on from token ids).
        questions, kind, count: what is asked, see `read_questions`.
        settings, filter_rollouts, answers: see `search_pivots`.
        temperature, max_tokens: of rollouts.
        pictures: answers kept token by token for the report.
        recheck: fresh rollouts for each side of each pivot, to see whether it is one; 0 for none.

    `artifact / "rollouts.jsonl"` has every rollout; an interrupted search draws none of them again. The file
    `whole/` is a corpus of whole right and wrong answers of the same questions, as many as there are pivotal
    pairs.

    Facts: questions, searched, pivots, pairs, rollouts, tokens, tokens_per_pivot, chance (mean of the
    searched), pictures, rechecked {pivots, held: share whose fresh estimate is `gap` or more}.
    """
    sampling = Sampling(temperature=temperature, max_tokens=max_tokens, seed=seed)
    roller = _open(model, questions, kind, count, seed, sampling)
    identity = sha256_of([roller.model.identity, sampling.as_json(), roller.prompts])
    store = RolloutStore(ctx.folder / ROLLOUTS, identity)
    chosen, spent = search_pivots(
        count,
        roller,
        roller.logprobs,
        stops=roller.stops,
        settings=settings,
        filter_rollouts=filter_rollouts,
        answers=answers,
        store=store,
        progress=ctx.progress(count, "questions"),
    )
    pairs = [row for searched in chosen for row in pivot_rows(searched, gap=settings.gap)]
    _write_pairs(ctx.folder, pairs, roller)
    _write_whole(ctx.folder / "whole", chosen, roller, count=len(pairs), seed=seed)
    pivots = [
        (searched.question, walk.tokens, pivot)
        for searched in chosen
        for walk in searched.walks
        for pivot in walk.pivots
    ]
    facts: dict[str, Any] = {
        "questions": count,
        "searched": len(chosen),
        "pivots": len(pivots),
        "pairs": len(pairs),
        "rollouts": spent.rollouts,
        "tokens": spent.tokens,
        "tokens_per_pivot": spent.tokens / max(1, len(pivots)),
        "chance": fmean([searched.chance for searched in chosen]) if chosen else None,
        "pictures": _pictures(chosen, roller, pictures),
    }
    if recheck and pivots:
        held = sum(
            abs(_fresh(roller, question, tokens[: pivot.position + 1], recheck)
                - _fresh(roller, question, tokens[: pivot.position], recheck)) >= settings.gap
            for question, tokens, pivot in pivots
        )  # fmt: skip
        facts["rechecked"] = {
            "pivots": len(pivots),
            "held": held / len(pivots),
            "interval": list(wilson_interval(held, len(pivots))),
        }
    return facts


def _fresh(roller: ModelRoller, question: int, prefix: tuple[int, ...], count: int) -> float:
    """The chance behind a prefix from rollouts that the search has not drawn."""
    [rollouts] = roller([Draw(question, prefix, 1_000_000, count)])
    return fmean(rollout.right for rollout in rollouts)


def _write_pairs(folder: Path, pairs: Sequence[Any], roller: ModelRoller) -> None:
    fingerprint = tokenizer_fingerprint(roller.model.tokenizer)
    decode = roller.model.tokenizer.decode
    with CorpusWriter(folder, "preferences", lineage={"made_by": "align.pivotal_steps"}) as writer:
        for number, row in enumerate(pairs):
            meta = {
                "prefix": decode(row["prefix"]),
                "before": row["before"],
                "chosen_chance": row["chosen_chance"],
                "rejected_chance": row["rejected_chance"],
                "token_ids": {
                    "prompt": [*roller.prompts[row["question"]], *row["prefix"]],
                    "chosen": [row["chosen"]],
                    "rejected": [row["rejected"]],
                    "tokenizer": fingerprint,
                },
            }
            writer.write_rows(
                [
                    {
                        "id": f"pivot-{number}",
                        "messages": [{"role": "user", "content": roller.requests[row["question"]]}],
                        "chosen": decode([row["chosen"]]),
                        "rejected": decode([row["rejected"]]),
                        "source": "align/pivotal",
                        "meta": json.dumps(meta),
                    }
                ]
            )


def _write_whole(
    folder: Path, chosen: Sequence[Searched], roller: ModelRoller, *, count: int, seed: int
) -> None:
    """Whole answers from the same rollouts: a right one over a wrong one, in turn of the questions."""
    rng = Random(seed)
    made: list[dict[str, Any]] = []
    while chosen and len(made) < count:
        for searched in chosen:
            sides = {
                right: [
                    r
                    for r in searched.rollouts
                    if r.right is right and r.start == 0 and r.tokens[-1] in roller.stops
                ]
                for right in (True, False)
            }
            if all(sides.values()) and len(made) < count:
                made.append(
                    {
                        "id": f"whole-{len(made)}",
                        "messages": [{"role": "user", "content": roller.requests[searched.question]}],
                        "chosen": roller.text(rng.choice(sides[True]).tokens),
                        "rejected": roller.text(rng.choice(sides[False]).tokens),
                        "source": "align/pivotal",
                        "meta": "{}",
                    }
                )
        if not made:
            break
    with CorpusWriter(folder, "preferences", lineage={"made_by": "align.pivotal_steps"}) as writer:
        writer.write_rows(made)


def _pictures(chosen: Sequence[Searched], roller: ModelRoller, count: int) -> list[dict[str, Any]]:
    """Answers with the most pivots, token by token with what each did to the chance of success."""
    decode: Callable[[int], str] = lambda token: roller.model.tokenizer.decode([token])  # noqa: E731
    walks = [(searched, walk) for searched in chosen for walk in searched.walks]
    walks.sort(key=lambda pair: -len(pair[1].pivots))
    return [
        {
            "question": roller.requests[searched.question],
            "chance": searched.chance,
            "right": walk.right,
            "tokens": [list(token) for token in coloured(walk, decode)],
        }
        for searched, walk in walks[:count]
    ]


@step(version="2", makes="answers")
def chance_of_success(
    ctx: StepContext,
    *,
    model: Artifact | Path,
    questions: Artifact | Path,
    kind: Kind = "sum",
    count: int = 200,
    samples: int = 4,
    temperature: float = 1.0,
    max_tokens: int = 128,
    seed: int = 0,
) -> dict[str, Any]:
    """How often drawn answers are right. Facts: chance, by_question (shares), tokens (mean length of an
    answer)."""
    sampling = Sampling(temperature=temperature, max_tokens=max_tokens, seed=seed + 1)
    roller = _open(model, questions, kind, count, seed, sampling)
    rollouts = roller([Draw(question, (), 0, samples) for question in range(count)])
    shares = [fmean(rollout.right for rollout in own) for own in rollouts]
    return {
        "chance": fmean(shares),
        "by_question": shares,
        "tokens": fmean(len(rollout.tokens) for own in rollouts for rollout in own),
    }
