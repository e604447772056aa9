"""The report of the recipe `phi`: what was chosen and written, how the student grew, and what it can do."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hornbook.data.corpus import Corpus
from hornbook.lab.report import Bar, Report, Sample, Series
from hornbook.lab.run import Run
from hornbook.lab.step import Artifact
from hornbook.papers.phi.settings import Settings


@dataclass(frozen=True, kw_only=True)
class Made:
    """What the steps made."""

    gathered: Artifact
    curated: Artifact
    educational: Artifact
    written: Mapping[str, Artifact]
    tokenizer: Artifact
    tokens: Mapping[str, Artifact]
    probes: Artifact
    probed: Artifact
    base: Artifact
    chatting: Artifact
    pairs: Artifact
    aligned: Artifact
    before: Artifact
    after: Artifact
    judged: Artifact | None
    exported: Artifact


def write_report(run: Run, made: Made, settings: Settings) -> None:
    """Fills the run's report; claims, lineage and costs are added by the run itself."""
    report = run.report
    report.title = "A phi in ten minutes"
    source = "this machine's own Python installation" if settings.source == "python" else settings.source
    report.subtitle = (
        f"A student of {made.base.facts['parameters'] / 1e6:.1f} million parameters in the phi-3 shape, "
        f"raised on {source} and on data written by the {settings.teacher} teacher."
    )
    _summary(report, made)
    _conversation(report, made)
    _chosen(report, made)
    _written(report, made)
    _diets(report, made)
    _training(report, made)
    _preferences(report, made)
    _abilities(report, made)
    _exported(report, made)


def _scores(examined: Artifact) -> Iterator[tuple[str, str, float, tuple[float, float]]]:
    for task, result in examined.facts.items():
        for score in result["scores"]:
            yield task, score["name"], score["value"], tuple(score["interval"])


def _summary(report: Report, made: Made) -> None:
    table = {f"{task} {name}": value for task, name, value, _ in _scores(made.after)}
    speed = made.exported.facts["speed"]
    fastest = max(speed.values(), key=lambda one: one["tokens_per_second"])
    tokens = made.base.facts["tokens"] + made.chatting.facts["tokens"]
    report.figures(
        [
            ("word problems right", f"{table['word-problems accuracy']:.0%}", "held-out skeletons, executed"),
            ("restricted requests refused", f"{table['policy refusal']:.0%}", "held-out wordings"),
            (
                "harmless requests refused",
                f"{table['policy over-refusal']:.0%}",
                "look-alikes; lower is better",
            ),
            ("first token", f"{1000 * fastest['first_token_seconds']:.0f} ms", "after the prompt is sent"),
            ("parameters", f"{made.base.facts['parameters'] / 1e6:.2f} M"),
            ("training tokens", f"{tokens / 1e6:.1f} M", "pretraining and fine-tuning"),
        ]
    )


def _conversation(report: Report, made: Made) -> None:
    report.section(
        "A talk with the student", "Greedy answers to held-out requests, none of them picked by hand."
    )
    messages: list[dict[str, str]] = []
    for task in ("stories", "word-problems", "policy", "exercises"):
        for sample in made.after.facts[task]["samples"][-1:]:
            messages += [
                {"role": "user", "content": sample["request"]},
                {"role": "assistant", "content": sample["answer"]},
            ]
    report.transcript("One request of each kind", messages)


def _chosen(report: Report, made: Made) -> None:
    facts = made.curated.facts
    card = made.educational.facts
    report.section(
        "Data chosen",
        f"{facts['rows_out']:,} of {facts['rows_in']:,} organic documents were kept, "
        f"{facts['bytes_out'] / 1e6:.1f} of {facts['bytes_in'] / 1e6:.1f} MB.",
    )
    stages = facts["funnel"]
    report.table(
        ["stage", "documents in", "documents out", "kept"],
        [[row["stage"], row["in"], row["out"], f"{row['out'] / max(1, row['in']):.0%}"] for row in stages],
        title="The funnel",
    )
    report.text(
        f"**Educational value** is judged by *{card['labelling']}*: {card['labels_by']}. phi-1 had GPT-4 "
        "annotate a sample; no model that runs offline here is fit to rate, so the contrast stands in for "
        "it. Any endpoint can annotate instead."
    )
    samples = facts["samples"]
    for kind, title in (
        ("kept", "Ten documents that were kept"),
        ("removed", "Ten that were removed, and why"),
    ):
        report.samples(
            title,
            [
                Sample(
                    text=sample["text"],
                    label=sample["source"],
                    note=f"removed for: {sample['reason']}" if sample.get("reason") else "",
                    code="code" in sample["source"],
                    scores={"score": sample["score"]} if sample.get("score") is not None else None,
                )
                for sample in samples[kind]
            ],
            shown=2,
        )


