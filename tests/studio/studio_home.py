"""Makes a home of real steps, with markup in every text that a model or a user may write."""

import json
from dataclasses import dataclass
from pathlib import Path

from hornbook.data.corpus import CorpusWriter
from hornbook.data.tokenizer import Tokenizer
from hornbook.lab.claim import Claim
from hornbook.lab.report import Sample
from hornbook.lab.run import Run
from hornbook.lab.step import Artifact, step
from hornbook.redteam.tasks import Attempt

SCRIPT = "<script>document.title='taken'</script><img src=x onerror=alert(1)>"


@dataclass(frozen=True, kw_only=True)
class Settings:
    note: str = SCRIPT
    rows: int = 60


@dataclass(frozen=True, kw_only=True)
class HostileRun:
    home: Path
    name: str
    corpus: Path


@step(makes="corpus")
def write_hostile(ctx, *, rows: int, seed: int, teacher: str):
    with CorpusWriter(ctx.folder, "documents", lineage={"made_by": SCRIPT, "seed": seed}) as writer:
        writer.write_rows(
            [
                {"id": f"row-{i}", "text": f"{SCRIPT} row {i}", "source": f"src{i % 3}{SCRIPT}", "meta": "{}"}
                for i in range(rows)
            ]
        )
    for i in range(20):
        ctx.log(step=i, loss=3.0 - i / 10, **{SCRIPT: 1.0})
    return {"rows": rows}


def _result(task: str, outcomes: list[float]):
    mean = sum(outcomes) / len(outcomes)
    return {
        "task": task, "items": len(outcomes), "seconds": 1.0, "unfinished": "", "details": {},
        "scores": [
            {"name": "accuracy", "value": mean, "interval": [mean - 0.1, mean + 0.1], "better": "higher"}
        ],
        "outcomes": {"accuracy": outcomes},
        "samples": [{"request": SCRIPT, "answer": f"said {SCRIPT}", "right": False, "note": SCRIPT}],
    }  # fmt: skip


@step(makes="table")
def examine_hostile(ctx, *, model: str, seed: int):
    share = 3 if model == "good" else 9
    return {"sums": _result("sums", [float(i % 10 >= share) for i in range(40)])}


@step(makes="transcripts", name="red-team")
def red_team_hostile(ctx, *, conversations: int):
    folder = ctx.folder / "crescendo"
    folder.mkdir()
    (folder / "campaign.json").write_text(
        json.dumps({"attacker": SCRIPT, "target": SCRIPT, "settings": {"system_prompt": f"be good {SCRIPT}"}})
    )
    lines = []
    for i in range(conversations):
        for number in range(1, 11):
            attempt = Attempt(
                number=number, round=number, question=f"ask {number} {SCRIPT}", reply=f"reply {SCRIPT}",
                rationale=SCRIPT, refused=number == 2, refusal_why=SCRIPT, backtracked=number == 2,
                kept=number != 2, scored=True, score=number * 10, score_why=SCRIPT,
                flag=number == 10 and i % 2 == 0,
            )  # fmt: skip
            lines.append(json.dumps({"conversation": f"task{SCRIPT}#{i}", "attempt": attempt.as_json()}))
    (folder / "transcripts.jsonl").write_text("\n".join([*lines, '{"torn": ']))
    return {"crescendo": {"average": 0.5, "average_interval": [0.4, 0.6], "binary": 0.5, "queries": 10}}


@step(makes="checkpoint")
def train_small(ctx):
    Tokenizer.train(["one and two are three", SCRIPT] * 9, 300, ctx.folder / "model")
    return {}


@step(makes="corpus", name="search-pivotal-tokens")
def search_hostile(ctx, *, model: Artifact):
    tokenizer = Tokenizer.load(model / "model")
    answer = tokenizer.encode(f"one {SCRIPT}")
    texts = [tokenizer.decode([token]) for token in answer]
    rows = [{"identity": "x"}, {"question": 0, "start": 0, "number": 0, "tokens": answer, "right": True}]
    rows += [
        {
            "question": 0,
            "start": at,
            "number": n,
            "tokens": answer[:at] + tokenizer.encode("two"),
            "right": n < 2,
        }
        for at in (1, 2)
        for n in range(5)
    ]
    rows.append(
        {"question": 1, "start": 0, "number": 0, "tokens": answer[:1], "right": True}
    )  # another question
    (ctx.folder / "rollouts.jsonl").write_text("\n".join(map(json.dumps, rows)))
    values = [None if i > 3 else (0.4, -0.3, 0.2, -0.1)[i] for i in range(len(texts))]
    picture = {
        "question": SCRIPT,
        "chance": 0.5,
        "right": True,
        "tokens": [list(t) for t in zip(texts, values)],
    }
    return {"searched": 1, "pivots": 2, "pairs": 1, "rollouts": 11, "pictures": [picture]}


def make_home(home: Path) -> HostileRun:
    run = Run(home, recipe="hostile", scale="quick", settings=Settings(), quiet=True)
    corpus = run.step(write_hostile, rows=60, seed=7, teacher="simulated")
    run.claim(
        Claim(
            id="c1",
            sentence=f"A claim {SCRIPT}",
            paper_value=SCRIPT,
            measured=0.5,
            interval=(0.25, 0.75),
            rule=SCRIPT,
            holds=True,
            why=SCRIPT,
            unit=SCRIPT,
        )
    )
    run.report.section(SCRIPT, SCRIPT)
    run.report.samples(SCRIPT, [Sample(text=SCRIPT, label=SCRIPT, note=SCRIPT, scores={SCRIPT: 1.0})])
    run.report.transcript(SCRIPT, [{"role": "user", "content": SCRIPT}, {"role": SCRIPT, "content": SCRIPT}])
    run.output(corpus=corpus)
    for model in ("good", "bad"):
        run.step(examine_hostile, model=model, seed=1)
    run.step(red_team_hostile, conversations=120)
    run.step(search_hostile, model=run.step(train_small))
    run.finish()
    return HostileRun(home=home, name="hostile-quick", corpus=corpus.path)
