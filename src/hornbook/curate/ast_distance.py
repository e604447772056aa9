"""Programs compared by their syntax (phi-1, section 5: embedding distance for a short list, then edit
distance).

A function becomes the sequence of its syntax-tree node types in reading order: names, constants and
docstrings leave no trace, so a copy with renamed variables and other numbers has the same sequence.
Similarity is one minus the edit distance over the longer length. The short list is by cosine of hashed runs
of three node types, an embedding of the structure; a caller with a code model may short-list by its own
embeddings and call `similarity`.
"""

import ast
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

_BUCKETS = 512
_FENCE = re.compile(r"^```(?:python|py)?[^\S\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
# Contexts say nothing that their parents do not.
_SILENT = (ast.expr_context, ast.alias)
# A constant counts by its type.
_TYPES: tuple[type, ...] = (str, bytes, int, float, complex, bool, type(None))
_CONSTANTS = {kind: chr(0x3100 + i) for i, kind in enumerate(_TYPES)}


@dataclass(frozen=True, kw_only=True)
class Function:
    """One function: its name, and its node types in reading order, one character each."""

    name: str
    nodes: str


@cache
def _symbol(kind: str) -> str:
    """A character for a node type: stable over processes, one for each class of `ast`."""
    names = sorted(name for name, value in vars(ast).items() if isinstance(value, type))
    return chr(0x4E00 + names.index(kind))


def _walk(node: ast.AST, out: list[str]) -> None:
    stack: list[ast.AST] = [node]
    while stack:
        current = stack.pop()
        if isinstance(current, _SILENT):
            continue
        if isinstance(current, ast.Constant):
            out.append(_CONSTANTS.get(type(current.value), _CONSTANTS[str]))
        elif not isinstance(current, ast.arguments):
            out.append(_symbol(type(current).__name__))
        stack.extend(reversed(list(ast.iter_child_nodes(current))))


def _sources(text: str) -> list[str]:
    fenced = _FENCE.findall(text)
    return fenced if fenced else [text]


def functions(text: str, *, shortest: int = 20) -> list[Function]:
    """Functions of a program, or of the fenced blocks of a document; text that is no Python gives none.

    Functions of fewer than `shortest` nodes are left out: very short ones are all alike.
    """
    if "def " not in text:
        return []
    found = []
    for source in _sources(text):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                tree = ast.parse(source)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                nodes: list[str] = []
                body = node.body
                if ast.get_docstring(node, clean=False) is not None:
                    body = body[1:]
                _walk(node.args, nodes)
                for statement in body:
                    _walk(statement, nodes)
                if len(nodes) >= shortest:
                    found.append(Function(name=node.name, nodes="".join(nodes)))
    return found


def edit_distance(first: str, second: str) -> int:
    """Levenshtein distance, bit-parallel (Myers 1999, Hyyro 2003): one step a character of `second`, on
    integers of as many bits as `first` has characters.
    """
    if not first:
        return len(second)
    where: dict[str, int] = {}
    for i, c in enumerate(first):
        where[c] = where.get(c, 0) | 1 << i
    mask, last = (1 << len(first)) - 1, 1 << (len(first) - 1)
    positive, negative, distance = mask, 0, len(first)
    for c in second:
        match = where.get(c, 0)
        diagonal = (((match & positive) + positive) ^ positive) | match | negative
        up = negative | ~(diagonal | positive) & mask
        down = positive & diagonal
        distance += bool(up & last) - bool(down & last)
        up = up << 1 | 1
        positive = (down << 1 | ~(diagonal | up)) & mask
        negative = up & diagonal & mask
    return distance


def similarity(first: Function, second: Function) -> float:
    """1 - edit distance / length of the longer: 1 for equal structure."""
    longest = max(len(first.nodes), len(second.nodes))
    return 1 - edit_distance(first.nodes, second.nodes) / longest if longest else 1.0


def structure(functions: Sequence[Function]) -> npt.NDArray[np.float64]:
    """(functions, 512) unit vectors: counts of hashed runs of three node types."""
    out = np.zeros((len(functions), _BUCKETS))
    for i, function in enumerate(functions):
        codes = np.frombuffer(function.nodes.encode("utf-32-le"), np.uint32).astype(np.uint64)
        if len(codes) >= 3:
            runs = (codes[:-2] * np.uint64(1_000_003) + codes[1:-1]) * np.uint64(1_000_003) + codes[2:]
            slots = ((runs * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(55)).astype(np.int64)
            out[i] = np.bincount(slots, minlength=_BUCKETS)
    norm = np.linalg.norm(out, axis=1, keepdims=True)
    unit: npt.NDArray[np.float64] = out / np.maximum(norm, 1e-12)
    return unit


class CodeIndex:
    """Reference programs of evaluation items, to hold documents against.

    Args:
        programs: one a reference; those without a function long enough are never matched. shortlist: how many
            nearest references are compared by edit distance.
    """

    def __init__(self, programs: Sequence[str], *, shortlist: int = 10) -> None:
        pairs = [(i, f) for i, program in enumerate(programs) for f in functions(program)]
        self._owner = [i for i, _ in pairs]
        self._functions = [f for _, f in pairs]
        self._structure = structure(self._functions)
        self._shortlist = shortlist

    def __len__(self) -> int:
        return len(self._functions)

    def best(self, text: str, threshold: float) -> tuple[int, float, str] | None:
        """(reference, similarity, function name) of the most similar function of a text, if at least
        `threshold`.
        """
        mine = functions(text) if self._functions else []
        if not mine:
            return None
        near: npt.NDArray[Any] = structure(mine) @ self._structure.T
        best: tuple[int, float, str] | None = None
        for i, function in enumerate(mine):
            for j in np.argsort(-near[i], kind="stable")[: self._shortlist].tolist():
                other = self._functions[j]
                short, long = sorted((len(function.nodes), len(other.nodes)))
                if (
                    near[i, j] < 0.5 or short < threshold * long
                ):  # too far, or too different in length to reach it
                    continue
                score = similarity(function, other)
                if score >= threshold and (best is None or score > best[1]):
                    best = (self._owner[j], score, function.name)
        return best
