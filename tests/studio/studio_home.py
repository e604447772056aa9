"""Makes a home of real steps, with markup in every text that a model or a user may write."""

from dataclasses import dataclass
from pathlib import Path

from hornbook.data.corpus import CorpusWriter
from hornbook.lab.claim import Claim
from hornbook.lab.report import Sample
from hornbook.lab.run import Run
from hornbook.lab.step import step

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
    run.finish()
    return HostileRun(home=home, name="hostile-quick", corpus=corpus.path)
