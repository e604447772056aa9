"""chat, eval, import, export, serve: one model at a time."""

import argparse
from pathlib import Path

from hornbook.errors import HornbookError

MODEL_HELP = "a checkpoint folder, a .gguf, smollm2, or http://host/v1#name (default: the newest run's)"
EXPORT_HELP = "a checkpoint folder, a .gguf, or smollm2 (default: the newest run's)"


def model_spec(args: argparse.Namespace) -> str:
    """The model the user named, or the newest run's.

    Raises:
        HornbookError: none was named and no run left one.
    """
    from hornbook.lab.history import finished_runs

    if args.model:
        return str(args.model)
    for run in finished_runs(args.home):
        if (path := run.outputs.get("model")) is not None:
            if not path.exists():
                raise HornbookError(
                    f"The newest run, {run.folder}, offers the model {path}, which is gone. "
                    f"Make it again with `hornbook run {run.recipe} --scale {run.scale}`, or name a model."
                )
            return str(path)
    raise HornbookError(
        f"No finished run below {args.home} offers a model. Raise one with `hornbook run phi`, "
        "or name one: a checkpoint folder, a .gguf, smollm2, or http://host/v1#name"
    )


def chat(args: argparse.Namespace) -> int:
    """Talks to a model."""
    from hornbook.serve.chat import chat_loop

    return chat_loop(
        model_spec(args),
        once=args.once,
        system=args.system,
        temperature=args.temperature,
        max_tokens=args.max_tokens,
        seed=args.seed,
        show_speed=args.speed,
    )


def evaluate(args: argparse.Namespace) -> int:
    """Measures a model, or two side by side; exits with 1 when some answers never came."""
    import json
    import sys
    from contextlib import nullcontext
    from dataclasses import asdict

    from hornbook.evals import comparison, result, suite
    from hornbook.evals.benchmarks.run import Asking
    from hornbook.evals.sample_store import SampleStore
    from hornbook.lab.progress import Progress
    from hornbook.lm.store import CallStore

    if args.pairs and not args.against:
        raise HornbookError("--pairs puts two models side by side; name the second with --against.")
    if args.log:
        from hornbook.evals.inspect_log import need_inspect

        need_inspect()
    if args.list:
        print(suite.describe(args.data))
        return 0
    tasks = () if args.tasks == "all" else tuple(name.strip() for name in args.tasks.split(","))
    specs = [model_spec(args), *([args.against] if args.against else [])]

    def say(sentence: str) -> None:
        print(sentence, file=sys.stderr, flush=True)

    given = {} if args.seed is None else {"seed": args.seed}
    asking = Asking(shots=args.shots, chat=args.chat, data=args.data, online=args.online)
    measured = []
    needs_calls = any(spec.startswith("http") for spec in (*specs, args.judge or ""))
    kept = CallStore(args.home / "calls.sqlite") if needs_calls else nullcontext()
    with SampleStore(args.store or args.home / "samples.sqlite") as store, kept as calls:
        for spec in specs:
            if not args.json:
                say(f"measuring {spec}")
            measured.append(
                suite.evaluate(
                    spec,
                    tasks=tasks,
                    items=_items(args.items),
                    benchmarks=asking,
                    judge=args.judge,
                    store=store,
                    calls=calls,
                    watch=lambda total, task: Progress(total, "answers", task),
                    **given,
                )
            )
        if args.pairs:
            from hornbook.evals.annotation import FILE
            from hornbook.evals.sparks.pairs import blind_pairs

            queue = blind_pairs(args.pairs, measured[0], measured[1], store, args.home / FILE)
            say(f"{queue.items} pairs to judge in the studio: hornbook studio, Annotate, {queue.name}")
        if args.log:
            from hornbook.evals.inspect_log import write_logs

            for spec, results in zip(specs, measured):
                for path in write_logs(results, spec, args.log, store):
                    say(f"wrote {path}")
    unfinished = [one for results in measured for one in results if one.unfinished]
    for one in unfinished:
        say(f"hornbook: {one.task}: {one.unfinished}")
    differences = comparison.compare(*measured) if args.against else []
    if args.report:
        from hornbook.evals.report import write_report

        named = {spec if i == 0 or spec != specs[0] else f"{spec} (2)": rs
                 for i, (spec, rs) in enumerate(zip(specs, measured))}  # fmt: skip
        say(f"wrote {write_report(named, args.report, differences)}")
    if args.json:
        told = [{"model": spec, "results": [asdict(o) for o in rs]} for spec, rs in zip(specs, measured)]
        both = {"models": told, "differences": [asdict(one) for one in differences]}
        print(json.dumps(both, indent=1, ensure_ascii=False) if args.against else result.as_json(measured[0]))
    else:
        for spec, results in zip(specs, measured):
            print((f"{spec}\n" if args.against else "") + result.as_text(results))
        if differences:
            print(f"{specs[0]} minus {specs[1]}\n" + comparison.as_text(differences))
    return 1 if unfinished else 0


