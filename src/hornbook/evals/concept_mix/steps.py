"""ConceptMix as steps: a painter raised, a painter examined, and a drawing endpoint examined."""

import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any

from hornbook.errors import HornbookError
from hornbook.evals.concept_mix.grade import LEGEND, Grading, calibrate, grade, seeing_program
from hornbook.evals.concept_mix.protocol import PAPER, Plan, categories_of, draw_plans
from hornbook.evals.concept_mix.score import (
    ConceptMixScore,
    JudgeErrors,
    Marked,
    category_rates,
    expected_full,
    score,
)
from hornbook.evals.concept_mix.words import Prompt, by_rule
from hornbook.evals.concept_mix.world import WORLD, answers, brief, draw_scenes
from hornbook.evals.concept_mix.writer import write_prompts
from hornbook.evals.judges import Calibration, Corrected, correct
from hornbook.evals.prediction_powered import prediction_powered
from hornbook.infer.open import open_model
from hornbook.lab.files import write_atomic
from hornbook.lab.png import png
from hornbook.lab.step import Estimate, StepContext, step
from hornbook.lm.base import Failure, LanguageModel, require
from hornbook.lm.endpoint import EndpointModel
from hornbook.lm.endpoint_settings import EndpointSettings
from hornbook.lm.images import ImageEndpoint
from hornbook.lm.store import CallStore
from hornbook.synth.scenes import paint, see
from hornbook.train.schedule import Schedule
from hornbook.train.settings import OptimizerSettings, Phase, TrainSettings

PROGRAM = "program:"
"""A judge `program:0.9:0.95` reads the small world, and errs with sensitivity 0.9, specificity 0.95."""
PATIENCE = EndpointSettings()
"""With endpoints. No part of a step's key: other patience gets the same answers."""
_SHOWN = 2
"""Pictures of each k that are kept to be looked at."""


def training() -> TrainSettings:
    """How a painter of 64 numbers and 3 layers is trained; other sizes scale from it under
    `--parametrization`."""
    return TrainSettings(
        optimizer=OptimizerSettings(kind="muon", learning_rate=1e-2),
        schedule=Schedule(kind="cosine", warmup=0.03),
        spike_guard=False,
        base_width=64,
        base_depth=3,
    )


@dataclass(frozen=True, kw_only=True)
class Apprentice:
    """A painter before it has learned: its shape, and how long it trains on how many pictures."""

    hidden_size: int = 64
    layers: int = 3
    heads: int = 2
    pictures: int = 48_000
    steps: int = 500
    rows: int = 128
    training: TrainSettings = field(default_factory=training)


def _estimate(*, ks: Sequence[int], apprentice: Apprentice, seed: int) -> Estimate:
    tokens = 43 * apprentice.steps * apprentice.rows
    parameters = 12 * apprentice.layers * apprentice.hidden_size**2
    return Estimate(
        seconds=3 + 2e-4 * apprentice.pictures + 6.0 * parameters * tokens / 8e10,
        memory_bytes=6e8 + 16 * parameters,
        disk_bytes=4 * parameters + 1e5,
    )


