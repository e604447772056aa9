"""Every card on the hub's published columns, splits and configurations."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from local_hub import LocalHub
from published import PUBLISHED

from hornbook.errors import HornbookError
from hornbook.evals.benchmarks.card import Card, cards
from hornbook.evals.benchmarks.items import make_items
from hornbook.evals.benchmarks.run import Asking, load_items, run_card
from hornbook.lm.base import Advances, Capabilities, Completion, Failure, Request, Score

HUB = [name for name, card in cards().items() if card.source.hub]
SUN = {"arc-easy", "arc-challenge", "openbookqa", "piqa", "sciq", "simpleqa", "winogrande",
       "nq-open", "triviaqa"}  # fmt: skip
"""Cards whose row asks for what `Sunny` says."""


class Sunny:
    """Says "the sun", and likes it best."""

    identity = "sunny"
    capabilities = Capabilities(can_score=True)

    def complete(
        self, requests: Sequence[Request], *, progress: Advances | None = None
    ) -> list[Completion | Failure]:
        return [Completion(text="the sun")] * len(requests)

    def score(self, pairs: Sequence[tuple[str, str]]) -> list[Score]:
        return [Score(-1.0 if "the sun" in question + end else -9.0, 1) for question, end in pairs]


def of_two_parts(card: Card) -> Card:
    """A data set in many parts, its first two alone: the others are fetched in the same way."""
    return replace(card, source=replace(card.source, configs=card.source.configs[:2]))


def examine(name: str) -> list[Any]:
    """[groups, first score, what the first item was asked] of a card whose rows come from the hub."""
    card = of_two_parts(cards()[name])
    asking = Asking(online=True, shots=card.shots or (1 if card.source.shots_split else 0))
    items = load_items(card, asking)
    result = run_card(card, Sunny(), asking, items=items)
    return [[item.group for item in items], result.scores[0].value, items[0].questions[0]]


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub's client, with the published data sets and nothing else."""

    def load_dataset(name: str, config: str | None, *, split: str, revision: str) -> Any:
        parts = PUBLISHED[name]
        found = next(iter(parts.values())) if config is None and len(parts) == 1 else parts[config or ""]
        return found[split]

    module = ModuleType("datasets")
    module.load_dataset = load_dataset  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "datasets", module)


@pytest.mark.parametrize("name", HUB)
def test_a_card_reads_the_published_columns(name: str, library: None) -> None:
    groups, value, asked = examine(name)
    if name in SUN:
        assert value == 1.0
    assert len(groups) == {"agieval": 2, "anli": 2, "bbh": 2, "ifeval": 3, "math": 2, "wikitext": 2}.get(
        name, 1
    )
    assert "None" not in asked
    assert "{" not in asked.replace("\\boxed{}", "").replace("METADATA = {}", "")


def test_parts_of_a_data_set_are_put_together_and_named(library: None) -> None:
    assert examine("bbh")[0] == ["boolean_expressions", "causal_judgement"]
    assert examine("agieval")[0] == ["aqua-rat", "gaokao-english"]
    assert len(cards()["bbh"].source.configs) == 27
    assert len(cards()["math"].source.configs) == 7
    gone = replace(cards()["agieval"].source, configs=("lsat-ar",))
    with pytest.raises(
        HornbookError, match=r"the split 'test' of .*hails/agieval-lsat-ar could not be fetched"
    ):
        load_items(replace(cards()["agieval"], source=gone), Asking(online=True))


def test_both_layouts_of_agieval_are_asked_alike(library: None) -> None:
    row = {"passage": None, "question": "What is hot?", "options": ["(A)ice", "(B)the sun"], "label": "B",
           "task": "aqua-rat"}  # fmt: skip
    [ours] = make_items(cards()["agieval"], [row])
    card = of_two_parts(cards()["agieval"])
    theirs = load_items(card, Asking(online=True))[0]
    assert (ours.questions, ours.choices, ours.gold) == (theirs.questions, theirs.choices, theirs.gold)


_PROGRAM = """
import json, sys
from dataclasses import replace
from test_hub import HUB, examine, of_two_parts
from hornbook.errors import HornbookError
from hornbook.evals.benchmarks.card import cards
from hornbook.evals.benchmarks.run import Asking, load_items

found = {name: examine(name) for name in HUB}
piqa = cards()["piqa"]
for source in (replace(piqa.source, split="test"), replace(piqa.source, hub="nobody/nothing")):
    try:
        load_items(replace(piqa, source=source), Asking(online=True))
    except HornbookError as error:
        found[source.hub] = str(error)
print(json.dumps(found))
"""


@pytest.mark.oracle
def test_every_card_is_fetched_by_the_hubs_own_client(tmp_path: Path) -> None:
    """From a server on this machine that is shaped like the hub: Parquet files, configurations, revisions."""
    pytest.importorskip("datasets")
    with LocalHub(PUBLISHED) as hub:
        told = subprocess.run(
            [sys.executable, "-c", _PROGRAM],
            env={**os.environ, "HF_ENDPOINT": hub.address, "HF_HOME": str(tmp_path),
                 "PYTHONPATH": os.pathsep.join(sys.path)},
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=False,
        )  # fmt: skip
        fetched = [path for path in hub.asked if path.startswith("GET") and path.endswith(".parquet")]
    assert told.returncode == 0, told.stderr[-3000:]
    found = json.loads(told.stdout.splitlines()[-1])
    assert {name for name in SUN if found[name][1] == 1.0} == SUN
    assert set(HUB) <= set(found)
    assert len(fetched) >= len(HUB)
    assert 'Unknown split "test". Should be one of' in found["baber/piqa"]
    assert "doesn't exist on the Hub or cannot be accessed" in found["nobody/nothing"]
