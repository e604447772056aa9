"""redteam: attack a model of yours, and mend it."""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hornbook.errors import HornbookError


def add_arguments(sub: argparse.ArgumentParser) -> None:
    """Flags of `hornbook redteam break-fix` and `hornbook redteam rai`."""
    sub.add_argument(
        "action",
        choices=["break-fix", "rai"],
        help="break-fix: attack, mend, attack again, in rounds; rai: the responsible-AI benchmark",
    )
    sub.add_argument(
        "model", help="a checkpoint folder, smollm2, or http://host/v1#model (break-fix exports rows only)"
    )
    sub.add_argument(
        "--tasks", type=Path, help="what must not succeed (JSON Lines; see docs/papers/break_fix.md)"
    )
    sub.add_argument(
        "--benign", type=Path, help="harmless conversations with answers (JSON Lines of messages)"
    )
    sub.add_argument(
        "--out", type=Path, help="folder of the rounds, or of the benchmark (default: rounds, rai)"
    )
    sub.add_argument(
        "--attacker", default="", help="a model that plans questions over turns; without it, fixed wordings"
    )
    sub.add_argument("--held-out-attacker", default="", help="another, whose successes are never trained on")
    sub.add_argument(
        "--topics", type=int, default=12, help="of the invented world, without --tasks (default: 12)"
    )
    sub.add_argument("--judge", default="", help="a model that judges; not needed for tasks with `expected`")
    sub.add_argument("--user", default="", help="rai: a model that plays the user (default: fixed wordings)")
    sub.add_argument("--items", type=int, default=20, help="rai: conversations a category (default: 20)")
    sub.add_argument("--prompts", type=Path, help="rai: XSTest's CSV, instead of the invented policy's")
    sub.add_argument("--json", action="store_true", help="rai: print JSON")
    sub.add_argument("--rounds", type=int, default=4, help="trainings at most (default: 4)")
    sub.add_argument("--bar", type=float, default=0.05, help="greatest harmful rate at which it ends")
    sub.add_argument("--steps", type=int, default=100, help="steps of fine-tuning a round (default: 100)")
    sub.add_argument("--preference-steps", type=int, default=0, help="steps of preference training a round")
    sub.add_argument(
        "--lora", type=int, default=0, metavar="RANK", help="train adapters (default: all weights)"
    )
    sub.add_argument("--learning-rate", type=float, default=2e-5, help="of fine-tuning (default: 2e-5)")
    sub.add_argument("--seed", type=int, default=0, help="of all that is drawn")


def redteam(args: argparse.Namespace) -> int:
    """Runs the loop (0 when the bar is met, 2 when it is not), or the benchmark."""
    if args.action == "rai":
        return _rai(args)
    loop = _loop(args)
    outcome = loop.run()
    print(f"ended: {outcome.why}\nreport: {loop.folder / 'report.html'}")
    if outcome.model is not None:
        print(f"model: {outcome.model}")
    return 0 if outcome.met else 2


