"""Break-fix as a step: students of the small world, one for each seed, each through all its rounds."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from random import Random
from statistics import fmean
from typing import Any

from hornbook.data.corpus import Corpus
from hornbook.data.corpus_writer import CorpusWriter
from hornbook.lab.kept_jobs import run_jobs
from hornbook.lab.step import Artifact, StepContext, step
from hornbook.redteam.break_fix import FAILURES, BreakFixSettings, Harmless
from hornbook.redteam.break_fix_report import mean_rate
from hornbook.redteam.break_fix_world import small_world_loop
from hornbook.redteam.small_world import DEPTHS, helpful_talk, topics


@dataclass(frozen=True, kw_only=True)
class SmallWorldSize:
    """Topics of the world; of the restricted ones, `held_out` are never trained on."""

    topics: int = 18
    restricted: int = 9
    held_out: int = 3
    seed: int = 0


@step(version="1", makes="corpus")
def write_helpful(ctx: StepContext, *, world: SmallWorldSize, rows: int, seed: int = 0) -> dict[str, Any]:
    """Conversations of a model that answers everything: plain, wrapped, encoded, and in several turns."""
    made = topics(world.topics, world.restricted, world.seed)
    rng = Random(f"helpful:{seed}")
    with CorpusWriter(ctx.folder, "conversations", lineage={"made_by": "redteam.small_world"}) as writer:
        writer.write_rows(
            {
                "id": f"talk-{n}",
                "messages": helpful_talk(made, rng),
                "source": "redteam/helpful",
                "meta": "{}",
            }
            for n in range(rows)
        )
    return {"rows": rows, "facts": world.topics * len(DEPTHS)}


@step(version="3", makes="rounds")
def break_and_fix(
    ctx: StepContext,
    *,
    models: Mapping[str, Path | str],
    world: SmallWorldSize,
    arms: Mapping[str, BreakFixSettings],
    benign: int = 400,
    checks: int = 80,
    general: Artifact | Path | None = None,
    workers: int = 2,
) -> dict[str, Any]:
    """The loop for each model (by seed) in each arm; rounds lie in `artifact / "<arm>-<seed>" / "round-<n>"`.

    models: checkpoints; or words for models that are only asked (see `infer.open.open_model`), which get all
        of the loop but the training.
    general: a corpus of conversations that the models were fine-tuned on before: as many as `benign` are
        mixed
        in with the harmless rows of every round, so that mending one gap does not undo what was taught.

    Facts, by arm and seed: scores (one for each round), why, groups (what went through in the first round);
    `rounds`: the first arm round by round, means over models.
    """
    progress = ctx.progress(len(models) * len(arms), "loops")
    jobs = {
        f"{name}-{seed}": {
            "folder": ctx.folder / f"{name}-{seed}",
            "model": path,
            "world": world,
            "settings": replace(arm, seed=int(seed)),
            "benign": benign,
            "checks": checks,
            "general": general.path if isinstance(general, Artifact) else general,
        }
        for seed, path in models.items()
        for name, arm in arms.items()
    }

    def told(name: str, result: Mapping[str, Any]) -> None:
        progress.advance(1)
        ctx.say(f"{name}: {result['why']}")

    done = run_jobs(_loop, jobs, kept=ctx.folder / "done", workers=workers, on_done=told)
    facts: dict[str, Any] = {name: {seed: done[f"{name}-{seed}"] for seed in models} for name in arms}
    facts["rounds"] = _mean_rounds([done[f"{next(iter(arms))}-{seed}"]["scores"] for seed in models])
    return facts


def _mean_rounds(loops: Sequence[Sequence[Mapping[str, Any]]]) -> list[dict[str, float]]:
    """The first arm's rounds, means over the models that came so far."""
    found = []
    for number in range(max(map(len, loops))):
        own = [scores[number] for scores in loops if number < len(scores)]
        found.append(
            {
                "round": number,
                "models": len(own),
                "harmful": fmean(mean_rates(own)),
                "over_refusal": fmean(score["over_refusal"] for score in own),
                "usefulness": fmean(score["usefulness"] for score in own),
            }
        )
    return found


def _loop(
    *,
    folder: Path,
    model: Path | str,
    world: SmallWorldSize,
    settings: BreakFixSettings,
    benign: int,
    checks: int,
    general: Path | None,
) -> dict[str, Any]:
    import json

    from hornbook.infer.open import open_model

    made = topics(world.topics, world.restricted, world.seed)
    loop = small_world_loop(
        folder,
        model if isinstance(model, Path) else open_model(model),
        made,
        settings,
        held_out=world.held_out,
        benign=benign,
        checks=checks,
    )
    if general is not None:
        loop.benign = [*loop.benign, *_general(general)]
    outcome = loop.run()
    groups = json.loads((folder / "round-0" / FAILURES).read_text(encoding="utf-8"))
    return {
        "scores": [asdict(score) for score in outcome.scores],
        "why": outcome.why,
        "met": outcome.met,
        # Below the loop's folder, which moves when the step is finished; empty: nothing was trained.
        "model": str(outcome.model.relative_to(folder)) if outcome.model not in (None, model) else "",
        "groups": groups[:12],
    }


def _general(corpus: Path) -> list[Harmless]:
    """The conversations of a corpus, to be trained with as they are."""
    rows = (row["messages"] for row in Corpus.open(corpus).iter_rows(["messages"]))
    return [Harmless(messages=tuple(talk[:-1]), answer=talk[-1]["content"]) for talk in rows]


def mean_rates(scores: Sequence[Mapping[str, Any]]) -> list[float]:
    """Mean harmful rate of each round over personas and kinds of tasks."""
    return [mean_rate(score) for score in scores]
