"""Common-sense items for students too small to generate: which of two ends is likelier (phi-1.5, section
3)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hornbook.data.tokenizer import Tokenizer
from hornbook.evals.choices import Choice, choose
from hornbook.infer.engine import Engine
from hornbook.lab.step import StepContext, step
from hornbook.synth.commonsense import items


def commonsense_choices(count: int, seed: int) -> list[Choice]:
    """Items on pairs of thing and question that no text of `synth.commonsense` tells of."""
    return [Choice(kind=i.kind, prompt=i.prompt, right=i.right, wrong=i.wrong) for i in items(count, seed)]


@step(version="1", makes="table")
def examine_commonsense(
    ctx: StepContext, *, students: Mapping[str, Path], count: int, seed: int = 1
) -> dict[str, Any]:
    """Every student on the same `count` items.

    Facts: by student `kinds` {kind: accuracy}, `verdicts` (0 or 1 an item); and `samples`, the first items.
    """
    from hornbook.model.hf import load_checkpoint

    choices = commonsense_choices(count, seed)
    kinds = list(dict.fromkeys(choice.kind for choice in choices))
    progress = ctx.progress(len(students), "students")
    facts: dict[str, Any] = {}
    for name, folder in students.items():
        tokenizer = Tokenizer.load(folder)
        right = choose(Engine(load_checkpoint(folder), tokenizer), tokenizer, choices)
        of = {
            kind: [ok for ok, choice in zip(right, choices, strict=True) if choice.kind == kind]
            for kind in kinds
        }
        facts[name] = {
            "accuracy": sum(right) / len(right),
            "kinds": {kind: sum(oks) / len(oks) for kind, oks in of.items()},
            "verdicts": [int(ok) for ok in right],
        }
        progress.advance()
    facts["samples"] = [
        {"prompt": c.prompt, "right": c.right, "wrong": c.wrong, "kind": c.kind} for c in choices[:6]
    ]
    return facts
