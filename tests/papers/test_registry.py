"""The list of recipes is read from their source; it must say what the modules say."""

import pytest

from hornbook.papers import registry


@pytest.mark.parametrize("outline", registry.outlines(), ids=lambda outline: outline.name)
def test_an_outline_says_what_the_module_says(outline: registry.Outline) -> None:
    recipe = registry.find(outline.name)
    assert (outline.title, outline.paper) == (recipe.title, recipe.paper)
    assert outline.scales == tuple(recipe.scales)


def test_every_recipe_is_listed() -> None:
    assert [outline.name for outline in registry.outlines()] == registry.names()
