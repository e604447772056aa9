"""The probes as a step: one subject, several seeds, all of a probe's items in one batch."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from hornbook.evals.result import Result
from hornbook.evals.sample_store import SampleStore
from hornbook.evals.sparks.run import PREFIX, PROBES, find_probe, program, run_probe
from hornbook.infer.open import open_model
from hornbook.lab.step import Artifact, StepContext, step
from hornbook.lm.base import Request
from hornbook.lm.simulated import SimulatedModel

PROGRAM = "program:"
"""A subject `program:memorizer` is a program; see `hornbook.evals.sparks.run.program`."""
_SHOWN = 3


@step(version="1", makes="table")
def examine_sparks(
    ctx: StepContext,
    *,
    subject: Artifact | Path | str,
    probes: Sequence[str] = (),
    items: int,
    seeds: Sequence[int],
    max_tokens: int | None = None,
) -> dict[str, Any]:
    """Measures a subject on probes. Answers are kept in `samples.sqlite`: a stopped step goes on, and so does
    one whose endpoint did not answer everything.

    Args:
        subject: as `open_model` reads it, or `program:KIND`.
        probes: names; none: all of them.
        items: of each seed.

    Facts: `subject`; `probes`: by name metric, section, sentence, `seeds` (the mean of every value, one
    mapping a seed), scores over all items, pictures and a few samples.
    """
    where = subject.path / "model" if isinstance(subject, Artifact) else subject
    names = list(probes) or list(PROBES)
    progress = ctx.progress(len(names), "probes", str(where))
    kind = str(where).removeprefix(PROGRAM) if str(where).startswith(PROGRAM) else ""
    model = SimulatedModel(kind, _nobody) if kind else open_model(where)
    found = {}
    with SampleStore(ctx.folder / "samples.sqlite") as store:
        for name in names:
            probe = find_probe(name)
            result = run_probe(
                probe,
                model,
                items=items,
                seed=seeds,
                max_tokens=max_tokens,
                store=store,
                actor=program(kind, probe, seeds[0]) if kind else None,
            )
            found[name] = _facts(result, probe.metric, seeds)
            if result.unfinished and "://" in str(where):  # what this machine cannot answer it never will
                ctx.unfinished(f"{PREFIX}{name}: {result.unfinished}")
            progress.advance()
    return {"subject": model.identity, "probes": found}


def _nobody(request: Request) -> str:
    raise AssertionError("a program answers its own lines")


def _facts(result: Result, metric: str, seeds: Sequence[int]) -> dict[str, Any]:
    places = {seed: [i for i, name in enumerate(result.ids) if name.startswith(f"{seed}-")] for seed in seeds}
    return {
        "metric": metric,
        "section": result.details["section"],
        "sentence": result.details["sentence"],
        "items": result.items,
        "unfinished": result.unfinished,
        "seeds": [
            {name: fmean(values[i] for i in own) for name, values in result.outcomes.items()}
            for own in places.values()
            if own
        ],
        "scores": {score.name: [score.value, *score.interval] for score in result.scores},
        "pictures": result.details.get("pictures", [])[:_SHOWN],
        "samples": [dict(sample) for sample in result.samples[:_SHOWN]],
    }


def values(facts: Mapping[str, Any], probe: str, name: str = "") -> list[float]:
    """One number a seed: the mean of a probe's value, by default its metric; none where it did not run."""
    told = facts["probes"].get(probe.removeprefix(PREFIX))
    return [] if told is None else [seed[name or told["metric"]] for seed in told["seeds"]]
