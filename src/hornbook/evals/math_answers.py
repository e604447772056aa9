r"""Are two answers to a question of mathematics the same? Text first, then sympy in a process one can kill.

Answers are written by models, so nothing of them is evaluated as it stands: LaTeX is rewritten into a small
language of numbers, single letters and known functions; what does not fit it is compared as text alone. An
expression such as 9**9**9 never ends: the worker has a second for each pair and is killed after it.
"""

import contextlib
import json
import re
import select
import subprocess
import sys
import time
from types import TracebackType

from hornbook.errors import HornbookError

SECONDS = 2.0
_FUNCTIONS = ("sqrt", "sin", "cos", "tan", "sec", "csc", "cot", "asin", "acos", "atan", "log", "exp", "Abs")
_NAMES = {*_FUNCTIONS, "pi"}
_LONGEST = 400
_UNITS = re.compile(
    r"(?:\\text|\\mbox|\\textrm|\\mathrm)\s*\{[^{}]*\}|\\(?:degree|circ|%|!|,|;|:|quad|qquad)|\^\\circ|\^\{\\circ\}"
)
_WORDS = (
    *((f"\\{name}", name) for name in ("sin", "cos", "tan", "sec", "csc", "cot", "log", "exp", "pi")),
    ("\\arcsin", "asin"),
    ("\\arccos", "acos"),
    ("\\arctan", "atan"),
    ("\\ln", "log"),
    ("\\cdot", "*"),
    ("\\times", "*"),
    ("\\div", "/"),
    ("\\pm", "±"),
)


