"""data curate: choose documents, here, in a pool of processes or on a cluster."""

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hornbook.errors import HornbookError

if TYPE_CHECKING:
    from hornbook.curate.decontaminate import EvaluationItem
    from hornbook.curate.pipeline import CurateSettings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `hornbook data curate`."""
    group = parser.add_argument_group("curate")
    group.add_argument("--out", type=Path, help="folder of the result; a second run goes on, or decides anew")
    group.add_argument("--workers", type=int, help="processes (default: by size and cores)")
    group.add_argument(
        "--cluster", metavar="ADDRESS", help="a Ray cluster: host:port, ray://host:port, auto, or local"
    )
    group.add_argument(
        "--against",
        action="append",
        default=[],
        metavar="SET",
        help="an evaluation set no kept document may give away: suite, a corpus, or a file of JSON lines",
    )
    group.add_argument("--educational", type=Path, metavar="FOLDER", help="a classifier of educational value")
    group.add_argument("--keep-share", type=float, help="share it keeps, the best first (default: 0.5)")
    group.add_argument("--languages", help="kept languages with commas, or any (default: en)")
    group.add_argument("--rules", choices=["all", "none"], help="heuristics (default: all)")
    group.add_argument("--semantic", type=float, metavar="COSINE", help="also remove what says the same")
    group.add_argument(
        "--repeated-lines",
        type=float,
        metavar="SHARE",
        help="largest share of a text in lines that three documents have (default: 0.7)",
    )
    group.add_argument("--repeated-paragraphs", type=float, metavar="SHARE", help="the same of paragraphs")
    group.add_argument("--prefer", choices=["first", "longest"], help="which of duplicates stays")
    group.add_argument("--personal-data", choices=["off", "tag", "mask"], help="default: mask")
    group.add_argument("--limit-bytes", type=int, help="read so much of the source at most")
    group.add_argument("--text-field", help="field of JSON or Parquet rows that is the text")


def curate(args: argparse.Namespace) -> None:
    """Gathers the source if it is no corpus, examines what is not examined yet, and writes the result."""
    import shutil

    from hornbook.curate.steps import curate_corpus, documents
    from hornbook.lab.progress import Progress, say

    if len(args.paths) != 1 or args.out is None:
        raise HornbookError(
            "`hornbook data curate` takes one source and --out: hornbook data curate texts/ --out chosen"
        )
    settings = _settings(args)
    sets = {given: _evaluation_set(given) for given in args.against}
    out: Path = args.out
    source = _source(args)
    corpus = documents(source)
    if out.resolve() == corpus.folder.resolve():
        raise HornbookError(f"{out} is the source itself; name another folder with --out.")
    partial = out / "curated.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    open_ones: list[Progress] = []

    def progress(total: float, unit: str, label: str) -> Progress:
        open_ones.append(Progress(total, unit, label))
        return open_ones[-1]

    try:
        facts = curate_corpus(
            corpus,
            partial,
            examined=out / "examined",
            evaluation_sets=sets,
            educational=args.educational,
            settings=settings,
            workers=args.workers,
            cluster=args.cluster,
            progress=progress,
            say=say,
        )
    finally:
        for one in open_ones:
            one.close()
    shutil.rmtree(out / "curated", ignore_errors=True)
    partial.rename(out / "curated")
    asked = {
        "heuristics": settings.rules,
        "language": settings.language,
        "semantic_duplicate": settings.semantic,
        "educational": args.educational,
        "contaminated": sets,
    }
    off = [stage for stage, on in asked.items() if not on]
    _show(facts, out, off, as_json=args.json)


def _settings(args: argparse.Namespace) -> "CurateSettings":
    from hornbook.curate.language import LanguageSettings
    from hornbook.curate.pipeline import CurateSettings
    from hornbook.curate.semantic import SemanticSettings

    names = ("prefer", "repeated_lines", "repeated_paragraphs", "personal_data")
    given: dict[str, Any] = {n: getattr(args, n) for n in names if getattr(args, n) is not None}
    if args.keep_share is not None:
        given["educational_share"] = args.keep_share
    if args.semantic is not None:
        given["semantic"] = SemanticSettings(threshold=args.semantic)
    if args.rules == "none":
        given["rules"] = ()
    settings = CurateSettings(**given)
    if args.languages == "any":
        return replace(settings, language=None)
    if args.languages is not None:
        keep = tuple(name.strip() for name in args.languages.split(",") if name.strip())
        return replace(settings, language=LanguageSettings(keep=keep))
    return settings


def _evaluation_set(given: str) -> "Sequence[EvaluationItem]":
    from hornbook.curate.evaluation_sets import read_evaluation_set

    if given == "suite":
        from hornbook.evals.suite_items import evaluation_sets

        return [item for items in evaluation_sets().values() for item in items]
    if not Path(given).exists():
        raise HornbookError(f"There is no evaluation set {given}: say suite, or name a corpus or a file.")
    return read_evaluation_set(Path(given))


def _source(args: argparse.Namespace) -> Path:
    """The folder of the corpus to choose from; a source that is none is gathered below --out, once."""
    from hornbook.data.steps import as_source, gather_into
    from hornbook.lab.files import sha256_of, sha256_path
    from hornbook.lab.progress import Progress, say

    given = str(args.paths[0])
    if (Path(given) / "corpus.json").is_file():
        return Path(given)
    source = as_source(given)
    content = sha256_path(source) if isinstance(source, Path) and source.exists() else given
    key = sha256_of([content, args.limit_bytes, args.text_field])[:16]
    folder: Path = args.out / "source" / key
    if not (folder / "corpus.json").is_file():
        with Progress(args.limit_bytes, "bytes", f"read {given}") as progress:
            facts = gather_into(
                folder,
                source,
                {"source": given, "limit_bytes": args.limit_bytes},
                progress,
                limit_bytes=args.limit_bytes,
                text_field=args.text_field,
            )
        if facts["skipped"]:
            say(f"{facts['skipped']} files were left out: they are not text, or of a kind that is not read.")
    return folder


def _show(facts: dict[str, Any], out: Path, off: Sequence[str], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(facts | {"out": str(out / "curated")}, indent=2, ensure_ascii=False))
        return
    write: Callable[[str], None] = print
    write(f"{'stage':22s} {'in':>10s} {'out':>10s}  share")
    for row in facts["funnel"]:
        if row["stage"] in off and row["in"] == row["out"]:
            continue
        write(f"{row['stage']:22s} {row['in']:10,} {row['out']:10,}  {row['share']:.3f}")
    if off:
        write(f"not asked for: {', '.join(off)}")
    reasons = ", ".join(f"{name} {count:,}" for name, count in list(facts["reasons"].items())[:8])
    if reasons:
        write(f"removed most: {reasons}")
    if facts["personal_data"]:
        write(f"personal data: {facts['personal_data']:,} finds")
    write(f"kept {facts['rows_out']:,} of {facts['rows_in']:,} documents: {out / 'curated'}")
    write(f"removed, each with its reason: {out / 'curated' / 'removed'}")
    write(
        "Another --rules, --languages, --keep-share ... decides anew in a moment: what is examined is kept."
    )