def _items(told: str) -> int | None:
    if told == "all":
        return None
    try:
        return int(told)
    except ValueError:
        raise HornbookError(f"--items is {told!r}; accepted is a number, or all") from None


def export(args: argparse.Namespace) -> None:
    """Writes a model in the formats others run."""
    import sys

    from hornbook.lab.files import human_bytes
    from hornbook.serve.export import export_model, size_bytes

    spec = model_spec(args)
    if spec.startswith(("http://", "https://")):
        raise HornbookError(f"{spec} runs elsewhere; only a model that lies here can be exported.")
    print(f"exporting {spec}", file=sys.stderr, flush=True)

    def say(sentence: str) -> None:
        print(f"note: {sentence}", file=sys.stderr, flush=True)

    kinds = tuple(args.to.split(","))
    texts = None
    if args.calibrate:
        from hornbook.data.readers import read_source

        texts = [str(row["text"]) for row in read_source(args.calibrate, limit_bytes=2_000_000)]
    for path in export_model(spec, args.out, kinds=kinds, name=args.name, calibration=texts, say=say):
        print(f"{path}  {human_bytes(size_bytes(path))}")


DTYPES = ("fp32", "bf16", "fp16")


def bring(args: argparse.Namespace) -> None:
    """Writes a model from elsewhere as a checkpoint folder."""
    import sys

    import torch

    from hornbook.lab.files import human_bytes
    from hornbook.serve.export import size_bytes
    from hornbook.serve.importing import import_model

    if args.source.startswith(("http://", "https://")):
        raise HornbookError(f"{args.source} runs elsewhere; only a model that lies here can be imported.")
    kinds = dict(zip(DTYPES, (torch.float32, torch.bfloat16, torch.float16), strict=True))
    done = import_model(
        args.source,
        args.out or Path(Path(args.source).expanduser().resolve().stem.lower()),
        dtype=None if args.dtype is None else kinds[args.dtype],
        tokenizer=args.tokenizer,
        say=lambda sentence: print(sentence, file=sys.stderr, flush=True),
    )
    config = done.config
    print(f"{done.folder}  {human_bytes(size_bytes(done.folder))}")
    print(
        f"{config.family}, {config.parameters():,} parameters ({str(done.dtype).removeprefix('torch.')}), "
        f"context {config.max_position:,}; {done.vocabulary:,} tokens, "
        f"{'with' if done.has_template else 'no'} chat template"
    )
    print(f"{done.checked} tensors read back, equal bit for bit")


def serve(args: argparse.Namespace) -> None:
    """Serves a model to OpenAI-compatible clients."""
    import os

    from hornbook.serve.api.server import serve as run_server

    run_server(
        model_spec(args),
        host=args.host,
        port=args.port,
        token=os.environ.get("HORNBOOK_TOKEN") or None,
        name=args.name,
        weights=args.weights,
        max_rows=args.clients,
        max_waiting=args.queue,
        default_max_tokens=args.max_tokens,
        allow_hosts=args.allow_host,
        allow_origins=args.allow_origin,
    )
