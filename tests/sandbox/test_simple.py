"""The list that lets programs share a process: nothing on it reaches beyond its own program."""

import ast

import pytest

from hornbook.sandbox.simple import BUILTINS, METHODS, reason_not_simple

SIMPLE = [
    "def solution():\n    apples = 3\n    return round(apples * 4 / 3, 2)",
    "import math\ndef f(n):\n    return math.ceil(math.sqrt(n))",
    "from math import gcd as g\nx = [g(i, 6) for i in range(10) if i % 2]\nprint(sorted(x), f'{x[0]:.2f}')",
    "i = 0\nwhile i < 10:\n    i += 1\nassert i == 10, 'no'",
    "if __name__ == '__main__':\n    print(sum(map(lambda a: a ** 2, [1, 2])))",
]
NOT_SIMPLE = [
    "().__class__.__base__.__subclasses__()",
    "f = print.__self__",
    "__builtins__['len'] = 1",
    "import os",
    "import math.x",
    "from math import *",
    "from os import path",
    "from . import x",
    "import math as __builtins__",
    "math.pi = 3",
    "import math\nmath.pi = 3",
    "import math\nmath = 1",
    "import math\ndef f(math): return math.append",
    "import math\nmath.__dict__",
    "'{0.__class__}'.format(1)",
    "class A: pass",
    "try:\n    f()\nexcept Exception:\n    pass",
    "with open('x') as f: pass",
    "async def f(): pass",
    "def f():\n    yield 1\nf().gi_frame",
    "@print\ndef f(): pass",
    "def __getattr__(x): pass",
    "x = (lambda __class__: 1)",
    "global __name__\n__name__ = 3",
    "match x:\n    case 1: pass",
    "(y := 3)",
]


@pytest.mark.parametrize("source", SIMPLE)
def test_simple(source):
    assert reason_not_simple(ast.parse(source)) is None


@pytest.mark.parametrize("source", NOT_SIMPLE)
def test_not_simple(source):
    assert reason_not_simple(ast.parse(source)) is not None


def test_no_name_on_the_lists_opens_a_way_out():
    dangerous = {"eval", "exec", "compile", "open", "getattr", "setattr", "vars", "globals", "locals", "type"}
    dangerous |= {"object", "super", "dir", "input", "__import__", "breakpoint", "memoryview", "format"}
    assert not dangerous & set(BUILTINS)
    assert not any(name.startswith("_") for name in METHODS)
    frames = {"gi_frame", "cr_frame", "tb_frame", "f_globals"}
    assert not METHODS & {"format", "format_map", "mro", *frames}
