"""How far, how fast, how long still: a live line on a terminal, plain timed lines elsewhere."""

import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self, TextIO

from hornbook.lab.files import human_seconds

PLAIN_SECONDS = 10.0  # between two plain lines of one job
LIVE_SECONDS = 0.1  # between two redraws of the live line
WINDOW_SECONDS = 30.0  # the rate is that of the last half minute


def human_count(count: float) -> str:
    """`1234567` -> "1.23M"; small whole numbers as they are."""
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(count) >= size:
            scaled = count / (1e3 if letter == "k" else size)
            return f"{scaled:.3g}{letter}" if abs(scaled) < 999.5 else f"{scaled:.0f}{letter}"
    return f"{count:.0f}" if count == int(count) or abs(count) >= 100 else f"{count:.3g}"


class Progress:
    """Counts work done; safe to advance from many threads; any number may live at once.

    Args:
        total: how much there is to do, in `unit`; None when unknown.
        unit: plural word, such as "tokens" or "documents".
        label: what is being done.
        done: what an earlier, interrupted attempt had done already (left out of the rate).
        stream: where plain lines go (standard error by default); giving one forces plain lines.
        clock: seconds, monotonic; tests pass their own.
    """

    def __init__(
        self,
        total: float | None = None,
        unit: str = "",
        label: str = "",
        *,
        done: float = 0,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.total, self.unit, self.label = total, unit, label
        self.done = done
        self.numbers: dict[str, Any] = {}
        self._clock, self._stream = clock, stream
        self._lock = threading.Lock()
        self._start = self._shown = clock()
        self._first = done
        self._window: deque[tuple[float, float]] = deque([(self._start, done)])
        self._closed = False
        self._task = _display.open(self) if stream is None else None

    def advance(self, n: float = 1) -> None:
        """`n` more units are done."""
        with self._lock:
            self.done += n
        self._touch()

    def set(self, **numbers: object) -> None:
        """Numbers to show beside the count, such as `loss=2.31`; each stays until it is set again."""
        with self._lock:
            self.numbers.update(numbers)
        self._touch()

    @property
    def seconds(self) -> float:
        """Since this progress was opened."""
        return self._clock() - self._start

    @property
    def rate(self) -> float:
        """Units a second over the last half minute (over everything while younger than that)."""
        now = self._clock()
        with self._lock:
            then, done = self._window[0]
            return (self.done - done) / (now - then) if now > then else 0.0

    @property
    def eta_seconds(self) -> float | None:
        """Seconds still to go at the present rate; None while it cannot be known."""
        rate = self.rate
        if self.total is None or rate <= 0:
            return None
        return max(0.0, self.total - self.done) / rate

    def line(self) -> str:
        """One line: label, count, share, rate, time left, numbers."""
        parts = [self._count()]
        if rate := self.rate:
            parts.append(f"{human_count(rate)} {self.unit}/s" if self.unit else f"{human_count(rate)}/s")
        left = self.eta_seconds
        if left is not None and not self._closed and self.total is not None and self.done < self.total:
            parts.append(f"{human_seconds(left)} left")
        parts += [f"{name} {_number(value)}" for name, value in self.numbers.items()]
        return f"{self.label}: {', '.join(parts)}" if self.label else ", ".join(parts)

    def _count(self) -> str:
        unit = f" {self.unit}" if self.unit else ""
        if self.total is None:
            return f"{human_count(self.done)}{unit}"
        share = f" ({100 * self.done / self.total:.0f} %)" if self.total > 0 else ""
        return f"{human_count(self.done)} of {human_count(self.total)}{unit}{share}"

    def _touch(self) -> None:
        now = self._clock()
        with self._lock:
            if self._closed:
                return
            if now - self._window[-1][0] >= WINDOW_SECONDS / 60:
                self._window.append((now, self.done))
                while len(self._window) > 2 and now - self._window[1][0] >= WINDOW_SECONDS:
                    self._window.popleft()
            due = now - self._shown >= (LIVE_SECONDS if self._task is not None else PLAIN_SECONDS)
            if due:
                self._shown = now
        if due:
            self._show()

    def _show(self) -> None:
        if self._task is not None:
            _display.update(self, self._task)
        else:
            _write(self._stream, f"[{human_seconds(self.seconds)}] {self.line()}")

    def close(self) -> None:
        """The last line: what was done and how long it took. Closing twice does nothing."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            elapsed = self._clock() - self._start
            self._window = deque([(self._start, self._first)])  # the last rate is that of the whole job
        if self._task is not None:
            _display.close(self, self._task)
        _write(self._stream, f"{self.line()}, in {human_seconds(elapsed)}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class NullProgress(Progress):
    """Shows nothing, costs next to nothing; for callers who pass no progress."""

    def __init__(
        self, total: float | None = None, unit: str = "", label: str = "", *, done: float = 0
    ) -> None:
        self.total, self.unit, self.label, self.done = total, unit, label, done
        self.numbers = {}

    def advance(self, n: float = 1) -> None:
        """Counts, silently."""
        self.done += n

    def set(self, **numbers: object) -> None:
        """Nothing."""

    def line(self) -> str:
        """Nothing to show."""
        return ""

    @property
    def seconds(self) -> float:
        """Not measured."""
        return 0.0

    @property
    def rate(self) -> float:
        """Not measured."""
        return 0.0

    def close(self) -> None:
        """Nothing."""


def say(sentence: str) -> None:
    """One sentence for the user, above any live lines (standard error)."""
    _write(None, sentence)


def _number(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _write(stream: TextIO | None, line: str) -> None:
    if stream is None and _display.print(line):
        return
    target = stream or sys.stderr
    target.write(line + "\n")
    target.flush()


class _Display:
    """The live lines of this process: one rich display shared by every open Progress."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._rich: Any = None
        self._open = 0

    def open(self, progress: Progress) -> Any:
        """A rich task for `progress`, or None where there is no terminal or no rich."""
        if not _live():
            return None
        try:
            from rich.console import Console
            from rich.progress import BarColumn, TextColumn
            from rich.progress import Progress as RichProgress
        except ImportError:
            return None
        with self._lock:
            if self._rich is None:
                columns = (
                    BarColumn(bar_width=16, complete_style="cyan", finished_style="cyan"),
                    TextColumn("{task.fields[line]}", markup=False),
                )
                self._rich = RichProgress(
                    *columns, console=Console(stderr=True), transient=True, refresh_per_second=8
                )
                self._rich.start()
            self._open += 1
            return self._rich.add_task("", total=progress.total, completed=progress.done, line=progress.label)

    def update(self, progress: Progress, task: Any) -> None:
        """Redraws the line of `progress`."""
        with self._lock:
            if self._rich is not None:
                self._rich.update(task, completed=progress.done, line=progress.line())

    def close(self, progress: Progress, task: Any) -> None:
        """Takes the line away; with the last one the display stops."""
        with self._lock:
            if self._rich is None:
                return
            self._rich.remove_task(task)
            self._open -= 1
            if self._open == 0:
                self._rich.stop()
                self._rich = None

    def print(self, line: str) -> bool:
        """Prints above the live lines; False when there are none."""
        with self._lock:
            if self._rich is None:
                return False
            self._rich.console.print(line, markup=False, highlight=False)
            return True


def _live() -> bool:
    try:
        return sys.stderr.isatty()
    except (AttributeError, ValueError):
        return False


_display = _Display()
