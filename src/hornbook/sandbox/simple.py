"""Programs so simple that many may share one child process.

A fork costs about a millisecond; a word problem's program runs in thirty
microseconds. A program that passes `reason_not_simple` is built only of
assignments, arithmetic, comparisons, loops, functions, literals and a short
list of builtins and methods. It cannot name an attribute outside that list,
import more than `math`, or reach an object that another program sees: what
it does cannot leak into the next one. It *can* still loop for ever or ask for
too much memory; then its child dies and it is run again alone, where its own
limits judge it. So the list guards isolation between neighbours and nothing
else: the sandbox around the child is the same.

This module runs inside the sandbox and imports only the standard library.
"""

import ast
import math

BUILTINS = [
    "abs",
    "all",
    "any",
    "bool",
    "chr",
    "dict",
    "divmod",
    "enumerate",
    "filter",
    "float",
    "frozenset",
    "int",
    "isinstance",
    "len",
    "list",
    "map",
    "max",
    "min",
    "ord",
    "pow",
    "print",
    "range",
    "reversed",
    "round",
    "set",
    "sorted",
    "str",
    "sum",
    "tuple",
    "zip",
    "ArithmeticError",
    "AssertionError",
    "Exception",
    "IndexError",
    "KeyError",
    "OverflowError",
    "TypeError",
    "ValueError",
    "ZeroDivisionError",
]

METHODS = frozenset(
    [
        "add",
        "append",
        "clear",
        "copy",
        "count",
        "difference",
        "discard",
        "endswith",
        "extend",
        "find",
        "get",
        "index",
        "insert",
        "intersection",
        "isalpha",
        "isdigit",
        "is_integer",
        "isupper",
        "islower",
        "items",
        "join",
        "keys",
        "lower",
        "lstrip",
        "pop",
        "remove",
        "replace",
        "reverse",
        "rstrip",
        "setdefault",
        "sort",
        "split",
        "splitlines",
        "startswith",
        "strip",
        "title",
        "union",
        "update",
        "upper",
        "values",
        "zfill",
    ]
)

MATH = frozenset(name for name in dir(math) if not name.startswith("_"))

TYPING = frozenset(["Any", "Dict", "List", "Optional", "Sequence", "Set", "Tuple", "Union"])

NODES: frozenset[type[ast.AST]] = frozenset(
    getattr(ast, name)
    for name in [
        "Module",
        "FunctionDef",
        "arguments",
        "arg",
        "Return",
        "Assign",
        "AugAssign",
        "AnnAssign",
        "For",
        "While",
        "If",
        "Pass",
        "Break",
        "Continue",
        "Expr",
        "Call",
        "keyword",
        "Name",
        "Load",
        "Store",
        "Constant",
        "BinOp",
        "UnaryOp",
        "BoolOp",
        "Compare",
        "IfExp",
        "Lambda",
        "Tuple",
        "List",
        "Dict",
        "Set",
        "Subscript",
        "Slice",
        "Starred",
        "JoinedStr",
        "FormattedValue",
        "ListComp",
        "SetComp",
        "DictComp",
        "GeneratorExp",
        "comprehension",
        "Attribute",
        "Import",
        "ImportFrom",
        "alias",
        "Assert",
        "Raise",
        "Global",
        "Add",
        "Sub",
        "Mult",
        "Div",
        "FloorDiv",
        "Mod",
        "Pow",
        "LShift",
        "RShift",
        "BitAnd",
        "BitOr",
        "BitXor",
        "USub",
        "UAdd",
        "Not",
        "Invert",
        "And",
        "Or",
        "Eq",
        "NotEq",
        "Lt",
        "LtE",
        "Gt",
        "GtE",
        "Is",
        "IsNot",
        "In",
        "NotIn",
        "Del",
        "Delete",
    ]
)


def reason_not_simple(tree: ast.AST) -> str | None:
    """Why the program of this tree needs a process of its own; None when it does not.

    `try` is not simple: a handler could swallow a MemoryError or a
    RecursionError that the program would not have met alone.
    """
    math_names = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
        if alias.name == "math"
    }
    stored = set()
    for node in ast.walk(tree):
        if type(node) not in NODES:
            return f"uses {type(node).__name__}"
        if isinstance(node, ast.Name):
            if node.id.startswith("__") and not (node.id == "__name__" and isinstance(node.ctx, ast.Load)):
                return f"names {node.id}"
            if not isinstance(node.ctx, ast.Load):
                stored.add(node.id)
        elif isinstance(node, ast.arg | ast.FunctionDef):
            name = node.arg if isinstance(node, ast.arg) else node.name
            if name.startswith("__"):
                return f"names {name}"
            stored.add(name)
            if isinstance(node, ast.FunctionDef) and node.decorator_list:
                return "uses a decorator"
        elif isinstance(node, ast.Attribute):
            if not isinstance(node.ctx, ast.Load):
                return "assigns to an attribute"
            on_math = isinstance(node.value, ast.Name) and node.value.id in math_names
            if node.attr not in (MATH if on_math else METHODS):
                return f"uses .{node.attr}"
        elif isinstance(node, ast.Import):
            if any(alias.name != "math" for alias in node.names):
                return "imports a module other than math"
        elif isinstance(node, ast.ImportFrom):
            allowed = {"math": MATH, "typing": TYPING}.get(node.module or "", frozenset())
            if node.level or any(alias.name not in allowed for alias in node.names):
                return f"imports from {node.module}"
        elif isinstance(node, ast.alias) and (node.asname or "").startswith("__"):
            return f"names {node.asname}"
    if stored & math_names:
        return "rebinds math"
    return None
