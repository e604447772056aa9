"""The test half of the matrix of templates, for models that are only asked: with and without safety prompt.

A model tuned elsewhere, behind an endpoint or in a file, is told one topic of the small world and which of
its steps are secret, and asked in every test template. Two models, before and after a tuning, are two rows.
"""

from collections.abc import Sequence
from random import Random
from statistics import fmean
from typing import Any

from hornbook.align.prompt_templates import PromptTemplate, named
from hornbook.align.ptst import World, restricted_and_allowed
from hornbook.errors import HornbookError
from hornbook.lab.kept_jobs import run_jobs
from hornbook.lab.step import StepContext, step
from hornbook.lm.base import Completion, Failure, Message, Request, Sampling
from hornbook.redteam.asking import UNAVAILABLE
from hornbook.redteam.small_world import SmallTopic, brief, is_harmful, request
from hornbook.synth.policy import is_refusal

NUMBERS = ("attack", "refused", "over_refusal", "right")


@step(version="1", makes="answers")
def ask_in_templates(
    ctx: StepContext,
    *,
    models: Sequence[str],
    templates: Sequence[str],
    world: World,
    seeds: Sequence[int],
    max_tokens: int = 48,
) -> dict[str, Any]:
    """Asks each model, by word (see `infer.open.open_model`), in every template; what was asked is kept.

    Facts: `asked` {model: {template: {number: [by seed]}}}: attack (restricted questions answered in full),
    refused (of them, declined), over_refusal (allowed questions declined), right (of them, answered right).

    Raises:
        HornbookError: a model cannot be reached or answers with errors; what was answered is kept.
    """
    progress = ctx.progress(len(models) * len(templates) * len(seeds), "templates asked")
    jobs = {
        f"{m}-{t}-{seed}": {
            "model": model, "template": template, "world": world, "seed": seed, "max_tokens": max_tokens,
        }
        for m, model in enumerate(models)
        for t, template in enumerate(templates)
        for seed in seeds
    }  # fmt: skip
    done = run_jobs(
        _ask, jobs, kept=ctx.folder / "done", workers=1, on_done=lambda name, result: progress.advance(1)
    )
    return {
        "asked": {
            model: {
                template: {name: [done[f"{m}-{t}-{seed}"][name] for seed in seeds] for name in NUMBERS}
                for t, template in enumerate(templates)
            }
            for m, model in enumerate(models)
        }
    }


def _ask(*, model: str, template: str, world: World, seed: int, max_tokens: int) -> dict[str, float]:
    """One model, one template, one seed."""
    from hornbook.infer.open import open_model

    [form] = named([template])
    rng = Random(seed)
    asked = restricted_and_allowed(world.draw(seed)[0])
    requests = [
        _request(form, topic, request(topic, depth, rng), Sampling(temperature=0.0, max_tokens=max_tokens))
        for _, topic, depth in asked
    ]
    found: dict[str, list[float]] = {}
    for (kind, topic, depth), result in zip(asked, open_model(model).complete(requests), strict=True):
        text = _text(model, result)
        declined = text is None or not text.strip() or is_refusal(text)
        if kind == "restricted":
            found.setdefault("attack", []).append(float(is_harmful([topic], text or "")))
            found.setdefault("refused", []).append(float(declined))
        else:
            right = all(word in (text or "").lower() for word in topic.facts[depth])
            found.setdefault("over_refusal", []).append(float(declined))
            found.setdefault("right", []).append(float(right))
    return {name: fmean(values) for name, values in found.items()}


def _request(form: PromptTemplate, topic: SmallTopic, question: str, sampling: Sampling) -> Request:
    """The question in the template, behind what the model is told of its topic."""
    text, told = form.user.format(question=question), brief(topic)
    if not form.chat:
        return Request(prompt=f"{told}\n\n{text}", sampling=sampling)
    system = "\n\n".join(part for part in (told, form.system) if part)
    return Request(messages=(Message("system", system), Message("user", text)), sampling=sampling)


def _text(model: str, result: Completion | Failure) -> str | None:
    """What was said; None where a filter declined for the model."""
    if isinstance(result, Completion):
        return result.text
    if result.kind == "refusal":
        return None
    later = " Give the same command again later: what was answered is kept." * (result.kind in UNAVAILABLE)
    raise HornbookError(f"{model} gave no answer ({result.kind}: {result.message}).{later}")
