"""Every command of `hornbook`, thin: parse, call the floor that does the work, print.

Nothing heavy is imported before a command is chosen, so that `hornbook --help`
answers at once.
"""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hornbook import __version__
from hornbook.cli import corpora, curation, machine, models, recipes, skills
from hornbook.cli import plan as plans
from hornbook.cli import redteam as redteams
from hornbook.cli import studio as studios
from hornbook.cli import writing as writings
from hornbook.errors import HornbookError
from hornbook.lab.markup import printable

_EPILOG = """\
first steps:
  hornbook run phi --scale quick      raise a small model from nothing (about ten minutes)
  hornbook chat                       talk to the newest model
  hornbook studio                     the same, and more, in your browser
  hornbook papers                     the recipes, their claims, what was last measured
"""


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point of the `hornbook` command; exits with 0, 1 (an error said in words) or 130 (stopped)."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = _parser()
    if not arguments:
        parser.print_help()
        sys.exit(0)
    known, rest = parser.parse_known_args(arguments)
    if rest and known.command != "run":
        parser.error(f"unknown argument {rest[0]!r} (see: hornbook {known.command} --help)")
    if known.command == "run":
        known.rest = rest
    try:
        sys.exit(known.handler(known) or 0)
    except HornbookError as error:
        print(f"hornbook: {printable(str(error))}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("\nhornbook: stopped. The same command goes on from here.", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # the reader of our output went away: `hornbook papers | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as error:
        sentence = _the_machine_is_full(error, Path(getattr(known, "home", Path.cwd())))
        if sentence is None:
            raise
        print(f"hornbook: {sentence}", file=sys.stderr)
        sys.exit(1)


def _the_machine_is_full(error: Exception, home: Path) -> str | None:
    """What to say when memory or disk ran out in a command; None for any other error."""
    from hornbook.lab.files import disk_full_sentence, is_disk_full
    from hornbook.lab.memory import is_out_of_memory

    if is_out_of_memory(error):
        return "The memory is full. Close other programs, or choose smaller settings or a smaller model."
    if is_disk_full(error):
        assert isinstance(error, OSError)
        return disk_full_sentence(home, error)
    return None


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

    def command(
        name: str, handler: Callable[[argparse.Namespace], int | None], summary: str, **options: Any
    ) -> argparse.ArgumentParser:
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

    sub = command("run", recipes.run, "Run a recipe: a paper's name, or a file of yours.", add_help=False)
    sub.add_argument("recipe", nargs="?", help="a name from `hornbook papers`, or a path: ./my_recipe.py")
    sub.add_argument("--scale", default="quick", help="smoke, quick, gpu or paper (default: quick)")
    sub.add_argument("--show", action="store_true", help="print the settings and the plan, and do nothing")
    sub.add_argument("-h", "--help", action="store_true", dest="wants_help", help="help, with every setting")
    writings.add_budget(sub)
    home(sub)

    sub = command("papers", recipes.papers, "The recipes, their claims, and what was last measured.")
    sub.add_argument("--json", action="store_true", help="print JSON")
    home(sub)

    sub = command("chat", models.chat, "Talk to a model.")
    sub.add_argument("model", nargs="?", help=models.MODEL_HELP)
    sub.add_argument("--once", metavar="TEXT", help="answer this and stop")
    sub.add_argument("--system", metavar="TEXT", help="a system message to begin with")
    sub.add_argument("--temperature", type=float, default=0.7, help="0 = always the likeliest (default: 0.7)")
    sub.add_argument("--max-tokens", type=int, default=200, help="longest answer, in tokens (default: 200)")
    sub.add_argument("--seed", type=int, help="the same seed gives the same answer")
    sub.add_argument("--speed", action="store_true", help="say after each answer how fast it came")
    home(sub)

    sub = command("studio", studios.studio, "Web pages on this machine: run, look, chat, annotate, export.")
    studios.add_arguments(sub)
    home(sub)

    sub = command("data", corpora.data, "Corpora: look at them (ls, show, stats, diff), choose (curate).")
    sub.add_argument("action", choices=["ls", "show", "stats", "diff", "curate"])
    sub.add_argument(
        "paths",
        nargs="*",
        type=Path,
        metavar="PATH",
        help="corpus folders (ls: a folder to look below; curate: also a file, a folder, python, hub:NAME)",
    )
    sub.add_argument("--rows", type=int, default=5, help="rows to show (default 5)")
    sub.add_argument("--search", metavar="TEXT", help="show: only rows that contain this text")
    sub.add_argument("--id", help="show: the row with this id")
    sub.add_argument("--json", action="store_true", help="print JSON")
    curation.add_arguments(sub)
    home(sub)

    sub = command(
        "write", writings.write, "Write a corpus: stories, textbooks, exercises, questions and more."
    )
    writings.add_arguments(sub)
    home(sub)

    sub = command("plan", plans.plan, "What training and serving a model would take: memory, days, cost.")
    plans.add_arguments(sub)

    sub = command("eval", models.evaluate, "Measure a model on held-out tasks, with intervals.")
    sub.add_argument("model", nargs="?", help=models.MODEL_HELP)
    sub.add_argument("--tasks", default="all", help="names with commas, or all (see --list)")
    sub.add_argument("--list", action="store_true", help="list the tasks")
    sub.add_argument("--items", default="100", help="items of a task, or all (default: 100)")
    sub.add_argument("--data", type=Path, help="folder with the files of benchmarks")
    sub.add_argument("--shots", type=int, help="examples before each question of a benchmark")
    sub.add_argument(
        "--chat",
        action=argparse.BooleanOptionalAction,
        help="ask in the chat template (default: generated answers where the model has one, likelihoods not)",
    )
    sub.add_argument("--online", action="store_true", help="fetch from the hub what is not here")
    sub.add_argument("--judge", metavar="MODEL", help="who grades mt-bench, tinystories, skill-mix")
    sub.add_argument("--against", metavar="MODEL", help="a second model: the same items, compared in pairs")
    sub.add_argument(
        "--pairs", metavar="NAME", help="with --against: a queue of blind pairs in the studio (Annotate)"
    )
    sub.add_argument("--store", type=Path, help="where answers to benchmarks are kept (default: in --home)")
    sub.add_argument(
        "--report", type=Path, metavar="FOLDER", help="write report.html: scores, drawings, answers"
    )
    sub.add_argument("--log", type=Path, metavar="FOLDER", help="write logs that `inspect view` opens")
    sub.add_argument("--seed", type=int, help="another seed draws other items")
    sub.add_argument("--json", action="store_true", help="print JSON")
    home(sub)

    sub = command("import", models.bring, "Bring a model here: a Hugging Face folder or a GGUF file.")
    sub.add_argument("source", help="a checkpoint folder, a .gguf, or smollm2")
    sub.add_argument("--out", type=Path, help="folder to write (default: the source's name)")
    sub.add_argument("--dtype", choices=models.DTYPES, help="of the numbers (default: the source's)")
    sub.add_argument("--tokenizer", type=Path, metavar="FOLDER", help="take this folder's tokenizer instead")

    sub = command(
        "export",
        models.export,
        "Write a model as a Hugging Face folder, GGUF files, or 4- and 8-bit folders.",
    )
    sub.add_argument("model", nargs="?", help=models.EXPORT_HELP)
    sub.add_argument(
        "--to",
        default="hf,gguf",
        help="hf, f32, f16, bf16, q8_0, q4_0, q4_1, int8, int4; gguf means q8_0 and q4_0 (default: hf,gguf)",
    )
    sub.add_argument("--out", type=Path, default=Path("export"), help="folder to write to (default: export)")
    sub.add_argument("--name", help="of the files (default: the folder's name)")
    sub.add_argument(
        "--calibrate",
        metavar="TEXTS",
        help="for int4 and int8: a corpus, file or folder of text on which rounding loses least",
    )
    home(sub)

    sub = command("serve", models.serve, "Serve a model to OpenAI-compatible clients.")
    sub.add_argument("model", nargs="?", help=models.EXPORT_HELP)
    sub.add_argument("--port", type=int, default=8000, help="0 takes a free one (default: 8000)")
    sub.add_argument(
        "--host", default="127.0.0.1", help="address; beyond loopback HORNBOOK_TOKEN must be set"
    )
    sub.add_argument("--name", help="what clients call the model (default: its folder's name)")
    sub.add_argument("--weights", default="auto", help="auto, fp32, bf16, int8 or int4 (default: auto)")
    sub.add_argument("--clients", type=int, default=64, help="answers drawn at once (default: 64)")
    sub.add_argument("--queue", type=int, default=256, help="answers that may wait (default: 256)")
    sub.add_argument(
        "--max-tokens", type=int, default=512, help="of a chat answer without a limit (default: 512)"
    )
    sub.add_argument("--allow-host", action="append", default=[], help="another name it is called by (proxy)")
    sub.add_argument("--allow-origin", action="append", default=[], help="a web page's origin that may call")
    home(sub)

    sub = command("redteam", redteams.redteam, "Attack a model of yours, mend it, and attack again.")
    redteams.add_arguments(sub)

    sub = command("parrot", skills.parrot, "How many full marks of Skill-Mix no corpus explains.")
    skills.add_arguments(sub)

    sub = command("report", recipes.report, "Where the report of a run is, or its tables as Markdown.")
    sub.add_argument("recipe", nargs="?", help="of which recipe (default: the newest run)")
    sub.add_argument("--scale", help="of which scale (default: the newest run)")
    sub.add_argument("--markdown", action="store_true", help="print its claims and tables as Markdown")
    sub.add_argument(
        "--fill",
        nargs="+",
        type=Path,
        metavar="PAGE",
        help="put them between the lines `<!-- run RECIPE-SCALE: claims -->` and `<!-- end of run -->`",
    )
    sub.add_argument("--open", action="store_true", help="open it in the browser")
    home(sub)

    sub = command("doctor", machine.doctor, "What this machine is and what works on it.")
    sub.add_argument("--json", action="store_true", help="print JSON")
    sub.add_argument("--quick", action="store_true", help="skip what takes seconds to measure")
    home(sub)

    sub = command("new", recipes.new, "Write a recipe of your own to start from.")
    sub.add_argument("path", nargs="?", type=Path, default=Path("my_recipe.py"))
    return parser