def _written(report: Report, made: Made) -> None:
    report.section(
        "Data written",
        "Each program was executed, also under a second set of numbers; each story follows a plan.",
    )
    report.table(
        ["kind", "rows", "words", "passed the checks", "shared 13-grams", "tokens"],
        [
            [
                name,
                corpus.facts["rows"],
                corpus.facts["words"],
                f"{corpus.facts['pass_rate']:.1%}" if corpus.facts.get("pass_rate") is not None else "",
                _overlap(corpus.facts),
                made.tokens[name].facts["tokens"],
            ]
            for name, corpus in made.written.items()
        ],
        note="Shared 13-grams: how many of the 13-word sequences of half a sample the other half has too.",
    )
    for name, corpus in made.written.items():
        if name != "chat":
            rows = Corpus.open(corpus.path).iter_rows(["text"])
            report.samples(
                f"From the {name}",
                [Sample(text=row["text"], code=name == "exercises") for row, _ in zip(rows, range(3))],
                shown=1,
            )
    report.curves(
        "Near duplicates as a corpus grows",
        {
            name: [(line["texts"], 100 * line["near_duplicates"]) for line in corpus.facts["growth"]]
            for name, corpus in made.written.items()
            if corpus.facts.get("growth")
        },
        x_label="texts",
        y_label="% that nearly repeat an earlier text",
        note="5-gram Jaccard similarity of at least 0.5.",
    )
    report.bars(
        "Bytes a token holds, by domain",
        {name: tokens.facts["bytes_per_token"] for name, tokens in made.tokens.items()},
        unit="bytes per token",
    )


def _overlap(facts: Mapping[str, Any]) -> str:
    shares = facts.get("diversity", {})
    found = [value for key, value in shares.items() if "overlap" in key]
    return f"{found[0]:.1%}" if found else ""


