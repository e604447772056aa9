"""`live.json`: what a run does is told while it does it, and a run that died is not told to be running."""

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from hornbook.lab.live import LIVE_FILE, process_lives, process_start, read_live
from hornbook.lab.run import Run
from hornbook.lab.step import step


@dataclass(frozen=True, kw_only=True)
class Settings:
    rows: int = 1


SEEN: list[object] = []


@step(makes="table")
def watched(ctx, *, home: str, rows: int):
    """Looks at its own run from inside."""
    progress = ctx.progress(10, "rows", "writing")
    progress.advance(4)
    progress.set(loss=2.5)
    while True:
        live = read_live(Path(home) / "watch-smoke")
        if live is not None and live.step is not None and live.step["progress"]:
            SEEN.append(live)
            break
        time.sleep(0.05)
    return {}


def test_a_running_step_is_seen_from_outside_with_its_progress(tmp_path):
    run = Run(tmp_path, recipe="watch", scale="smoke", settings=Settings())
    run.step(watched, home=str(tmp_path), rows=1)
    [live] = SEEN
    assert live.state == "running"
    assert live.step["name"] == "watched"
    [progress] = live.step["progress"]
    assert (progress["done"], progress["total"], progress["unit"]) == (4, 10, "rows")
    assert progress["numbers"] == {"loss": 2.5}
    assert progress["rate"] > 0
    assert progress["eta_seconds"] > 0
    between = read_live(run.folder)
    assert between.step is None
    assert [(done["name"], done["cached"]) for done in between.done] == [("watched", False)]
    run.finish()
    assert read_live(run.folder).state == "finished"


def test_a_step_found_in_the_store_is_told_as_cached(tmp_path):
    for _ in range(2):
        run = Run(tmp_path, recipe="watch", scale="smoke", settings=Settings())
        run.step(watched, home=str(tmp_path), rows=2)
    assert [done["cached"] for done in read_live(run.folder).done] == [True]


def test_a_run_whose_process_is_gone_is_stopped(tmp_path):
    Run(tmp_path, recipe="watch", scale="smoke", settings=Settings())
    path = tmp_path / "watch-smoke" / LIVE_FILE
    data = json.loads(path.read_text())
    assert read_live(path.parent).state == "running"
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    child.wait()
    path.write_text(json.dumps({**data, "pid": child.pid, "process_started": "1"}))
    assert read_live(path.parent).state == "stopped"
    # a number that another process has by now is not the run's process
    path.write_text(json.dumps({**data, "process_started": "1"}))
    if process_start(os.getpid()):
        assert read_live(path.parent).state == "stopped"


def test_a_torn_or_missing_file_is_no_run(tmp_path):
    assert read_live(tmp_path) is None
    (tmp_path / LIVE_FILE).write_text('{"pid": 1')
    assert read_live(tmp_path) is None
    assert process_lives(os.getpid(), process_start(os.getpid()))
