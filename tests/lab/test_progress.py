"""Rate and time left are those of the clock, whoever advances and wherever it is shown."""

import io
import os
import pty
import subprocess
import sys
import threading

import pytest

from hornbook.lab.progress import NullProgress, Progress, human_count


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def test_rate_and_time_left_follow_the_clock():
    clock, out = Clock(), io.StringIO()
    progress = Progress(1000, "tokens", "train", stream=out, clock=clock)
    for _ in range(10):
        clock.now += 1
        progress.advance(20)
    assert progress.rate == pytest.approx(20)
    assert progress.eta_seconds == pytest.approx(40)
    progress.set(loss=1.23456)
    assert progress.line() == "train: 200 of 1000 tokens (20 %), 20 tokens/s, 40 s left, loss 1.235"


def test_the_rate_is_that_of_the_last_half_minute():
    clock = Clock()
    progress = Progress(10_000, stream=io.StringIO(), clock=clock)
    for speed, seconds in ((100, 60), (10, 60)):
        for _ in range(seconds):
            clock.now += 1
            progress.advance(speed)
    assert progress.rate == pytest.approx(10, rel=0.05)


def test_what_an_earlier_attempt_did_is_not_counted_as_speed():
    clock = Clock()
    progress = Progress(100, done=50, stream=io.StringIO(), clock=clock)
    clock.now += 5
    progress.advance(10)
    assert progress.rate == pytest.approx(2)
    assert progress.eta_seconds == pytest.approx(20)


def test_plain_lines_come_every_ten_seconds_and_once_at_the_end():
    clock, out = Clock(), io.StringIO()
    with Progress(100, "rows", "read", stream=out, clock=clock) as progress:
        for _ in range(100):
            clock.now += 0.25
            progress.advance()
    lines = out.getvalue().splitlines()
    assert len(lines) == 3  # at 10 s, at 20 s, at the end (25 s)
    assert lines[0].startswith("[10 s] read: 40 of 100 rows (40 %), 4 rows/s, 15 s left")
    assert lines[-1] == "read: 100 of 100 rows (100 %), 4 rows/s, in 25 s"
    progress.close()
    progress.advance()
    assert len(out.getvalue().splitlines()) == 3


def test_unknown_totals_and_no_work_do_not_divide_by_zero():
    clock = Clock()
    for total in (None, 0, 5):
        progress = Progress(total, stream=io.StringIO(), clock=clock)
        assert progress.eta_seconds is None
        progress.line()
        progress.close()


def test_threads_lose_no_count():
    progress = Progress(stream=io.StringIO())
    threads = [threading.Thread(target=lambda: [progress.advance() for _ in range(5_000)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert progress.done == 40_000


def test_null_progress_is_silent(capsys):
    with NullProgress(10, "rows", "x") as progress:
        progress.advance(3)
        progress.set(loss=1)
    assert progress.done == 3
    assert capsys.readouterr() == ("", "")


LIVE = """
import sys, time
{block}
from hornbook.lab.progress import Progress, say
with Progress(10, "rows", "outer [x]") as outer, Progress(5, "rows", "inner") as inner:
    for i in range(5):
        outer.advance(2); inner.advance(); time.sleep(0.05)
    say("a sentence between [bold]lines[/bold]")
"""


@pytest.mark.parametrize("block", ["", "sys.modules['rich'] = None; sys.modules['rich.console'] = None"])
def test_on_a_terminal_with_and_without_rich(block):
    main, side = pty.openpty()
    program = LIVE.format(block=block)
    process = subprocess.Popen(
        [sys.executable, "-c", program], stderr=side, stdout=side, env={**os.environ, "TERM": "xterm"}
    )
    os.close(side)
    shown = b""
    while True:
        try:
            piece = os.read(main, 65536)
        except OSError:
            break
        if not piece:
            break
        shown += piece
    os.close(main)
    text = shown.decode()
    assert process.wait() == 0, text
    assert "outer [x]: 10 of 10 rows (100 %)" in text
    assert "a sentence between [bold]lines[/bold]" in text
    assert ("\x1b[" in text) == (block == "")  # a live display moves the cursor, plain lines never do


def test_counts_for_people():
    assert [human_count(x) for x in (0, 999, 1234567, 25_000, 1.5, 999_999, 2e9)] == [
        "0",
        "999",
        "1.23M",
        "25k",
        "1.5",
        "1000k",
        "2G",
    ]
