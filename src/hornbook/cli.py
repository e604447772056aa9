"""Every command of `hornbook`, thin: parse, call the floor that does the work, print.

Nothing heavy is imported before a command is chosen, so that `hornbook --help`
answers at once.
"""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hornbook import __version__
from hornbook.errors import HornbookError

if TYPE_CHECKING:
    from hornbook.lab.claim import Claim
    from hornbook.papers.registry import Recipe

_EPILOG = """\
first steps:
  hornbook run phi --scale quick      raise a small model from nothing (about ten minutes)
  hornbook chat                       talk to the newest model
  hornbook papers                     the recipes, their claims, what was last measured
"""


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point of the `hornbook` command; exits with 0, 1 (an error said in words) or 130 (stopped)."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = _parser()
    known, rest = parser.parse_known_args(arguments)
    if rest and known.command != "run":
        parser.error(f"unknown argument {rest[0]!r} (see: hornbook {known.command} --help)")
    if known.command == "run":
        known.rest = rest
    try:
        sys.exit(known.handler(known) or 0)
    except HornbookError as error:
        print(f"hornbook: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("\nhornbook: stopped. The same command goes on from here.", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # the reader of our output went away: `hornbook papers | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="hornbook",
        description="Small language models, raised on textbooks.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"hornbook {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def command(name: str, handler: Callable[[argparse.Namespace], int | None], summary: str, **options: Any):
        sub = commands.add_parser(name, help=summary, description=summary, allow_abbrev=False, **options)
        sub.set_defaults(handler=handler)
        return sub

    def home(sub: argparse.ArgumentParser) -> None:
        sub.add_argument(
            "--home",
            type=Path,
            default=Path(os.environ.get("HORNBOOK_HOME", "runs")),
            help="folder that holds runs and steps (default: $HORNBOOK_HOME or ./runs)",
        )

    sub = command("run", _run, "Run a recipe: a paper's name, or a file of yours.", add_help=False)
    sub.add_argument("recipe", nargs="?", help="a name from `hornbook papers`, or a path: ./my_recipe.py")
    sub.add_argument("--scale", default="quick", help="smoke, quick, gpu or paper (default: quick)")
    sub.add_argument("--show", action="store_true", help="print the settings and the plan, and do nothing")
    sub.add_argument("-h", "--help", action="store_true", dest="wants_help", help="help, with every setting")
    home(sub)

    sub = command("papers", _papers, "The recipes, their claims, and what was last measured.")
    sub.add_argument("--json", action="store_true", help="print JSON")
    home(sub)

    sub = command("chat", _chat, "Talk to a model; the newest run's, if none is named.")
    sub.add_argument("model", nargs="?", help="a checkpoint folder, a .gguf, smollm2, or http://host/v1#name")
    sub.add_argument("--once", metavar="TEXT", help="answer this and stop")
    sub.add_argument("--system", metavar="TEXT", help="a system message to begin with")
    sub.add_argument("--temperature", type=float, default=0.7, help="0 = always the likeliest (default 0.7)")
    sub.add_argument("--max-tokens", type=int, default=200, help="longest answer, in tokens (default 200)")
    sub.add_argument("--seed", type=int, default=None, help="the same seed gives the same answer")
    home(sub)

    sub = command("data", _data, "Look at corpora: ls, show, stats, diff.")
    sub.add_argument("action", choices=["ls", "show", "stats", "diff"])
    sub.add_argument("paths", nargs="*", type=Path, help="corpus folders (ls: a folder to look below)")
    sub.add_argument("--rows", type=int, default=5, help="rows to show (default 5)")
    sub.add_argument("--search", metavar="TEXT", help="show: only rows that contain this text")
    sub.add_argument("--id", help="show: the row with this id")
    sub.add_argument("--json", action="store_true", help="print JSON")
    home(sub)

    sub = command("eval", _eval, "Measure a model on the held-out tasks.")
    sub.add_argument("model", nargs="?", help="a model (default: the newest run's)")
    sub.add_argument("--tasks", default="all", help="comma-separated, or all (see --list)")
    sub.add_argument("--list", action="store_true", help="list the tasks")
    sub.add_argument("--items", type=int, default=100, help="items per task (default 100)")
    sub.add_argument("--seed", type=int, default=0, help="which items are drawn")
    sub.add_argument("--json", action="store_true", help="print JSON")
    home(sub)

    sub = command("export", _export, "Write a model as a Hugging Face folder or GGUF.")
    sub.add_argument("model", nargs="?", type=Path, help="a checkpoint folder (default: the newest run's)")
    sub.add_argument(
        "--to", default="q4_0", help="hf, f32, f16, bf16, q8_0, q4_0 or q4_1; several with commas"
    )
    sub.add_argument("--out", type=Path, default=Path("export"), help="folder to write to (default: export)")
    home(sub)

    sub = command("report", _report, "Where the report of a run is.")
    sub.add_argument("recipe", nargs="?", help="of which recipe (default: the newest run)")
    sub.add_argument("--open", action="store_true", help="open it in the browser")
    home(sub)

    sub = command("doctor", _doctor, "What this machine is and what works on it.")
    sub.add_argument("--json", action="store_true", help="print JSON")
    sub.add_argument("--quick", action="store_true", help="skip what takes seconds to measure")
    home(sub)

    sub = command("new", _new, "Write a recipe of your own to start from.")
    sub.add_argument("path", nargs="?", type=Path, default=Path("my_recipe.py"))
    return parser


def _run(args: argparse.Namespace) -> int:
    from hornbook.papers import registry

    if args.recipe is None:
        if args.wants_help:
            print(_RUN_HELP)
            return 0
        raise HornbookError(
            f"name a recipe: {', '.join(registry.names())}, or a path. For example: hornbook run phi"
        )
    recipe = registry.find(args.recipe)
    default = recipe.settings(args.scale)
    if args.wants_help:
        print(_RUN_HELP)
    settings = _settings(recipe, default, [*args.rest, *(["--help"] if args.wants_help else [])])
    from hornbook.lab.run import Run

    if args.show:
        _show(recipe, settings, args)
        return 0
    run = Run(args.home, recipe=recipe.name, scale=args.scale, settings=settings)
    print(f"{recipe.title}  ({recipe.paper})\nscale {args.scale}, into {run.folder}")
    recipe.run(run, settings)
    report = run.finish()
    for claim in run.claims:
        print(_claim_line(claim))
    print(f"\nreport:  {report}\nchat:    hornbook chat")
    return 0


_RUN_HELP = """\
usage: hornbook run RECIPE [--scale smoke|quick|gpu|paper] [--show] [--home FOLDER] [--SETTING VALUE ...]

Run a recipe: a name from `hornbook papers`, or a file of yours (./my_recipe.py).
--show prints the resolved settings and the plan (time, memory, disk) and does nothing.
Any setting of the recipe is a flag; `hornbook run RECIPE --help` lists them.
"""


def _settings(recipe: "Recipe", default: Any, flags: list[str]) -> Any:
    if not flags:
        return default
    import tyro

    return tyro.cli(type(default), default=default, args=flags, prog=f"hornbook run {recipe.name}")


def _show(recipe: "Recipe", settings: Any, args: argparse.Namespace) -> None:
    import dataclasses

    from hornbook.lab.run import Run

    print(f"{recipe.title}  ({recipe.paper})\n\nsettings at scale {args.scale}:")
    for field in dataclasses.fields(settings):
        print(f"  --{field.name.replace('_', '-'):28} {getattr(settings, field.name)}")
    run = Run(args.home, recipe=recipe.name, scale=args.scale, settings=settings, planning=True)
    print("\n" + str(run.plan(recipe.run, settings)))


def _claim_line(claim: "Claim") -> str:
    """One claim on one line: verdict, measurement, sentence."""
    measured = ""
    if claim.measured is not None:
        measured = f" {claim.measured:.4g}{' ' + claim.unit if claim.unit else ''}"
        if claim.interval is not None:
            measured += f" [{claim.interval[0]:.4g}, {claim.interval[1]:.4g}]"
    return f"  {claim.verdict:>24}{measured}  {claim.sentence}"


def _papers(args: argparse.Namespace) -> None:
    import json

    from hornbook.lab.history import latest_claims
    from hornbook.papers import registry

    recipes = [registry.find(name) for name in registry.names()]
    measured = latest_claims(args.home)
    if args.json:
        rows = [
            {
                "recipe": r.name,
                "title": r.title,
                "paper": r.paper,
                "scales": list(r.scales),
                "claims": [c.to_json() for c in measured.get(r.name, [])],
            }
            for r in recipes
        ]
        print(json.dumps(rows, indent=2))
        return
    for recipe in recipes:
        print(f"{recipe.name:16} {recipe.title}\n{'':16} {recipe.paper}; scales: {', '.join(recipe.scales)}")
        for claim in measured.get(recipe.name, []):
            print(_claim_line(claim))
        if not measured.get(recipe.name):
            print(f"{'':18}not run here yet: hornbook run {recipe.name}")


def _chat(args: argparse.Namespace) -> int:
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


def _data(args: argparse.Namespace) -> None:
    from hornbook.data import inspect

    if args.action == "diff":
        if len(args.paths) != 2:
            raise HornbookError("`hornbook data diff` takes two corpus folders")
        result: Any = inspect.diff(*args.paths)
    elif args.action == "ls":
        result = inspect.ls(args.paths[0] if args.paths else args.home)
    else:
        if len(args.paths) != 1:
            raise HornbookError(
                f"`hornbook data {args.action}` takes one corpus folder (see: hornbook data ls)"
            )
        if args.action == "stats":
            result = inspect.stats(args.paths[0])
        else:
            result = inspect.show(args.paths[0], rows=args.rows, search=args.search, id=args.id)
    print(inspect.as_json(result) if args.json else inspect.as_text(result))


def _eval(args: argparse.Namespace) -> int:
    from hornbook.evals import suite

    if args.list:
        print(suite.describe())
        return 0
    results = suite.evaluate(_model_spec(args), tasks=args.tasks, items=args.items, seed=args.seed)
    print(suite.as_json(results) if args.json else suite.as_text(results))
    return 1 if any(result.unfinished for result in results) else 0


def _export(args: argparse.Namespace) -> None:
    from hornbook.serve.export import export_model

    for path in export_model(Path(_model_spec(args)), args.out, kinds=tuple(args.to.split(","))):
        print(path)


def _report(args: argparse.Namespace) -> None:
    from hornbook.lab.history import latest_run

    run = latest_run(args.home, args.recipe)
    if run is None:
        raise HornbookError(f"no finished run was found below {args.home}; make one with `hornbook run phi`")
    report = run.report.resolve()
    print(report)
    if args.open:
        import webbrowser

        webbrowser.open(report.as_uri())


def _doctor(args: argparse.Namespace) -> int:
    from hornbook.serve import doctor

    return doctor.run(as_json=args.json, quick=args.quick)


def _new(args: argparse.Namespace) -> None:
    import importlib.resources

    from hornbook.lab.files import write_atomic

    if args.path.exists():
        raise HornbookError(f"{args.path} exists already; name another file")
    template = importlib.resources.files("hornbook.papers").joinpath("template.py").read_text()
    write_atomic(args.path, template)
    print(f"wrote {args.path}\nrun it:  hornbook run ./{args.path} --scale smoke")
