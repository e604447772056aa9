"""chat, eval, export: one model at a time."""

import argparse
from pathlib import Path

from hornbook.errors import HornbookError


def chat(args: argparse.Namespace) -> int:
    """Talks to a model."""
    from hornbook.serve.chat import chat_loop

    return chat_loop(
        _model_spec(args),
        once=args.once,
        system=args.system,
        temperature=args.temperature,
        max_tokens=args.max_tokens,
        seed=args.seed,
    )


def _model_spec(args: argparse.Namespace) -> str:
    """The model the user named, or the newest run's."""
    from hornbook.lab.history import finished_runs

    if args.model:
        return str(args.model)
    for run in finished_runs(args.home):
        if "model" in run.outputs:
            return str(run.outputs["model"])
    raise HornbookError(
        f"no finished model was found below {args.home}. Raise one with `hornbook run phi`, "
        "or name one: a checkpoint folder, a .gguf, smollm2, or http://host/v1#name"
    )


def evaluate(args: argparse.Namespace) -> int:
    """Measures a model."""
    from hornbook.evals import suite

    if args.list:
        print(suite.describe())
        return 0
    results = suite.evaluate(_model_spec(args), tasks=args.tasks, items=args.items, seed=args.seed)
    print(suite.as_json(results) if args.json else suite.as_text(results))
    return 1 if any(result.unfinished for result in results) else 0


def export(args: argparse.Namespace) -> None:
    """Writes a model in other formats."""
    from hornbook.serve.export import export_model

    for path in export_model(Path(_model_spec(args)), args.out, kinds=tuple(args.to.split(","))):
        print(path)
