"""Finding recipes: the ones in this folder by name, a user's own by path."""

import ast
import dataclasses
import importlib
import importlib.util
import pkgutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hornbook.errors import HornbookError
from hornbook.lab.run import Run

SCALE_NAMES = ("smoke", "quick", "gpu", "paper")
_NOT_RECIPES = {"coverage_report", "registry", "template"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """One paper as a program: settings for each scale, and the function that runs it."""

    name: str
    title: str
    paper: str
    scales: Mapping[str, Any]
    run: Callable[[Run, Any], None]

    def settings(self, scale: str) -> Any:
        """The resolved settings of one scale (a frozen dataclass).

        Raises:
            HornbookError: the recipe has no such scale.
        """
        if scale not in self.scales:
            raise HornbookError(
                f"recipe {self.name!r} has no scale {scale!r}; it has: {', '.join(self.scales)}"
            )
        return self.scales[scale]


def names() -> list[str]:
    """Names of the recipes that come with Hornbook, sorted."""
    import hornbook.papers

    return sorted(
        m.name for m in pkgutil.iter_modules(hornbook.papers.__path__) if m.name not in _NOT_RECIPES
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outline:
    """What a list of recipes tells of one."""

    name: str
    title: str
    paper: str
    scales: tuple[str, ...]


def outlines() -> list[Outline]:
    """Every recipe that comes with Hornbook, read from its source: importing them all takes seconds."""
    return [_outline(name) for name in names()]


def _outline(name: str) -> Outline:
    """TITLE, PAPER and the names in SCALES, out of a recipe's module and the settings beside it."""
    found = importlib.util.find_spec(f"hornbook.papers.{name}")
    assert found is not None
    assert found.origin is not None
    module = Path(found.origin)
    told: dict[str, ast.expr] = {}
    for path in (module, *([module.parent / "settings.py"] if module.name == "__init__.py" else [])):
        if path.is_file():
            for node in ast.parse(path.read_text(encoding="utf-8")).body:
                if isinstance(node, ast.Assign):
                    told |= {t.id: node.value for t in node.targets if isinstance(t, ast.Name)}
                elif isinstance(node, ast.AnnAssign) and node.value and isinstance(node.target, ast.Name):
                    told[node.target.id] = node.value
    scales = told.get("SCALES")
    try:
        title, paper = ast.literal_eval(told["TITLE"]), ast.literal_eval(told["PAPER"])
        keys = [ast.literal_eval(key) for key in scales.keys if key] if isinstance(scales, ast.Dict) else []
        if not keys:
            raise ValueError("SCALES is not written out")
    except (KeyError, ValueError):  # computed: then the module itself has to say
        recipe = find(name)
        title, paper, keys = recipe.title, recipe.paper, list(recipe.scales)
    return Outline(name=name, title=title, paper=paper, scales=tuple(keys))


def find(spec: str) -> Recipe:
    """A recipe by name (`phi`) or by path (`./my_recipe.py`).

    Raises:
        HornbookError: no such recipe or file, or a module that is not a recipe.
    """
    if spec.endswith(".py") or "/" in spec:
        return _from_module(_load_file(Path(spec)), Path(spec).stem)
    if spec not in names():
        raise HornbookError(
            f"there is no recipe {spec!r}. Recipes: {', '.join(names())}. "
            "A recipe of your own is named by its path: hornbook run ./my_recipe.py"
        )
    return _from_module(importlib.import_module(f"hornbook.papers.{spec}"), spec)


def _load_file(path: Path) -> Any:
    if not path.is_file():
        raise HornbookError(f"there is no file {path}; `hornbook new {path}` writes a recipe to start from")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise HornbookError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # dataclasses look their module up by name
    try:
        spec.loader.exec_module(module)
    except HornbookError:
        raise
    except Exception as error:
        raise HornbookError(f"{path} cannot be loaded: {type(error).__name__}: {error}") from error
    return module


def _from_module(module: Any, name: str) -> Recipe:
    wanted = ("TITLE", "PAPER", "SCALES", "recipe")
    missing = [attribute for attribute in wanted if not hasattr(module, attribute)]
    if missing:
        raise HornbookError(
            f"{module.__file__} is not a recipe: it lacks {', '.join(missing)}. "
            "`hornbook new my_recipe.py` writes one to start from"
        )
    scales = module.SCALES
    wrong = [scale for scale in scales if scale not in SCALE_NAMES]
    if wrong:
        raise HornbookError(f"{module.__file__}: unknown scale {wrong[0]!r}; use {', '.join(SCALE_NAMES)}")
    for scale, settings in scales.items():
        if not dataclasses.is_dataclass(settings):
            raise HornbookError(f"{module.__file__}: SCALES[{scale!r}] must be a dataclass instance")
    return Recipe(name=name, title=module.TITLE, paper=module.PAPER, scales=scales, run=module.recipe)
