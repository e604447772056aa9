"""`hornbook plan` as it is typed."""

import json

import pytest

from hornbook.cli import main
from hornbook.model.presets import preset

NAMES = [
    "phi-1",
    "phi-1.5",
    "phi-2",
    "phi-3-mini",
    "phi-3-medium",
    "phi-3.5-mini",
    "phi-4",
    "phi-4-mini",
    "smollm2-135m",
]


def output(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    with pytest.raises(SystemExit) as stop:
        main(["plan", *arguments])
    assert stop.value.code == code
    said = capsys.readouterr()
    return said.err if code else said.out


@pytest.mark.parametrize("name", NAMES)
def test_json_has_the_parameters_of_every_name(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert json.loads(output(capsys, name, "--json"))["parameters"] == preset(name).parameters()


def test_options_reach_the_plan(capsys: pytest.CaptureFixture[str]) -> None:
    few, many = (
        json.loads(output(capsys, "phi-4", "--gpus", gpus, "--tokens", "1e12", "--json"))["training"]
        for gpus in ("64", "128")
    )
    assert few["tokens"] == 1e12
    assert few["days"] == pytest.approx(2 * many["days"])
    slow = json.loads(output(capsys, "phi-4", "--gpu", "a100", "--gpus", "64", "--tokens", "1e12", "--json"))
    assert slow["training"]["days"] > 3 * few["days"]


def test_text_says_assumptions_and_what_does_not_fit(capsys: pytest.CaptureFixture[str]) -> None:
    said = output(capsys, "phi-4", "--gpus", "1", "--price-per-gpu-hour", "2")
    for part in ("14,659,507,200", "DOES NOT FIT", "Assumed", "--mfu", "which cost"):
        assert part in said


def test_wrong_names_and_values_are_sentences(capsys: pytest.CaptureFixture[str]) -> None:
    assert "phi-4-mini" in output(capsys, "phi-9", code=1)
    assert "mfu is 2.0" in output(capsys, "phi-4", "--mfu", "2", code=1)
    assert "h200" in output(capsys, "phi-4", "--gpu", "tpu", code=1)
