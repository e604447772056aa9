"""The guide's example runs as it stands."""

import re
from pathlib import Path

import pytest

GUIDE = Path(__file__).parents[2] / "docs" / "alignment.md"


def test_the_example_of_the_guide_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    example, *others = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(compile(example, str(GUIDE), "exec"), names)
    facts = names["better"].facts  # type: ignore[attr-defined]
    assert facts["pairs"] + facts["held_out_pairs"] == names["pairs"].facts["rows"]  # type: ignore[attr-defined]
    assert (tmp_path / "runs" / "steps").is_dir()
    for other in others:  # they go on from names of their own, so what they import is all that can be run
        exec("\n".join(re.findall(r"^(?:from|import) .*$", other, re.MULTILINE)), {})