class Comparer:
    """Compares answers; keeps one worker process, started when it is first needed. A context manager."""

    def __init__(self, seconds: float = SECONDS) -> None:
        self.seconds = seconds
        self.killed = 0
        self._worker: subprocess.Popen[bytes] | None = None

    def same(self, first: str, second: str) -> bool:
        """Whether two answers say the same; what cannot be read as mathematics must be equal as text."""
        a, b = normal(first), normal(second)
        if not a or not b:
            return False
        if a == b:
            return True
        left, right = _parts(a), _parts(b)
        if len(left) != len(right) or (a[0] in "([" and len(left) > 1 and (a[0], a[-1]) != (b[0], b[-1])):
            return False
        return all(one == two or self._equal(one, two) for one, two in zip(left, right))

    def _equal(self, first: str, second: str) -> bool:
        pair = [expression(first), expression(second)]
        if None in pair:
            return False
        return self._ask(pair)

    def _ask(self, pair: list[str | None]) -> bool:
        worker = self._started()
        assert worker.stdin is not None
        assert worker.stdout is not None
        try:
            worker.stdin.write(json.dumps(pair).encode() + b"\n")
            worker.stdin.flush()
            until = time.monotonic() + self.seconds
            while (left := until - time.monotonic()) > 0:
                if select.select([worker.stdout], [], [], left)[0]:
                    return bool(json.loads(worker.stdout.readline()))
        except (OSError, ValueError):
            pass
        self._kill()
        return False

    def _started(self) -> subprocess.Popen[bytes]:
        if self._worker is None or self._worker.poll() is not None:
            self._worker = subprocess.Popen(
                [sys.executable, "-c", _WORKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
            assert self._worker.stdout is not None
            if not self._worker.stdout.readline():
                raise HornbookError(
                    "The process that compares expressions did not start; is sympy installed?"
                )
        return self._worker

    def _kill(self) -> None:
        self.killed += 1
        self.close()

    def close(self) -> None:
        """Ends the worker."""
        if self._worker is not None:
            self._worker.kill()
            self._worker.wait()
            for pipe in (self._worker.stdin, self._worker.stdout):
                if pipe is not None:
                    with contextlib.suppress(OSError):
                        pipe.close()
            self._worker = None

    def __enter__(self) -> "Comparer":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def normal(answer: str) -> str:
    r"""An answer without what does not change it: $ signs, \left, units, thousands' commas, a leading "x =".

    >>> normal(r"$\dfrac{1}{2}\text{ cm}$")
    '\\frac{1}{2}'
    """
    text = answer.strip().strip("$").replace("\\$", "").replace("$", "")
    text = re.sub(r"\\(?:left|right|displaystyle|big|Big|bigl|bigr)(?![a-zA-Z])", "", text)
    text = re.sub(r"\\[dt]frac", r"\\frac", text)
    words = re.fullmatch(r"\s*\\text\s*\{([^{}]*)\}\s*", text)
    text = words[1] if words else _UNITS.sub("", text)
    text = text.replace("−", "-").replace("\\%", "").replace("%", "").replace("\\{", "{").replace("\\}", "}")
    text = re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", text)
    text = re.sub(r"^\s*[a-zA-Z]\s*(?:=|\\in)\s*", "", text)
    if re.search(r"[\d\\]", text):  # a space matters only behind a command: \\pi r
        text = re.sub(r"(?<![a-zA-Z])\s+|(?<=[a-zA-Z])\s+(?![a-zA-Z])", "", text)
    text = re.sub(r"\s+", " ", text.strip()).rstrip(".")
    return text.lower() if text.isalpha() else text


def _parts(text: str) -> list[str]:
    """A tuple, an interval or a list, cut at its outermost commas; without the outer brackets."""
    inner = text
    if len(text) > 1 and (text[0] + text[-1]) in ("()", "[]", "(]", "[)", "{}"):
        inner = text[1:-1]
    parts, depth, begin = [], 0, 0
    for at, character in enumerate(inner):
        depth += {"(": 1, "[": 1, "{": 1, ")": -1, "]": -1, "}": -1}.get(character, 0)
        if depth < 0:
            return [text]
        if character == "," and depth == 0:
            parts.append(inner[begin:at])
            begin = at + 1
    return [*parts, inner[begin:]] if parts else [text]


def expression(text: str) -> str | None:
    r"""The answer in the small language that sympy may read, or None where it does not fit.

    >>> expression(r"\frac{3}{4}x^2")
    '((3)/(4))*x**(2)'
    """
    if len(text) > _LONGEST:
        return None
    for _ in range(20):
        before = text
        text = re.sub(r"\\frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}", r"((\1)/(\2))", text)
        text = re.sub(r"\\frac\s*(\d)\s*(\d)", r"((\1)/(\2))", text)
        text = re.sub(r"\\frac\s*(\d)\s*\{([^{}]*)\}", r"((\1)/(\2))", text)
        text = re.sub(r"\\sqrt\s*\[([^\[\]{}]*)\]\s*\{([^{}]*)\}", r"((\2)**(1/(\1)))", text)
        text = re.sub(r"\\sqrt\s*\{([^{}]*)\}", r"sqrt(\1)", text)
        text = re.sub(r"\\sqrt\s*(\d)", r"sqrt(\1)", text)
        text = re.sub(r"\^\s*\{([^{}]*)\}", r"**(\1)", text)
        if text == before:
            break
    text = re.sub(r"\^\s*(-?\d+|[a-zA-Z])", r"**(\1)", text)
    for latex, plain in _WORDS:
        text = re.sub(re.escape(latex) + r"(?![a-zA-Z])", plain, text)
    text = text.replace("{", "(").replace("}", ")").replace("\\", " \\")
    if not re.fullmatch(r"[0-9a-zA-Z+\-*/().=\s]*", text) or re.search(
        r"[a-zA-Z)]\s*\.|\.\s*[a-zA-Z(]", text
    ):
        return None
    return _with_products(text)


def _with_products(text: str) -> str | None:
    """The same with every product written out: 2x(y) is 2*x*(y); None for words that are no mathematics."""
    found: list[str] = []
    for token in re.findall(r"\d+\.?\d*|\.\d+|[a-zA-Z]+|\S", text):
        if not token.isalpha() or token in _NAMES:
            found.append(token)
        elif len(token) > 6:
            return None
        else:
            found += list(token)
    written = ""
    for before, token in zip(["", *found], found):
        ends = before[-1:].isalnum() or before[-1:] in (")", ".")
        begins = token[0].isalnum() or token[0] in "(."
        if before and ends and begins and before not in _FUNCTIONS:
            written += "*"
        written += token
    return written


_WORKER = f"""
import json, resource, sys
resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
import sympy
names = {{name: getattr(sympy, name) for name in {_FUNCTIONS!r}}}
names.update(pi=sympy.pi, e=sympy.E, i=sympy.I)
allowed = {{name: getattr(sympy, name) for name in ("Integer", "Float", "Rational", "Symbol")}}
allowed["__builtins__"] = {{}}
def read(text):
    from sympy.parsing.sympy_parser import parse_expr
    if "=" in text:
        left, right = text.split("=", 1)
        return read(left) - read(right)
    return parse_expr(text, local_dict=dict(names), global_dict=dict(allowed))
print(1, flush=True)
for line in sys.stdin:
    try:
        first, second = (read(text) for text in json.loads(line))
        same = bool(sympy.simplify(first - second) == 0)
        if not same and first.is_number and second.is_number:
            same = bool(abs(sympy.N(first - second)) <= 1e-9 * max(1, abs(sympy.N(second))))
    except Exception:
        same = False
    print(json.dumps(same), flush=True)
"""