def _diets(report: Report, made: Made) -> None:
    facts = made.probed.facts
    report.section(
        "Does the choice of data matter?",
        "Small students, equal in training tokens, on three diets. Each is asked which of two continuations "
        "is right; chance is 50 %.",
    )
    kinds = list(facts["items"])
    arms = list(facts["accuracy"])
    report.heat_map(
        "Accuracy, mean over seeds",
        arms,
        kinds,
        [[100 * _mean(facts["accuracy"][arm][kind]) for kind in kinds] for arm in arms],
        unit="%",
    )
    bits = made.probes.facts["bits_per_byte"]
    domains = list(bits[arms[0]])
    report.heat_map(
        "Bits per byte on held-out text, mean over seeds",
        arms,
        domains,
        [[_mean(bits[arm][domain]) for domain in domains] for arm in arms],
        note="Lower is better.",
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _training(report: Report, made: Made) -> None:
    report.section("Training")
    report.curves(
        "Loss while the student is raised",
        {
            name: Series(points=_smoothed(stage.metrics()))
            for name, stage in (("pretraining", made.base), ("chat", made.chatting))
        },
        x_label="million tokens of the stage",
        y_label="nats per token",
        note="Each point is the mean over one fiftieth of the stage.",
    )
    report.table(
        ["stage", "tokens", "seconds", "tokens per second", "loss at the end"],
        [
            [
                name,
                f["tokens"],
                round(f["seconds"], 1),
                round(f["tokens"] / max(f["seconds"], 1e-9)),
                round(f["loss"], 3),
            ]
            for name, f in (
                ("pretraining", made.base.facts),
                ("chat", made.chatting.facts),
                ("preferences", made.aligned.facts),
            )
        ],
    )
    report.bars(
        "Bits per byte after pretraining, by held-out domain",
        made.base.facts["bits_per_byte"],
        unit="bits per byte",
    )


def _smoothed(lines: Sequence[Mapping[str, Any]], points: int = 50) -> list[tuple[float, float]]:
    """Means of the loss over equal stretches; x is millions of tokens."""
    losses = [(line["tokens"] / 1e6, line["loss"]) for line in lines if "loss" in line and "tokens" in line]
    size = max(1, len(losses) // points)
    return [
        (part[-1][0], _mean([loss for _, loss in part]))
        for part in (losses[at : at + size] for at in range(0, len(losses), size))
    ]


def _preferences(report: Report, made: Made) -> None:
    facts = made.pairs.facts
    report.section(
        "Preferences, verified",
        "The student answered training requests several times; what is right was executed or checked, never "
        "judged by a model.",
    )
    report.table(
        ["kind", "asked", "pairs", "answers that were right"],
        [
            [
                kind,
                facts["asked"][kind],
                facts["pairs"].get(kind, 0),
                f"{facts['pass_rate'].get(kind, 0):.0%}",
            ]
            for kind in facts["asked"]
        ],
        note=f"Both sides by the student itself in {facts['share_on_policy']:.0%} of the pairs.",
    )
    report.samples(
        "Pairs",
        [
            Sample(
                text=f"{row['messages'][-1]['content']}\n\n--- preferred ---\n{row['chosen']}\n\n"
                f"--- rejected ---\n{row['rejected']}",
                label=row["source"],
                code=True,
            )
            for row, _ in zip(Corpus.open(made.pairs.path).iter_rows(), range(4))
        ],
        shown=1,
    )


def _abilities(report: Report, made: Made) -> None:
    report.section(
        "What it can do",
        "Held-out requests that share no skeleton, plan or document with training; 95 % intervals.",
    )
    before = {(task, name): value for task, name, value, _ in _scores(made.before)}
    report.table(
        ["task", "score", "after SFT", "after preferences", "95 % interval", "items"],
        [
            [
                task,
                name,
                f"{before[task, name]:.1%}",
                f"{value:.1%}",
                f"[{interval[0]:.1%}, {interval[1]:.1%}]",
                made.after.facts[task]["items"],
            ]
            for task, name, value, interval in _scores(made.after)
        ],
    )
    report.bars(
        "After preferences",
        [
            Bar(label=f"{task}: {name}", value=100 * value, interval=(100 * low, 100 * high))
            for task, name, value, (low, high) in _scores(made.after)
        ],
        unit="%",
    )
    report.text(
        "**Stories** are graded by rules that know the teacher's language and the story's own world (names, "
        "who did what, objects); this is not a GPT grade, and no judge fit for one runs offline."
    )
    if made.judged is not None:
        facts = made.judged.facts
        kinds = [name for name in facts if isinstance(facts[name], dict) and "value" in facts[name]]
        cost = facts["shuffling_costs"]
        report.bars(
            f"Bits per byte that {facts['judge'].split('@')[0]} needs for a story",
            [
                Bar(
                    label=name, value=facts[name]["value"], interval=(facts[name]["low"], facts[name]["high"])
                )
                for name in kinds
            ],
            unit="bits per byte",
            note=f"A likelihood, not a grade. Lower: less surprising. Shuffling the sentences costs "
            f"{cost['loss']:.1%} [{cost['low']:.1%}, {cost['high']:.1%}]: so much the judge sees of order.",
        )
    for task, result in made.after.facts.items():
        report.samples(
            f"Answers: {task}",
            [
                Sample(
                    text=f"{sample['request']}\n\n{sample['answer']}",
                    label="right" if sample["right"] else "wrong",
                    note=str(sample["note"]),
                    code=task in ("word-problems", "exercises"),
                )
                for sample in result["samples"]
            ],
            shown=2,
        )


def _exported(report: Report, made: Made) -> None:
    facts = made.exported.facts
    report.section("Exported", "Each file was read back, asked to answer, and measured on held-out text.")
    report.table(
        ["format", "size (MB)", "bits per byte", "loss", "95 % interval"],
        [
            [
                kind,
                round(one["bytes"] / 1e6, 2),
                round(one["bits_per_byte"]["all"], 4) if "bits_per_byte" in one else "same numbers",
                f"{one['loss']['all']['loss']:.2%}" if "loss" in one else "",
                f"[{one['loss']['all']['low']:.2%}, {one['loss']['all']['high']:.2%}]"
                if "loss" in one
                else "",
            ]
            for kind, one in facts["kinds"].items()
        ],
    )
    report.table(
        ["weights in the engine", "first token (ms)", "tokens per second", "size (MB)"],
        [
            [
                name,
                round(1000 * one["first_token_seconds"], 1),
                round(one["tokens_per_second"]),
                round(one["weight_bytes"] / 1e6, 1),
            ]
            for name, one in facts["speed"].items()
        ],
        title="Speed of one conversation",
    )