@step(version="1", makes="checkpoint", estimate=_estimate)
def raise_painter(
    ctx: StepContext, *, ks: Sequence[int], apprentice: Apprentice, seed: int
) -> dict[str, Any]:
    """Trains a painter on pictures whose briefs hold `ks` concepts each, evenly; `artifact / "model"`.

    Facts: loss, parameters, seconds and tokens_per_second of training; categories {number of categories in a
    brief: briefs}; rejected {k: share of plans that could not be shown}.
    """
    import torch

    from hornbook.model.decoder import Decoder
    from hornbook.model.plain import save_plain
    from hornbook.synth.painter import PaintingLoader, lines_of, painter_config
    from hornbook.train.objectives import next_token
    from hornbook.train.trainer import Trainer

    plans: list[Plan] = []
    scenes = []
    rejected = {}
    for k in ks:
        drawn, own = draw_scenes(k, apprentice.pictures // len(ks), Random(f"training {seed} {k}"))
        plans += drawn.plans
        scenes += own
        rejected[k] = drawn.rejection_rate
    lines = lines_of([brief(plan) for plan in plans], scenes)
    torch.manual_seed(seed)
    config = painter_config(
        hidden_size=apprentice.hidden_size, layers=apprentice.layers, heads=apprentice.heads
    )
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = Decoder(config).to(device)
    trainer = Trainer(
        model,
        next_token,
        Phase(
            name="pictures",
            loader=PaintingLoader(lines, apprentice.rows, seed),
            steps=apprentice.steps,
        ),
        replace(apprentice.training, seed=seed),
        ctx.folder / "model",
        save_model=save_plain,  # type: ignore[arg-type]
    )
    total = apprentice.steps * apprentice.rows * (lines.shape[1] - 1)
    label = f"k {min(ks)} to {max(ks)}, width {apprentice.hidden_size}, seed {seed}"
    result = trainer.run(progress=ctx.progress(total, "tokens", label), log=ctx.log, say=ctx.say)
    shutil.rmtree(ctx.folder / "model" / "training", ignore_errors=True)
    return {
        "loss": result.loss,
        "parameters": config.parameters(),
        "seconds": result.seconds,
        "tokens_per_second": result.tokens_per_second,
        "categories": dict(sorted(Counter(categories_of(plans)).items())),
        "rejected": rejected,
    }


@step(version="2", makes="table")
def examine_painter(
    ctx: StepContext,
    *,
    painter: Path,
    ks: Sequence[int],
    count: int,
    seed: int,
    temperature: float = 1.0,
    judge: str = "",
    labelled: int = 50,
    rounds: int = 1,
    calibration: int = 60,
) -> dict[str, Any]:
    """ConceptMix of a painter, its pixels read exactly; `pictures/` holds some of what it drew.

    Args:
        painter: a folder that `raise_painter` kept.
        count: pictures for each k.
        judge: a model that grades the same pictures (`program:0.9:0.95`, http://host/v1#name); empty: none.
        labelled: pictures of each k whose truth the prediction-powered estimate may use.
        calibration: pictures of known truth for each k on which the judge's error is measured.

    Facts: `levels`, one for each k (`expected` and `expected_singly`: the full marks that its own rates and
    those of the first k predict of independent properties); `shown` [{k, file, caption, properties,
    questions, answers}]; with a judge also `judge` (see `_judged`).
    """
    from hornbook.model.plain import load_plain
    from hornbook.synth.painter import Painter

    model = Painter(load_plain(painter))
    progress = ctx.progress(len(ks), "levels")
    marks: dict[int, list[Marked]] = {}
    prompts: dict[int, list[Prompt]] = {}
    files: dict[int, list[bytes]] = {}
    shown = []
    for k in ks:
        drawn, _ = draw_scenes(k, count, Random(f"examination {seed} {k}"))
        made = model.draw([brief(plan) for plan in drawn.plans], seed=seed + k, temperature=temperature)
        pixels = [paint(scene) for scene in made]
        marks[k] = [
            Marked(plan=plan, answers=tuple(answers(see(picture), plan)))
            for plan, picture in zip(drawn.plans, pixels, strict=True)
        ]
        files[k] = [png(picture) for picture in (pixels if judge else pixels[:_SHOWN])]
        prompts[k] = [by_rule(plan, WORLD) for plan in drawn.plans]
        shown += _keep(ctx.folder, prompts[k], marks[k], files[k])
        progress.advance()
    singly = category_rates(marks[ks[0]])
    facts: dict[str, Any] = {
        "levels": [
            _level(score(own)) | {"expected_singly": expected_full([mark.plan for mark in own], singly)}
            for own in marks.values()
        ],
        "shown": shown,
    }
    if judge:
        with CallStore(ctx.folder / "calls.sqlite") as store:
            model_that_sees = open_judge(judge, store, seed)
            errors, known = calibrate(model_that_sees, ks=ks, count=calibration, rounds=rounds, seed=seed)
            graded = {
                k: grade(model_that_sees, prompts[k], files[k], legend=LEGEND, truth=own, rounds=rounds)
                for k, own in marks.items()
            }
        _tell_failures(ctx, "questions", [known, *graded.values()])
        facts["judge"] = _judged(model_that_sees, errors, graded, known)
        for k, own in marks.items():
            facts["judge"]["levels"][str(k)] |= _powered(own, graded[k].marked, labelled)
    return facts


@step(version="2", makes="table")
def examine_artist(
    ctx: StepContext,
    *,
    artist: str,
    judge: str,
    ks: Sequence[int],
    count: int,
    seed: int,
    writer: str = "",
    size: str = "",
    rounds: int = 1,
    calibration: int = 60,
) -> dict[str, Any]:
    """ConceptMix of a drawing endpoint, with the paper's concepts, graded by a model that sees.

    Prompts that were not drawn and questions that were not answered are named; the step is then unfinished,
    and the next attempt asks for these alone.

    Args:
        artist, judge: endpoints as http://host/v1#name.
        writer: a model that writes prompts and questions as the paper has it; empty: a rule does.
        size: of the pictures, such as "512x512"; empty leaves it to the endpoint.

    Facts: `artist`, `levels`, `shown`, `judge` as of `examine_painter`, `rejected` {k: share of plans}.

    Raises:
        HornbookError: the endpoint drew nothing, or the judge answered nothing.
    """
    marks: dict[int, tuple[Marked, ...]] = {}
    graded: dict[int, Grading] = {}
    shown: list[dict[str, Any]] = []
    rejected, missing = {}, []
    with CallStore(ctx.folder / "calls.sqlite") as store:
        drawer = ImageEndpoint.from_spec(artist, store=store, settings=PATIENCE, size=size)
        seer = open_judge(judge, store, seed)
        author = open_writer(writer, store) if writer else None
        progress = ctx.progress(count * len(ks), "pictures")
        for k in ks:
            if author is None:
                drawn = draw_plans(k, count, PAPER, seed=seed)
                rejected[k] = drawn.rejection_rate
                prompts = [by_rule(plan, PAPER) for plan in drawn.plans]
            else:
                written = write_prompts(author, k, count, PAPER, seed=seed)
                rejected[k] = written.rejected / (written.rejected + count)
                prompts = list(written.prompts)
                missing += [f"k = {k}, {why}" for why in written.missing]
            made = drawer.draw([prompt.caption for prompt in prompts], progress=progress)
            own, files = [], []
            for prompt, picture in zip(prompts, made, strict=True):
                if isinstance(picture, Failure):
                    missing.append(f"{prompt.caption} ({picture.kind}: {picture.message})")
                else:
                    own.append(prompt)
                    files.append(picture)
            if own:
                graded[k] = grade(seer, own, files, rounds=rounds)
                marks[k] = graded[k].marked
                shown += _keep(ctx.folder, own, marks[k], files)
        if not marks:
            raise HornbookError(f"{drawer.identity} drew none of {count * len(ks)} pictures: {missing[0]}.")
        errors, known = calibrate(seer, ks=ks, count=calibration, rounds=rounds, seed=seed)
    answered = {k: own for k, own in marks.items() if any(set(mark.answers) - {None} for mark in own)}
    if not answered:
        why = next((why for one in graded.values() for why in one.failed.values()), "nothing could be read")
        raise HornbookError(f"The judge {seer.identity} answered no question about the pictures: {why}.")
    if missing:
        ctx.unfinished(
            f"{len(missing)} of {count * len(ks)} pictures were not drawn: {'; '.join(missing[:5])}"
        )
    _tell_failures(ctx, "questions", [known, *graded.values()])
    return {
        "artist": drawer.identity,
        "levels": [_level(score(own)) for own in answered.values()],
        "shown": shown,
        "rejected": rejected,
        "judge": _judged(seer, errors, {k: graded[k] for k in answered}, known),
    }


def open_judge(spec: str, store: CallStore, seed: int) -> LanguageModel:
    """A model that sees: `program:SENSITIVITY:SPECIFICITY`, or an endpoint whose answers `store` keeps.

    Raises:
        HornbookError: rates that are no probabilities, or a model that is asked in text alone.
    """
    if spec.startswith(PROGRAM):
        try:
            sensitivity, specificity = (float(part) for part in spec.removeprefix(PROGRAM).split(":"))
        except ValueError:
            sensitivity = specificity = -1.0
        if not (0 <= sensitivity <= 1 and 0 <= specificity <= 1):
            raise HornbookError(
                f"The judge {spec!r} is no program: write program:0.9:0.95, two probabilities."
            )
        return seeing_program(sensitivity=sensitivity, specificity=specificity, seed=seed)
    if spec.startswith(("http://", "https://")):
        return EndpointModel.from_spec(spec, store=store, settings=PATIENCE)
    model = open_model(spec)
    require(model, "sees_pictures", role="judge")
    return model


def open_writer(spec: str, store: CallStore) -> LanguageModel:
    """Any model that writes; an endpoint's answers are kept in `store`."""
    if spec.startswith(("http://", "https://")):
        return EndpointModel.from_spec(spec, store=store, settings=PATIENCE)
    return open_model(spec)


def _keep(
    folder: Path, prompts: Sequence[Prompt], marks: Sequence[Marked], files: Sequence[bytes]
) -> list[dict[str, Any]]:
    """Writes the first pictures of a k; what stands beside them in a report."""
    kept = []
    for number, (prompt, mark, data) in enumerate(zip(prompts, marks, files[:_SHOWN], strict=False)):
        k = prompt.plan.k
        name = f"pictures/k{k}-{number}"
        (folder / "pictures").mkdir(exist_ok=True)
        write_atomic(folder / name, data)
        kept.append(
            {
                "k": k,
                "file": name,
                "caption": prompt.caption,
                "properties": [f"{asked.category} {asked.value}" for asked in mark.plan.properties],
                "questions": list(prompt.questions),
                "answers": list(mark.answers),
            }
        )
    return kept


def _tell_failures(ctx: StepContext, what: str, gradings: Sequence[Grading]) -> None:
    failed = {name: why for grading in gradings for name, why in grading.failed.items()}
    if failed:
        asked = sum(len(grading.judged) for grading in gradings)
        first = "; ".join(f"{name}: {why}" for name, why in list(failed.items())[:3])
        ctx.unfinished(f"{len(failed)} of {asked} {what} were not answered by the judge: {first}")


def _level(found: ConceptMixScore) -> dict[str, Any]:
    return {
        "k": found.k,
        "pictures": found.pictures,
        "full": found.full.value,
        "full_counts": [found.full.hits, found.full.trials],
        "full_interval": list(found.full.interval),
        "fraction": found.fraction,
        "fraction_interval": list(found.fraction_interval),
        "categories": {c: [rate.hits, rate.trials] for c, rate in found.categories.items()},
        "expected": found.expected,
        "undecided": found.undecided,
        "unanswered": found.unanswered,
    }


def _judged(
    model: LanguageModel, errors: JudgeErrors, graded: Mapping[int, Grading], known: Grading
) -> dict[str, Any]:
    """A judge's facts: `identity`; `categories` {category: [sensitivity, specificity] as [hits, trials]};
    `columns` on pictures of known truth; `levels` {k: full marks as seen, and as corrected}."""
    columns = known.columns
    levels: dict[str, Any] = {}
    for k, grading in graded.items():
        nothing = {"corrected": None, "corrected_interval": None}
        if all(answer is None for mark in grading.marked for answer in mark.answers):
            levels[str(k)] = {"k": k, "full": None, "full_interval": [0.0, 1.0], **nothing}
            continue
        seen = score(grading.marked)
        levels[str(k)] = _level(seen) | nothing
        full = errors.full.get(k)
        if full is not None and full.sensitivity.trials and full.specificity.trials and seen.full.trials:
            levels[str(k)] |= _put_right("corrected", correct(seen.full, full))
    return {
        "identity": model.identity,
        "categories": {c: _rates(calibration) for c, calibration in errors.categories.items()},
        "full": {str(k): _rates(calibration) for k, calibration in errors.full.items()},
        "columns": {
            "unscored": columns.unscored,
            "verdicts": columns.verdicts,
            "agreement": columns.agreement.value,
            "kappa": columns.kappa,
            "position": columns.position.value,
            "self_consistency": columns.self_consistency,
        },
        "levels": levels,
    }


def _rates(found: Calibration) -> list[list[int]]:
    return [[rate.hits, rate.trials] for rate in (found.sensitivity, found.specificity)]


def _put_right(name: str, found: Corrected) -> dict[str, Any]:
    return {name: found.value, f"{name}_interval": list(found.interval)}


def _powered(truth: Sequence[Marked], seen: Sequence[Marked], labelled: int) -> dict[str, Any]:
    """The prediction-powered full marks from the truth of the first `labelled` pictures; None where the judge
    decided fewer than two of these."""
    pairs = [(t.full, s.full) for t, s in zip(truth, seen, strict=True) if s.full is not None]
    known = [(bool(t), bool(s)) for t, s in pairs[:labelled]]
    if len(known) < 2:
        return {"labelled": len(known), "powered": None, "powered_interval": None}
    found = prediction_powered(known, [bool(s) for _, s in pairs[labelled:]])
    return {"labelled": len(known)} | _put_right("powered", found)
