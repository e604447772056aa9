"""write: any writer from one command, its cost shown first; and what a run may spend."""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hornbook.errors import HornbookError

if TYPE_CHECKING:
    from hornbook.lm.ledger import Ledger

TEACHER_HELP = (
    "who writes: simulated (planned, checked, free), embedded (SmolLM2-135M, for stories and talk), a "
    "checkpoint "
    "folder, a .gguf, or http://host/v1#model (default: simulated where the writer has it, else embedded)"
)

_REASONS = 8


def add_budget(sub: argparse.ArgumentParser) -> None:
    """The flags that bound what models behind endpoints may cost."""
    sub.add_argument(
        "--price",
        action="append",
        default=[],
        metavar="IN/OUT",
        help="money per million tokens in and out, such as 0.15/0.60, or MODEL=IN/OUT for one of several",
    )
    sub.add_argument("--budget-usd", type=float, metavar="MONEY", help="stop before more than this is spent")
    sub.add_argument("--budget-tokens", type=int, metavar="TOKENS", help="stop before more tokens are used")


def ledger_of(args: argparse.Namespace) -> "Ledger":
    """The ledger that the budget's flags describe."""
    from hornbook.lm.ledger import Ledger, read_price

    prices = {name: price for text in args.price for name, price in read_price(text).items()}
    if args.budget_usd is not None and not any(price.known for price in prices.values()):
        raise HornbookError(
            "--budget-usd needs to know what a call costs: --price IN/OUT, per million tokens."
        )
    return Ledger(prices, budget=args.budget_usd, budget_tokens=args.budget_tokens)


def add_arguments(sub: argparse.ArgumentParser) -> None:
    """Of `hornbook write`."""
    sub.add_argument("writer", nargs="?", help="what to write (default: list the writers)")
    sub.add_argument("--rows", type=int, default=1000, help="texts to ask for (default: 1000)")
    sub.add_argument("--teacher", default="", help=TEACHER_HELP)
    sub.add_argument("--judge", default="", help="a model that grades every row; rows with a low grade go")
    sub.add_argument("--seed", type=int, default=0, help="another seed draws other plans (default: 0)")
    sub.add_argument("--preview", action="store_true", help="ten rows and the cost of all, then stop")
    sub.add_argument("--yes", action="store_true", help="do not ask after the preview")
    sub.add_argument(
        "--source", default="python", help="organic text for seeds, as for recipes (default: python)"
    )
    sub.add_argument(
        "--seeds", type=Path, metavar="CORPUS", help="passages to write from, instead of --source"
    )
    sub.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an option of the writer, such as k=2",
    )
    add_budget(sub)


def write(args: argparse.Namespace) -> int:
    """Lists writers, or writes: preview, question, corpus."""
    from hornbook.synth.writers import WRITERS, writer

    if args.writer is None:
        for one in WRITERS.values():
            teacher = "" if one.simulated else " (needs a model)" if one.model else ""
            print(f"{one.name:15} {one.summary}{teacher}\n{'':15} after {one.paper}{_options(one.options)}")
        return 0
    from hornbook.lab.run import Run
    from hornbook.synth.session import Session, read_options
    from hornbook.synth.teaching import PREVIEW

    chosen = writer(args.writer)
    ledger = ledger_of(args)
    settings = {"writer": chosen.name, "rows": args.rows, "teacher": args.teacher, "seed": args.seed}
    session = Session(
        run=Run(args.home, recipe=f"write-{chosen.name}", scale=f"{args.rows}-rows", settings=settings),
        writer=chosen,
        rows=args.rows,
        seed=args.seed,
        teacher=args.teacher,
        source=args.source,
        seeds=args.seeds,
        prices=ledger.prices,
        budget=args.budget_usd,
        budget_tokens=args.budget_tokens,
        judge=args.judge,
        options=read_options(args.set),
    )
    if args.preview or session.calls_a_model:
        preview = session.preview()
        for row in preview.rows:
            _print_row(row)
        _print_removed(preview.removed)
        for line in session.variety.sentences:
            print(f"  {line}")
        print(f"\n{args.rows:,} rows: {preview.cost or 'written here, without a model; no call, no money'}")
        if args.preview:
            return 0
        if not preview.rows:
            raise HornbookError(
                "None of the first rows passed the checks; name another teacher, or look at why above."
            )
        if args.rows > PREVIEW and not args.yes and not _asked():
            return 1
    made = session.write()
    session.run.finish()
    facts = made.facts
    words = f", {facts['words']:,} words" if "words" in facts else ""
    print(f"{facts['rows']:,} rows{words}: {made.path}")
    _print_removed(facts["removed"])
    if facts["removed"] and (made.path / "removed.jsonl").is_file():
        print(f"  every one of them with its reason: {made.path / 'removed.jsonl'}")
    for line in session.variety.sentences:
        print(f"  {line}")
    for model, account in session.ledger.as_json().items():
        print(
            f"  {model}: {account['paid_calls']:,} calls paid now, {account['cached_calls']:,} from before, "
            f"{account['money']:,.4f} in money"
        )
    print(f"Look at them:  hornbook data show {made.path}")
    return 0


def _options(options: dict[str, Any]) -> str:
    return f"; --set {', '.join(options)}" if options else ""


def _print_removed(removed: Mapping[str, int]) -> None:
    from hornbook.synth.variety import grouped

    reasons = grouped(removed)
    for reason, count in reasons[:_REASONS]:
        print(f"  removed {count:,}: {reason}")
    if rest := sum(count for _, count in reasons[_REASONS:]):
        print(f"  removed {rest:,} for {len(reasons) - _REASONS} other reasons")


def _asked() -> bool:
    if not sys.stdin.isatty():
        print("hornbook: nobody is here to ask; say --yes to go on after the preview.", file=sys.stderr)
        return False
    return input("Go on? [y/N] ").strip().lower() in ("y", "yes")


def _print_row(row: dict[str, Any]) -> None:
    from hornbook.cli.corpora import print_row

    print_row(row)
