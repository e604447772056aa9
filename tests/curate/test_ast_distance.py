"""Syntax similarity against the textbook edit distance, and on renamed copies that n-grams miss."""

import ast
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hornbook.curate.ast_distance import CodeIndex, edit_distance, functions, similarity
from hornbook.curate.decontaminate import Decontaminator, EvaluationItem
from hornbook.curate.words import split

PROGRAMS = {
    "below": '''
def below_zero(operations):
    """True if a balance that starts at nothing ever falls below it."""
    balance = 0
    for operation in operations:
        balance += operation
        if balance < 0:
            return True
    return False
''',
    "primes": """
def primes(limit):
    sieve = [True] * (limit + 1)
    for i in range(2, int(limit ** 0.5) + 1):
        if sieve[i]:
            for j in range(i * i, limit + 1, i):
                sieve[j] = False
    return [i for i in range(2, limit + 1) if sieve[i]]
""",
    "words": """
def count_words(text, shortest=3):
    counts = {}
    for word in text.lower().split():
        word = word.strip(".,;")
        if len(word) >= shortest:
            counts[word] = counts.get(word, 0) + 1
    return sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
""",
}
OTHERS = """
class Stack:
    def push(self, item):
        self.items.append(item)
        if len(self.items) > self.limit:
            raise OverflowError("the stack is full: " + str(self.limit))

def read(path, encoding="utf-8"):
    with open(path, encoding=encoding) as file:
        lines = [line.rstrip() for line in file]
    return {line.split("=")[0]: line.split("=")[1] for line in lines if "=" in line}
"""


def renamed(program):
    """Other names, other numbers, other text: the same program to the eye of a plagiarist."""
    tree = ast.parse(program)
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.arg):
            node.arg = names.setdefault(node.arg, f"value{len(names)}")
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            node.name = "solve"
            if ast.get_docstring(node):
                node.body[0].value.value = "Something else is said here."
        elif isinstance(node, ast.Name) and (node.id in names or isinstance(node.ctx, ast.Store)):
            node.id = names.setdefault(node.id, f"value{len(names)}")
        elif isinstance(node, ast.Constant) and type(node.value) in (int, float):
            node.value += 7
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id in names:
            node.id = names[node.id]
    return ast.unparse(tree)


@given(st.text("abc", max_size=12), st.text("abc", max_size=12))
def test_edit_distance_equals_the_table(a, b):
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        last, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            last, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, last + (x != y))
    assert edit_distance(a, b) == row[-1]


def test_long_sequences():
    a = "abcd" * 500
    assert edit_distance(a, a) == 0
    assert edit_distance(a, a[:700] + "x" + a[701:1500] + a[1501:]) == 2


def test_renamed_copies_are_equal_and_other_programs_are_not():
    originals = [functions(p)[0] for p in PROGRAMS.values()]
    for i, program in enumerate(PROGRAMS.values()):
        copy = functions(renamed(program))[0]
        scores = [similarity(copy, original) for original in originals]
        assert scores[i] == 1.0
        assert max(s for j, s in enumerate(scores) if j != i) < 0.8


def test_index_finds_the_copy_where_13_grams_do_not():
    index = CodeIndex(list(PROGRAMS.values()))
    items = [EvaluationItem(id=k, question=p, code=p) for k, p in PROGRAMS.items()]
    by_words = Decontaminator({"code": items})
    for i, program in enumerate(PROGRAMS.values()):
        copy = renamed(program)
        page = f"# A page\n\nSome words.\n\n```python\n{copy}\n```\n\nMore words.\n"
        assert index.best(OTHERS + copy, 0.95)[0] == i
        assert index.best(page, 0.95)[:2] == (i, 1.0)
        assert by_words.ngram_matches(split([copy])) == []
        found = by_words.matches(split(["some text", copy]))
        assert [(m.document, m.item, m.rule) for m in found] == [(1, list(PROGRAMS)[i], "syntax")]
    assert index.best(OTHERS, 0.95) is None


def test_a_changed_line_lowers_the_similarity_a_little():
    program = PROGRAMS["below"]
    changed = program.replace("    return False", "    print(balance)\n    return False")
    score = similarity(functions(program)[0], functions(changed)[0])
    assert 0.8 < score < 0.95
    assert CodeIndex([program]).best(changed, 0.95) is None
    assert CodeIndex([program]).best(changed, 0.8)[1] == pytest.approx(score)


@pytest.mark.parametrize(
    "text", ["", "no program", "def broken(:", "def f(x): return x", "\0def f(): pass", "(" * 5000]
)
def test_what_is_no_program_matches_nothing(text):
    assert functions(text) == []
    assert CodeIndex(list(PROGRAMS.values())).best(text, 0.5) is None
    assert CodeIndex([text]).best(PROGRAMS["below"], 0.5) is None


def test_docstrings_and_names_leave_no_trace():
    bare = re.sub(r'""".*?"""\n\s*', "", PROGRAMS["below"])
    assert functions(bare)[0].nodes == functions(PROGRAMS["below"])[0].nodes