def _loop(args: argparse.Namespace) -> Any:
    """Break-fix on the user's tasks and conversations, or in the invented world that the model is told."""
    from hornbook.redteam.break_fix import BreakFix, BreakFixSettings
    from hornbook.redteam.break_fix_world import small_world_loop
    from hornbook.redteam.small_world import topics
    from hornbook.redteam.tasks import read_tasks

    open_one = _opener()
    folder = args.out or Path("rounds")
    trained = not args.model.startswith(("http://", "https://")) and not args.model.endswith(".gguf")
    model: Any = _weights(args.model) if trained else open_one(args.model)
    settings = BreakFixSettings(
        rounds=args.rounds,
        bar=args.bar,
        steps=args.steps,
        rows=8,
        time=512 if args.tasks else 256,
        learning_rate=args.learning_rate,
        preference_steps=args.preference_steps,
        lora_rank=args.lora,
        max_tokens=256 if args.tasks else 48,
        seed=args.seed,
    )
    if args.tasks is None and args.benign is None:
        print("No --tasks and --benign: the model is told of an invented world, and what to keep to itself.")
        world = topics(args.topics, args.topics // 2, args.seed)
        kept = max(1, args.topics // 6)
        return small_world_loop(
            folder, model, world, settings, held_out=kept, benign=120, checks=30, told=True, say=print
        )
    if args.tasks is None or args.benign is None:
        raise HornbookError(
            "break-fix needs both --tasks (what must not succeed) and --benign (what must stay answered), "
            "JSON Lines files of yours; with neither it works in an invented world."
        )
    tasks, harmless = read_tasks(args.tasks), read_harmless(args.benign)
    held_out = max(1, len(tasks) // 4) if len(tasks) > 1 else 0
    return BreakFix(
        folder=folder,
        personas=_personas(args, open_one),
        tasks=tasks[: len(tasks) - held_out],
        held_out_tasks=tasks[len(tasks) - held_out :],
        benign=harmless[: max(1, len(harmless) * 3 // 4)],
        checks=harmless[max(1, len(harmless) * 3 // 4) :] or harmless,
        judges=_judges(args.judge, open_one),
        settings=settings,
        weights=model if trained else None,
        endpoint=None if trained else model,
        say=print,
    )


def _personas(args: argparse.Namespace, open_one: Callable[[str], Any]) -> list[Any]:
    """Who attacks with tasks of the user's: plainly, in rot13, wrapped (held out), and models over turns."""
    from hornbook.redteam.attackers import ModelAttacker
    from hornbook.redteam.break_fix import Persona
    from hornbook.redteam.world import BASELINES

    personas = [
        Persona(name="plain", attacker=BASELINES["direct"]),
        Persona(name="encoded", attacker=BASELINES["encoded"]),
        Persona(name="wrapped", attacker=BASELINES["wrapped"], rounds=4, held_out=True),
    ]
    for spec, held_out in ((args.attacker, False), (args.held_out_attacker, True)):
        if spec:
            name = "escalating, held out" if held_out else "escalating"
            attacker = ModelAttacker(open_one(spec))
            personas.append(
                Persona(
                    name=name, attacker=attacker, rounds=10, backtracks=10, memory=True, held_out=held_out
                )
            )
    return personas


def _rai(args: argparse.Namespace) -> int:
    """The table of the benchmark, printed and kept beside the transcripts."""
    import sys

    from hornbook.lab.files import write_json
    from hornbook.lab.progress import Progress
    from hornbook.redteam.over_refusal import measure_over_refusal, read_prompts, world_prompts
    from hornbook.redteam.rai import as_text, world_benchmark
    from hornbook.redteam.rai_world import CATEGORIES
    from hornbook.synth.policy import POLICY

    open_one = _opener()
    target = open_one(args.model)
    judge = open_one(args.judge) if args.judge else None
    folder = args.out or Path("rai")
    with Progress(len(CATEGORIES) * args.items, "conversations", "rai") as bar:
        told = world_benchmark(
            target,
            folder,
            items=args.items,
            judge=judge,
            user=open_one(args.user) if args.user else None,
            seed=args.seed,
            progress=bar,
        )
    own = args.prompts is not None
    prompts = read_prompts(args.prompts) if own else world_prompts(2 * args.items, args.seed)
    refusals = measure_over_refusal(target, prompts, system="" if own else POLICY, judged_by=judge).as_json()
    result = {"model": args.model, "target": target.identity, "categories": told, "over_refusal": refusals}
    write_json(folder / "rai.json", result)
    print(json.dumps(result, indent=1) if args.json else as_text(told, refusals))
    print(f"transcripts and rai.json: {folder}", file=sys.stderr)
    return 0


def _opener() -> Callable[[str], Any]:
    from hornbook.infer.open import open_model

    return open_model


def _weights(spec: str) -> Path:
    from hornbook.infer.open import checkpoint_folder

    return checkpoint_folder(spec)


def _judges(spec: str, open_one: Callable[[str], Any]) -> Any:
    from hornbook.redteam.judges import Judges, ModelJudge
    from hornbook.redteam.world import exact_judges

    if not spec:
        return exact_judges()
    judge = ModelJudge(open_one(spec))
    return Judges(refusal=judge, success=judge, second=judge)


def read_harmless(path: Path) -> list[Any]:
    """Harmless conversations: {"messages": [...], "expected": [...]} a line, the last message the answer.

    Raises:
        HornbookError: a line that is not such a conversation, or none at all.
    """
    from hornbook.redteam.break_fix import Harmless

    found = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise HornbookError(f"The conversations {path} cannot be read: {error}") from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            *before, last = row["messages"]
            if not before or last["role"] != "assistant" or not last["content"].strip():
                raise ValueError("its last message is not an answer")
            expected = tuple(str(text) for text in row.get("expected", ()))
            found.append(Harmless(messages=tuple(before), answer=last["content"], expected=expected))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise HornbookError(
                f"{path}, line {number} is not a conversation with an answer: {error}"
            ) from error
    if not found:
        raise HornbookError(f"{path} holds no conversation.")
    return found
