"""A run of the recipe that `hornbook new` writes, on a handful of notes: seconds, and everything is real."""

import pytest
from command_line import MICRO, call, write_notes


@pytest.fixture(scope="session")
def micro(tmp_path_factory):
    """(home, recipe file, notes) of a finished run."""
    folder = tmp_path_factory.mktemp("micro")
    recipe, home, notes = folder / "mine.py", folder / "runs", write_notes(folder / "notes")
    assert call("new", recipe)[0] == 0
    code, said, complaint = call("run", recipe, *MICRO, "--source", notes, "--home", home)
    assert code == 0, complaint
    assert "hornbook chat" in said
    return home, recipe, notes
