"""run, papers, report, new: recipes and what they left."""

import argparse
import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hornbook.errors import HornbookError

if TYPE_CHECKING:
    from hornbook.lab.claim import Claim
    from hornbook.papers.registry import Recipe


def run(args: argparse.Namespace) -> int:
    """Runs a recipe, or shows what it would do."""
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
    from hornbook.cli.writing import ledger_of
    from hornbook.lab.run import Run
    from hornbook.lm.ledger import spending

    if args.show:
        _show(recipe, settings, args)
        return 0
    this = Run(args.home, recipe=recipe.name, scale=args.scale, settings=settings)
    print(f"{recipe.title}  ({recipe.paper})\nscale {args.scale}, into {this.folder}")
    with spending(ledger_of(args)) as ledger:
        recipe.run(this, settings)
    if ledger.accounts:
        this.report.section("What the calls cost").table(*ledger.table())
    this.finish()
    for claim in this.claims:
        print(_claim_line(claim))
    if "model" in this.outputs:
        elsewhere = f" --home {args.home}" if args.home != Path("runs") else ""
        print(f"Talk to it:  hornbook chat{elsewhere}\nMeasure it:  hornbook eval{elsewhere}")
    for sentence in this.unfinished:
        print(f"hornbook: unfinished: {sentence}", file=sys.stderr)
    return 1 if this.unfinished else 0


_RUN_HELP = """\
usage: hornbook run RECIPE [--scale smoke|quick|gpu|paper] [--show] [--home FOLDER] [--SETTING VALUE ...]

Run a recipe: a name from `hornbook papers`, or a file of yours (./my_recipe.py).
--show prints the resolved settings and the plan (time, memory, disk) and does nothing.
--price IN/OUT with --budget-usd MONEY, or --budget-tokens TOKENS: stop before endpoints cost more than that;
the same command with a larger budget goes on, and no answer is paid for twice.
Any setting of the recipe is a flag; `hornbook run RECIPE --help` lists them.
Models are named by role (--student, --target, --attacker, --judge...): a checkpoint folder, smollm2, and
where they are only asked also a .gguf or http://host/v1#name.
--parametrization NAME (standard, mup, depth_mup, completep) holds for every stage of training: learning rates
follow the model's width and depth.
"""


def _settings(recipe: "Recipe", default: Any, flags: list[str]) -> Any:
    if not flags:
        return default
    import tyro

    spread = _spread(default, flags)
    return tyro.cli(type(default), default=default, args=spread, prog=f"hornbook run {recipe.name}")


_SPREAD = ("parametrization", "base-width", "base-depth")


def _spread(default: Any, flags: list[str]) -> list[str]:
    """`--parametrization NAME` (and the base sizes), said once, for every stage of training that has it."""
    known = [name for name, _ in _flags(default)]
    out: list[str] = []
    rest = iter(flags)
    for flag in rest:
        name, equals, value = flag.removeprefix("--").partition("=")
        name = name.replace("_", "-")
        if not flag.startswith("--") or name not in _SPREAD or name in known:
            out.append(flag)
            continue
        places = [place for place in known if place.endswith(f".{name}")]
        if not places:
            raise HornbookError(f"--{name}: this recipe trains no model with the Trainer, so nothing has it.")
        given = [value] if equals else [next(rest, "")]
        for place in places:
            out += [f"--{place}", *given]
    return out


def _show(recipe: "Recipe", settings: Any, args: argparse.Namespace) -> None:
    from hornbook.lab.run import Run

    print(f"{recipe.title}  ({recipe.paper})\n\nsettings at scale {args.scale}:")
    for flag, value in _flags(settings):
        print(f"  --{flag:36} {value}")
    plan = Run(args.home, recipe=recipe.name, scale=args.scale, settings=settings, planning=True)
    print("\n" + plan.plan(recipe.run, settings).render())


def _flags(settings: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every setting as the flag that changes it, nested ones with dots, and its value."""
    for field in dataclasses.fields(settings):
        name, value = prefix + field.name.replace("_", "-"), getattr(settings, field.name)
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            yield from _flags(value, name + ".")
        else:
            yield name, value


def _claim_line(claim: "Claim") -> str:
    """One claim on one line: verdict, measurement, sentence."""
    measured = ""
    if claim.measured is not None:
        measured = f" {claim.measured:.4g}{' ' + claim.unit if claim.unit else ''}"
        if claim.interval is not None:
            measured += f" [{claim.interval[0]:.4g}, {claim.interval[1]:.4g}]"
    return f"  {claim.verdict:>24}{measured}  {claim.sentence}"


def papers(args: argparse.Namespace) -> None:
    """The table of recipes."""
    import json

    from hornbook.lab.history import latest_claims
    from hornbook.papers import registry

    recipes = registry.outlines()
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


def report(args: argparse.Namespace) -> None:
    """Prints where the newest report is, or what it holds as Markdown; or fills it into pages."""
    from hornbook.lab.history import latest_run

    if args.fill:
        from hornbook.lab.report_markdown import fill

        for page in args.fill:
            print(f"{page}: {', '.join(fill(page, args.home))}")
        return
    newest = latest_run(args.home, args.recipe, args.scale)
    if newest is None:
        which = f"no finished run of {args.recipe!r}" if args.recipe else "no finished run"
        which += f" at scale {args.scale!r}" if args.scale else ""
        name = args.recipe or "phi"
        raise HornbookError(f"{which} was found below {args.home}; make one with `hornbook run {name}`")
    if args.markdown:
        from hornbook.lab.report_markdown import run_markdown

        print(run_markdown(newest), end="")
        return
    path = newest.report.resolve()
    print(path)
    if args.open:
        import webbrowser

        webbrowser.open(path.as_uri())


def new(args: argparse.Namespace) -> None:
    """Writes the template of a recipe."""
    import importlib.resources

    from hornbook.lab.files import write_atomic

    if args.path.exists():
        raise HornbookError(f"{args.path} exists already; name another file")
    template = importlib.resources.files("hornbook.papers").joinpath("template.py").read_text()
    write_atomic(args.path, template)
    where = args.path if args.path.is_absolute() else f"./{args.path}"
    print(f"wrote {args.path}\nrun it:  hornbook run {where} --scale smoke")
